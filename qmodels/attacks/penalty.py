"""CW-L2, CW-Linf and EAD: the shortest change, found by trading its length against the margin.

Images are batched; every tenth of the iterations those that have stopped improving leave the batch. The optimiser's
iterate is real, but success is judged on the grid, and the shortest grid example is returned.

Sources: Carlini & Wagner 2017 arXiv:1608.04644, Chen 2018 arXiv:1709.04114 (EAD).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball, Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Problem
from qmodels.attacks.gradient import batches, is_zero, wide
from qmodels.criteria import Criterion, Truth
from qmodels.grid import Codes, Points
from qmodels.losses import Tensor
from qmodels.runtime import runtime
from qmodels.tracing import Traced, repeated
from qmodels.victims import GradientModel

CHECKS = 10  # times per run at which images that have stopped improving are dropped
STALLED = 0.9999  # relative improvement of the objective below which an image has stopped
LARGEST_WEIGHT = 1e10
#: tanh of the largest w: black and white pixels are moved in by less than half an LSB, so that their gradient lives.
EDGE = 0.997
Penalty = Literal["l2", "linf", "elastic"]


class Found(NamedTuple):
    """Per image: the shortest wrong grid point seen, its length (infinite: none), whether the gradient was zero."""

    x: Codes
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

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """The shortest wrong grid point of every image; the clean image where none was found."""
        minimiser = Minimiser(self, problem)
        ball, best, zero = problem.ball, problem.clean.copy(), 0
        for rows in batches(np.arange(len(ball))):
            found = self.shortest(minimiser, ball.take(rows), problem.y[rows])
            fell = np.isfinite(found.length)
            best[rows[fell]] = found.x[fell]
            zero += int(found.zero.sum())
        return best, Diagnostics(zero / max(len(ball), 1))

    @abstractmethod
    def shortest(self, minimiser: Minimiser, ball: Ball, y: Truth) -> Found:
        """Search over the weight c."""


class CWL2(PenaltyAttack):
    """Carlini-Wagner, L2: binary search over c."""

    kind: ClassVar[str] = "cw-l2"
    norm: ClassVar[Norm] = "l2"
    penalty: ClassVar[Penalty] = "l2"
    binary_steps: int = Field(5, ge=1)

    def shortest(self, minimiser: Minimiser, ball: Ball, y: Truth) -> Found:
        """Raise c tenfold until an image falls, then halve the interval."""
        count = len(ball)
        low: NDArray[np.float64] = np.zeros(count)
        high: NDArray[np.float64] = np.full(count, LARGEST_WEIGHT)
        weight: NDArray[np.float64] = np.full(count, self.initial_weight)
        best: Found | None = None
        for _ in range(self.binary_steps):
            found = minimiser(ball, y, weight, np.zeros(count))
            fell = np.isfinite(found.length)
            low, high = np.where(fell, low, weight), np.where(fell, weight, high)
            weight = np.where(high < LARGEST_WEIGHT, (low + high) / 2, weight * 10)
            best = found if best is None else shorter(best, found)
        assert best is not None  # binary_steps >= 1
        return best


class EAD(CWL2):
    """Elastic-net attack: CW with an L1 term, by iterative soft thresholding. Few pixels change."""

    kind: ClassVar[str] = "ead"
    norm: ClassVar[Norm] = "l1"
    penalty: ClassVar[Penalty] = "elastic"
    rate: float = Field(1e-2, gt=0)
    beta: float = Field(1e-3, ge=0, description="weight of the L1 term, for inputs scaled to [0, 1]")


class CWLinf(PenaltyAttack):
    """Carlini-Wagner, L-infinity: punishes change beyond a bound, and lowers the bound as long as that works."""

    kind: ClassVar[str] = "cw-linf"
    norm: ClassVar[Norm] = "linf"
    penalty: ClassVar[Penalty] = "linf"
    steps: int = Field(100, ge=1)
    rate: float = Field(5e-2, gt=0)
    initial_weight: float = Field(0.1, gt=0)
    rounds: int = Field(20, ge=1)
    shrink: float = Field(0.8, gt=0, lt=1, description="the bound after a success, as a share of the change found")

    def shortest(self, minimiser: Minimiser, ball: Ball, y: Truth) -> Found:
        """Images that fall get a smaller bound, the others a larger c; three failures after a success end it."""
        count = len(ball)
        bound, weight = np.full(count, float(ball.grid.span)), np.full(count, self.initial_weight)
        failures = np.zeros(count, np.int64)
        best = Found(ball.clean.copy(), np.full(count, np.inf), np.zeros(count, bool))
        for turn in range(self.rounds):
            rows = np.flatnonzero(((failures < 3) | np.isinf(best.length)) & (weight < LARGEST_WEIGHT))
            if not len(rows):
                break
            found = minimiser(ball.take(rows), y[rows], weight[rows], bound[rows])
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

    def __init__(self, attack: PenaltyAttack, problem: Problem) -> None:
        self.attack, self.problem = attack, problem
        build = _build_ista if attack.penalty == "elastic" else _build_adam
        key = ("penalty", attack.penalty, problem.criterion)
        self.chunk = problem.gradient_model.compiled(key, lambda model: build(model, attack.penalty, problem.criterion))
        self.beta = attack.beta if isinstance(attack, EAD) else 0.0

    def __call__(self, ball: Ball, y: Truth, weight: NDArray[np.float64], bound: NDArray[np.float64]) -> Found:
        """The shortest wrong grid points; `bound` is where CW-Linf starts to punish, in grid steps."""
        tf = runtime().tf
        count, x = len(ball), ball.clean
        unit = np.float32(1.0 / ball.grid.scale)  # the optimiser works on shares of the range
        scaled = [part.astype(np.float32) * unit for part in (x, *ball.cube)]
        best = Found(x.copy(), np.full(count, np.inf), np.zeros(count, bool))
        previous = np.full(count, np.inf)
        rows = np.arange(count)
        state = [np.zeros_like(scaled[0])] * 3
        size = max(1, self.attack.steps // CHECKS)
        for done in range(0, self.attack.steps, size):
            steps = min(size, self.attack.steps - done)
            numbers = (self.attack.rate, self.attack.confidence, self.beta)
            per_image = (a[rows].astype(np.float32) for a in (weight, bound * unit))
            found = self.chunk(
                Bounds(*(part[rows] for part in scaled)), y[rows], *per_image,
                *(tf.constant(v, tf.float32) for v in numbers), tf.constant(done), tf.constant(steps), *state,
            )  # fmt: skip
            point, length, objective, zero, *state = (value.numpy() for value in found)
            self.problem.count(len(rows) * steps)
            nearer = length < best.length[rows]
            best.x[rows[nearer]], best.length[rows[nearer]] = np.rint(point[nearer]), length[nearer]
            if not done:
                best.zero[:] = zero
            moving = objective < previous[rows] * STALLED
            previous[rows] = objective
            rows, state = rows[moving], [value[moving] for value in state]
            if not len(rows):
                break
        return best


class Bounds(NamedTuple):
    """Clean images and the lowest and highest values of every feature, as shares of the range."""

    clean: Tensor
    low: Tensor
    high: Tensor


def _build_adam(source: GradientModel, penalty: Penalty, criterion: Criterion) -> Any:
    """Adam on w with x = low + (high - low) (tanh w + 1) / 2, so that the cube needs no clipping."""
    tf = runtime().tf
    grid_of, climb = _Scaled(source), criterion.loss("margin")

    def cost_of(x: Tensor, clean: Tensor, bound: Tensor) -> Tensor:
        change = tf.reshape(x - clean, [tf.shape(x)[0], -1])
        if penalty == "l2":
            return tf.reduce_sum(change**2, axis=1)
        return tf.reduce_sum(tf.nn.relu(tf.abs(change) - bound[:, None]), axis=1)

    def chunk(
        bounds: Bounds, y: Tensor, weight: Tensor, bound: Tensor, rate: Tensor, confidence: Tensor, _beta: Tensor,
        done: Tensor, steps: Tensor, shift: Tensor, first: Tensor, second: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        clean, width = bounds.clean, bounds.high - bounds.low
        free = width > 0
        share = tf.where(free, 2.0 * (clean - bounds.low) / tf.where(free, width, 1.0) - 1.0, 0.0)
        origin = tf.atanh(tf.clip_by_value(share, -EDGE, EDGE))
        at_clean = grid_of.steps(clean)

        def step(
            index: Tensor, best: Tensor, best_length: Tensor, _: Tensor, zero: Tensor, shift: Tensor, first: Tensor,
            second: Tensor,
        ) -> tuple[Tensor, ...]:  # fmt: skip
            with tf.GradientTape() as tape:
                tape.watch(shift)
                x = bounds.low + width * (tf.tanh(origin + shift) + 1.0) / 2.0
                point = grid_of.nearest(x, bounds)
                logits = source.outputs(point)
                hinge = tf.nn.relu(confidence - climb(logits, y, y))
                objective = cost_of(x, clean, bound) + weight * hinge
            gradient = tape.gradient(objective, shift)
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            score = criterion.score(logits, y)
            best, best_length = _keep_shorter(point, at_clean, score, penalty, best, best_length)
            zero = _first_zero(done + index, gradient, hinge, zero)
            time = tf.cast(done + index + 1, tf.float32)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            ahead = first / (1.0 - 0.9**time) / (tf.sqrt(second / (1.0 - 0.999**time)) + 1e-8)
            return best, best_length, objective, zero, shift - rate * ahead, first, second

        return repeated(0, steps, step, (*_nothing_found(at_clean, weight), shift, first, second))

    return Traced(chunk)


def _build_ista(source: GradientModel, penalty: Penalty, criterion: Criterion) -> Any:
    """Accelerated soft thresholding (FISTA) with a step that decays with the square root of what is left."""
    tf = runtime().tf
    grid_of, climb = _Scaled(source), criterion.loss("margin")

    def chunk(
        bounds: Bounds, y: Tensor, weight: Tensor, _bound: Tensor, rate: Tensor, confidence: Tensor, beta: Tensor,
        done: Tensor, steps: Tensor, ahead: Tensor, change: Tensor, unused: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        clean = bounds.clean
        at_clean = grid_of.steps(clean)

        def step(
            index: Tensor, best: Tensor, best_length: Tensor, _: Tensor, zero: Tensor, ahead: Tensor, change: Tensor
        ) -> tuple[Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(ahead)
                logits = source.outputs(grid_of.nearest(clean + ahead, bounds))
                hinge = tf.nn.relu(confidence - climb(logits, y, y))
                squares = tf.reduce_sum(tf.reshape(ahead, [tf.shape(ahead)[0], -1]) ** 2, axis=1)
                objective = squares + weight * hinge
            gradient = tape.gradient(objective, ahead)
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            time = tf.cast(done + index, tf.float32)
            zero = _first_zero(done + index, gradient, hinge, zero)
            moved = ahead - rate * gradient
            fresh = tf.sign(moved) * tf.nn.relu(tf.abs(moved) - beta)
            fresh = tf.clip_by_value(clean + fresh, bounds.low, bounds.high) - clean
            ahead, change = fresh + time / (time + 3.0) * (fresh - change), fresh
            point = grid_of.nearest(clean + fresh, bounds)
            score = criterion.score(source.answers(point), y)
            best, best_length = _keep_shorter(point, at_clean, score, penalty, best, best_length)
            return best, best_length, objective, zero, ahead, change

        return *repeated(0, steps, step, (*_nothing_found(at_clean, weight), ahead, change)), unused

    return Traced(chunk)


def _nothing_found(clean: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Before the first step: best point, its length, objective, and where the first gradient is zero."""
    tf = runtime().tf
    return clean, tf.fill(tf.shape(weight), tf.constant(np.inf)), tf.zeros_like(weight), tf.zeros_like(weight, tf.bool)


