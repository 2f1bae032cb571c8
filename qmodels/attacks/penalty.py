"""CW-L2, CW-Linf and EAD: the shortest change, found by trading its length against the margin.

Images are batched; every tenth of the iterations those that have stopped improving leave the batch. The optimiser's
iterate is real, but success is judged on the grid, and the shortest grid example is returned.

Sources: Carlini & Wagner 2017 arXiv:1608.04644, Chen 2018 arXiv:1709.04114 (EAD).
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.base import LEVELS, Attack, Diagnostics, Family, Norm, QueryCounter
from qmodels.attacks.gradient import batches, gradient_model, is_zero, score_of, wide
from qmodels.attacks.losses import Tensor, margin
from qmodels.runtime import runtime
from qmodels.victims import Images, Labels

CHECKS = 10  # times per run at which images that have stopped improving are dropped
STALLED = 0.9999  # relative improvement of the objective below which an image has stopped
LARGEST_WEIGHT = 1e10
#: tanh of the largest w: black and white pixels are moved in by less than half an LSB, so that their gradient lives.
EDGE = 0.997
Penalty = Literal["l2", "linf", "elastic"]


class Found(NamedTuple):
    """Per image: the shortest wrong grid point seen, its length (infinite: none), whether the gradient was zero."""

    x: Images
    length: NDArray[np.float64]
    zero: NDArray[np.bool_]


class PenaltyAttack(Attack):
    """Minimises length + c * hinge(margin); the search for c differs."""

    family: ClassVar[Family] = "minimal-norm"
    penalty: ClassVar[Penalty]

    steps: int = Field(1000, ge=1)
    rate: float = Field(5e-3, gt=0, description="step of the optimiser, for inputs scaled to [0, 1]")
    initial_weight: float = Field(0.01, gt=0, description="first weight c of the margin")
    confidence: float = Field(0.0, ge=0)

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """The shortest wrong grid point of every image; the clean image where none was found."""
        model, best = gradient_model(victim), x.copy()
        zero = 0
        for rows in batches(np.arange(len(x))):
            found = self.shortest(Minimiser(self, model, victim), x[rows], y[rows])
            best[rows] = np.where(np.isfinite(found.length).reshape((-1,) + (1,) * (x.ndim - 1)), found.x, x[rows])
            zero += int(found.zero.sum())
        return best, Diagnostics(zero / max(len(x), 1))

    @abstractmethod
    def shortest(self, minimiser: Minimiser, x: Images, y: Labels) -> Found:
        """Search over the weight c."""


class CWL2(PenaltyAttack):
    """Carlini-Wagner, L2: binary search over c."""

    kind: Literal["cw-l2"] = "cw-l2"
    norm: ClassVar[Norm] = "l2"
    penalty: ClassVar[Penalty] = "l2"
    binary_steps: int = Field(5, ge=1)

    def shortest(self, minimiser: Minimiser, x: Images, y: Labels) -> Found:
        """Raise c tenfold until an image falls, then halve the interval."""
        low: NDArray[np.float64] = np.zeros(len(x))
        high: NDArray[np.float64] = np.full(len(x), LARGEST_WEIGHT)
        weight: NDArray[np.float64] = np.full(len(x), self.initial_weight)
        best: Found | None = None
        for _ in range(self.binary_steps):
            found = minimiser(x, y, weight, np.zeros(len(x)))
            fell = np.isfinite(found.length)
            low, high = np.where(fell, low, weight), np.where(fell, weight, high)
            weight = np.where(high < LARGEST_WEIGHT, (low + high) / 2, weight * 10)
            best = found if best is None else shorter(best, found)
        assert best is not None  # binary_steps >= 1
        return best


class EAD(CWL2):
    """Elastic-net attack: CW with an L1 term, by iterative soft thresholding. Few pixels change."""

    kind: Literal["ead"] = "ead"  # type: ignore[assignment]
    norm: ClassVar[Norm] = "l1"
    penalty: ClassVar[Penalty] = "elastic"
    rate: float = Field(1e-2, gt=0)
    beta: float = Field(1e-3, ge=0, description="weight of the L1 term, for inputs scaled to [0, 1]")


class CWLinf(PenaltyAttack):
    """Carlini-Wagner, L-infinity: punishes change beyond a bound, and lowers the bound as long as that works."""

    kind: Literal["cw-linf"] = "cw-linf"
    norm: ClassVar[Norm] = "linf"
    penalty: ClassVar[Penalty] = "linf"
    steps: int = Field(100, ge=1)
    rate: float = Field(5e-2, gt=0)
    initial_weight: float = Field(0.1, gt=0)
    rounds: int = Field(20, ge=1)
    shrink: float = Field(0.8, gt=0, lt=1, description="the bound after a success, as a share of the change found")

    def shortest(self, minimiser: Minimiser, x: Images, y: Labels) -> Found:
        """Images that fall get a smaller bound, the others a larger c; three failures after a success end it."""
        bound, weight = np.full(len(x), float(LEVELS)), np.full(len(x), self.initial_weight)
        failures = np.zeros(len(x), np.int64)
        best = Found(x.copy(), np.full(len(x), np.inf), np.zeros(len(x), bool))
        for turn in range(self.rounds):
            rows = np.flatnonzero(((failures < 3) | np.isinf(best.length)) & (weight < LARGEST_WEIGHT))
            if not len(rows):
                break
            found = minimiser(x[rows], y[rows], weight[rows], bound[rows])
            better = found.length < best.length[rows]
            if turn == 0:
                best.zero[:] = found.zero
            best.x[rows[better]], best.length[rows[better]] = found.x[better], found.length[better]
            failures[rows] = np.where(better, 0, failures[rows] + 1)
            weight[rows] = np.where(better, weight[rows], weight[rows] * 10)
            bound[rows] = np.where(better, np.floor(self.shrink * found.length), bound[rows])
        return best


def shorter(a: Found, b: Found) -> Found:
    """The shorter of two results, per image; zero gradients as the first one saw them."""
    nearer = b.length < a.length
    return Found(
        np.where(nearer.reshape((-1,) + (1,) * (a.x.ndim - 1)), b.x, a.x), np.minimum(a.length, b.length), a.zero
    )


class Minimiser:
    """One optimisation at given weights, in chunks, with images leaving the batch when they stall."""

    def __init__(self, attack: PenaltyAttack, model: Any, victim: QueryCounter) -> None:
        self.attack, self.victim = attack, victim
        build = compiled_ista if attack.penalty == "elastic" else compiled_adam
        self.chunk = build(model, attack.penalty)
        self.beta = attack.beta if isinstance(attack, EAD) else 0.0

    def __call__(self, x: Images, y: Labels, weight: NDArray[np.float64], bound: NDArray[np.float64]) -> Found:
        """The shortest wrong grid points; `bound` is where CW-Linf starts to punish, in LSBs."""
        tf = runtime().tf
        count = len(x)
        best = Found(x.copy(), np.full(count, np.inf), np.zeros(count, bool))
        previous = np.full(count, np.inf)
        rows = np.arange(count)
        state = [np.zeros_like(x)] * 3
        size = max(1, self.attack.steps // CHECKS)
        for done in range(0, self.attack.steps, size):
            steps = min(size, self.attack.steps - done)
            numbers = (self.attack.rate, self.attack.confidence, self.beta)
            per_image = (a[rows].astype(np.float32) for a in (weight, bound))
            outcome = self.chunk(
                x[rows], y[rows].astype(np.int64), *per_image, *(tf.constant(v, tf.float32) for v in numbers),
                tf.constant(done), tf.constant(steps), *state,
            )  # fmt: skip
            point, length, objective, zero, *state = (value.numpy() for value in outcome)
            self.victim.queries += len(rows) * steps
            nearer = length < best.length[rows]
            best.x[rows[nearer]], best.length[rows[nearer]] = point[nearer], length[nearer]
            if not done:
                best.zero[:] = zero
            moving = objective < previous[rows] * STALLED
            previous[rows] = objective
            rows, state = rows[moving], [value[moving] for value in state]
            if not len(rows):
                break
        return best


@lru_cache(maxsize=16)
def compiled_adam(model: Any, penalty: Penalty) -> Any:
    """Adam on w with x = (tanh w + 1) / 2, so that the cube needs no clipping."""
    tf = runtime().tf
    top = (LEVELS - 1) / LEVELS

    def cost_of(x: Tensor, clean: Tensor, bound: Tensor) -> Tensor:
        change = tf.reshape(x - clean, [tf.shape(x)[0], -1])
        if penalty == "l2":
            return tf.reduce_sum(change**2, axis=1)
        return tf.reduce_sum(tf.nn.relu(tf.abs(change) - bound[:, None] / LEVELS), axis=1)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def chunk(
        clean: Tensor, y: Tensor, weight: Tensor, bound: Tensor, rate: Tensor, confidence: Tensor, _beta: Tensor,
        done: Tensor, steps: Tensor, shift: Tensor, first: Tensor, second: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        origin = tf.atanh(tf.clip_by_value(2.0 * clean / top - 1.0, -EDGE, EDGE))
        best, best_length = clean, tf.fill(tf.shape(weight), tf.constant(np.inf))
        objective, zero = tf.zeros_like(weight), tf.zeros_like(weight, tf.bool)
        for index in tf.range(steps):
            with tf.GradientTape() as tape:
                tape.watch(shift)
                x = top * (tf.tanh(origin + shift) + 1.0) / 2.0
                point = _to_grid(x)
                logits = model(point, training=False)
                hinge = tf.nn.relu(confidence - margin(logits, y))
                objective = cost_of(x, clean, bound) + weight * hinge
            gradient = tape.gradient(objective, shift)
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            best, best_length = _keep_shorter(point, clean, score_of(logits, y), penalty, best, best_length)
            if done + index == 0:
                zero = is_zero(gradient)
            time = tf.cast(done + index + 1, tf.float32)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            step = first / (1.0 - 0.9**time) / (tf.sqrt(second / (1.0 - 0.999**time)) + 1e-8)
            shift = shift - rate * step
        return best, best_length, objective, zero, shift, first, second

    return chunk


@lru_cache(maxsize=16)
def compiled_ista(model: Any, penalty: Penalty) -> Any:
    """Accelerated soft thresholding (FISTA) with a step that decays with the square root of what is left."""
    tf = runtime().tf
    top = (LEVELS - 1) / LEVELS

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def chunk(
        clean: Tensor, y: Tensor, weight: Tensor, _bound: Tensor, rate: Tensor, confidence: Tensor, beta: Tensor,
        done: Tensor, steps: Tensor, ahead: Tensor, change: Tensor, unused: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        best, best_length = clean, tf.fill(tf.shape(weight), tf.constant(np.inf))
        objective, zero = tf.zeros_like(weight), tf.zeros_like(weight, tf.bool)
        for index in tf.range(steps):
            with tf.GradientTape() as tape:
                tape.watch(ahead)
                logits = model(_to_grid(clean + ahead), training=False)
                hinge = tf.nn.relu(confidence - margin(logits, y))
                squares = tf.reduce_sum(tf.reshape(ahead, [tf.shape(ahead)[0], -1]) ** 2, axis=1)
                objective = squares + weight * hinge
            gradient = tape.gradient(objective, ahead)
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            time = tf.cast(done + index, tf.float32)
            if done + index == 0:
                zero = is_zero(gradient)
            moved = ahead - rate * gradient
            fresh = tf.sign(moved) * tf.nn.relu(tf.abs(moved) - beta)
            fresh = tf.clip_by_value(clean + fresh, 0.0, top) - clean
            ahead, change = fresh + time / (time + 3.0) * (fresh - change), fresh
            point = _to_grid(clean + fresh)
            score = score_of(model(point, training=False), y)
            best, best_length = _keep_shorter(point, clean, score, penalty, best, best_length)
        return best, best_length, objective, zero, ahead, change, unused

    return chunk


def _to_grid(x: Tensor) -> Tensor:
    """The nearest grid point, with a straight-through gradient."""
    tf = runtime().tf
    rounded = tf.clip_by_value(tf.round(x * LEVELS), 0.0, LEVELS - 1.0) / LEVELS
    return x + tf.stop_gradient(rounded - x)


def _keep_shorter(
    point: Tensor, clean: Tensor, score: Tensor, penalty: Penalty, best: Tensor, best_length: Tensor
) -> tuple[Tensor, Tensor]:
    """The shorter of two wrong points, lengths in LSBs: L2, L-infinity, or L1 for the elastic net."""
    tf = runtime().tf
    change = tf.abs(tf.reshape(tf.round((point - clean) * LEVELS), [tf.shape(clean)[0], -1]))
    if penalty == "l2":
        length = tf.norm(change, axis=1)
    else:
        length = tf.reduce_max(change, axis=1) if penalty == "linf" else tf.reduce_sum(change, axis=1)
    shorter_here = (score > 0) & (length < best_length)
    return tf.where(wide(shorter_here, clean), point, best), tf.where(shorter_here, length, best_length)