def _first_zero(index: Tensor, gradient: Tensor, hinge: Tensor, zero: Tensor) -> Tensor:
    """Where the gradient is zero in the first step of all; one that has fallen has nothing to follow."""
    return runtime().tf.cond(index == 0, lambda: is_zero(gradient) & (hinge > 0), lambda: zero)


class _Scaled:
    """From shares of the range to grid steps."""

    def __init__(self, source: GradientModel) -> None:
        self.scale = source.grid.scale

    def steps(self, x: Tensor) -> Tensor:
        """Grid steps, not rounded."""
        return x * self.scale

    def nearest(self, x: Tensor, bounds: Bounds) -> Tensor:
        """The nearest grid point, in steps, with a straight-through gradient."""
        tf = runtime().tf
        steps = x * self.scale
        rounded = tf.clip_by_value(
            tf.round(steps), tf.round(bounds.low * self.scale), tf.round(bounds.high * self.scale)
        )
        return steps + tf.stop_gradient(rounded - steps)


def _keep_shorter(
    point: Tensor, clean: Tensor, score: Tensor, penalty: Penalty, best: Tensor, best_length: Tensor
) -> tuple[Tensor, Tensor]:
    """The shorter of two wrong points, in grid steps: L2, L-infinity, or L1 for the elastic net."""
    tf = runtime().tf
    change = tf.abs(tf.reshape(tf.round(point - clean), [tf.shape(clean)[0], -1]))
    if penalty == "l2":
        length = tf.norm(change, axis=1)
    else:
        length = tf.reduce_max(change, axis=1) if penalty == "linf" else tf.reduce_sum(change, axis=1)
    shorter_here = (score > 0) & (length < best_length)
    return tf.where(wide(shorter_here, clean), point, best), tf.where(shorter_here, length, best_length)
