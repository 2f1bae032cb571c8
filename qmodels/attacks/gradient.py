"""FGSM, BIM, PGD (L-infinity and L2) and MIM: one ascent loop with settings.

The loop lives inside one `tf.function`. It keeps a real-valued iterate, so that steps below one LSB add up, but
asks the victim only about grid points inside the ball; the worst grid point seen is the one returned.

Sources: Goodfellow 2015 arXiv:1412.6572 (FGSM), Kurakin 2017 arXiv:1607.02533 (BIM), Madry 2018 arXiv:1706.06083
(PGD), Dong 2018 arXiv:1710.06081 (MIM).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.base import LEVELS, Attack, Diagnostics, Family, Norm, QueryCounter
from qmodels.attacks.losses import LossName, Tensor, loss_function, margin
from qmodels.errors import UserError
from qmodels.runtime import runtime
from qmodels.victims import GradientVictim, Images, Labels

#: The usual ratio: the iterate can cross the ball 1.25 times.
STEPS_ACROSS = 2.5
BATCH = 500


class GradientAttack(Attack):
    """Gradient ascent inside a ball, with restarts: what all members of the family share."""

    family: ClassVar[Family] = "gradient"

    steps: int = Field(40, ge=1)
    restarts: int = Field(1, ge=1)
    loss: LossName = "ce"
    random_start: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """The kind, with the loss where it is not cross-entropy."""
        return self.kind if self.loss == "ce" else f"{self.kind}({self.loss})"

    def doubled(self) -> GradientAttack:
        """The same attack with twice the iterations: stronger only if this one has not converged."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """The worst grid point of every restart; restarts go on with the images that still stand."""
        epsilon = bounded_epsilon(epsilon_lsb, x, self.norm)
        ascend = self.ascent(gradient_model(victim), epsilon)
        targets = self.targets(victim, x, y)
        best, score = x.copy(), np.full(len(x), -np.inf, np.float32)
        n, zero, broken = max(len(x), 1), 0, 0
        for trial in range(self.restarts * targets.shape[1]):
            start = self.start(x, epsilon, rng)
            target = targets[:, trial % targets.shape[1]]
            for rows in batches(np.flatnonzero(score <= 0) if trial else np.arange(len(x))):
                outcome = ascend(x[rows], start[rows], y[rows], target[rows])
                victim.queries += len(rows) * (self.steps + 1)
                better = outcome.score > score[rows]
                best[rows[better]], score[rows[better]] = outcome.x[better], outcome.score[better]
                if not trial:
                    zero, broken = zero + int(outcome.zero.sum()), broken + int(outcome.non_finite.sum())
        return best, Diagnostics(zero / n, broken / n, self.loss == "ce-probabilities")

    @abstractmethod
    def ascent(self, model: Any, epsilon: float) -> Ascend:
        """The compiled loop with this attack's settings."""

    def targets(self, victim: QueryCounter, x: Images, y: Labels) -> Labels:
        """Target classes (N, trials) for targeted losses; one column of true labels means untargeted."""
        return y[:, None]

    def start(self, x: Images, epsilon: float, rng: np.random.Generator) -> Images:
        """Where the ascent starts: `x`, or a random grid point in the ball."""
        return random_start(x, epsilon, self.norm, rng) if self.random_start else x


class SteppedAttack(GradientAttack):
    """Steps of a fixed length along the sign of the gradient, or in L2 along its direction."""

    step_lsb: float | None = Field(None, gt=0, description="step in LSBs; 2.5 epsilon / steps when left out")

    def step_size(self, epsilon_lsb: float) -> float:
        """Length of one step in LSBs."""
        return self.step_lsb if self.step_lsb is not None else STEPS_ACROSS * epsilon_lsb / self.steps

    def momentum(self) -> float:
        """How much of the accumulated gradient stays; 0 is none."""
        return 0.0

    def ascent(self, model: Any, epsilon: float) -> Ascend:
        """The compiled loop with this attack's settings."""
        loop = compiled_ascent(model, self.loss, self.norm)
        settings = (epsilon, self.step_size(epsilon), self.momentum())
        return lambda x, start, y, target: loop(x, start, y, target, self.steps, *settings)


class FGSM(SteppedAttack):
    """One step of size epsilon along the sign of the gradient."""

    kind: Literal["fgsm"] = "fgsm"
    steps: Literal[1] = 1
    iterative: ClassVar[bool] = False

    def step_size(self, epsilon_lsb: float) -> float:
        """The whole radius, unless set."""
        return self.step_lsb if self.step_lsb is not None else epsilon_lsb


class BIM(SteppedAttack):
    """Iterated FGSM from the clean image."""

    kind: Literal["bim"] = "bim"


class PGD(SteppedAttack):
    """Projected gradient descent from a random point of the L-infinity ball."""

    kind: Literal["pgd-linf"] = "pgd-linf"
    random_start: ClassVar[bool] = True


class PGDL2(SteppedAttack):
    """Projected gradient descent from a random point of the L2 ball, steps along the normalised gradient."""

    kind: Literal["pgd-l2"] = "pgd-l2"
    norm: ClassVar[Norm] = "l2"
    random_start: ClassVar[bool] = True


class MIM(SteppedAttack):
    """BIM with momentum: gradients, each of unit mean magnitude, accumulate with `decay`."""

    kind: Literal["mim"] = "mim"
    decay: float = Field(1.0, ge=0)

    def momentum(self) -> float:
        """The decay factor."""
        return self.decay


class Outcome(NamedTuple):
    """What one ascent of one batch brought back."""

    x: Images
    score: NDArray[np.float32]  # margin of x, lifted above zero where the victim is wrong
    zero: NDArray[np.bool_]  # the first gradient is exactly zero
    non_finite: NDArray[np.bool_]  # some logit or gradient on the way is not finite


Ascend = Callable[[Images, Images, Labels, Labels], Outcome]  # (x, start, y, target)


def batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers in nearly equal parts of at most `BATCH`."""
    return np.array_split(rows, -(-len(rows) // BATCH)) if len(rows) else []


def gradient_model(victim: QueryCounter) -> Any:
    """The Keras model behind the victim.

    Raises:
        UserError: the victim gives outputs only.
    """
    if isinstance(victim.victim, GradientVictim):
        return victim.victim.model
    raise UserError(
        f"victim {victim.name!r} gives no gradients: attack it with square, hopskipjump or another black-box attack, "
        "or make the examples on the quantized model and score them there"
    )


def bounded_epsilon(epsilon_lsb: float, x: Images, norm: Norm) -> float:
    """`epsilon_lsb`, but never more than the whole input cube holds."""
    cube = float(LEVELS - 1)
    if norm == "l2":
        return min(float(epsilon_lsb), cube * float(np.sqrt(x[0].size)) if len(x) else cube)
    return min(float(epsilon_lsb), cube)


def random_start(x: Images, epsilon: float, norm: Norm, rng: np.random.Generator) -> Images:
    """Random points of the ball: grid points for L-infinity; for L2 a uniform direction and volume-uniform radius."""
    if norm == "linf":
        radius = int(epsilon)
        noise = rng.integers(-radius, radius + 1, x.shape).astype(np.float32)
    else:
        noise = rng.standard_normal(x.shape, np.float32)
        flat = noise.reshape(len(x), -1)
        radii = epsilon * rng.random((len(x), 1)) ** (1.0 / flat.shape[1])
        flat *= radii / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return np.clip(x + noise / LEVELS, 0, (LEVELS - 1) / LEVELS).astype(np.float32)


class Ascent:
    """A compiled loop for NumPy arrays: converts to LSBs and back."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def __call__(self, x: Images, start: Images, y: Labels, target: Labels, steps: int, *settings: float) -> Outcome:
        """Ascend from `start` around `x`; `settings` start with the radius in LSBs."""
        tf = runtime().tf
        numbers = [tf.constant(value, tf.float32) for value in settings]
        images = (x * np.float32(LEVELS), start * np.float32(LEVELS), y.astype(np.int64), target.astype(np.int64))
        best, score, zero, finite = (value.numpy() for value in self._loop(*images, tf.constant(steps), *numbers))
        return Outcome((best / LEVELS).astype(np.float32), score, zero, ~finite)


@lru_cache(maxsize=32)
def compiled_ascent(model: Any, loss: LossName, norm: Norm) -> Ascent:
    """The ascent of a model: tracing takes a second, so recent ones are kept. Weights are read anew in each call."""
    return Ascent(_build_loop(model, loss, norm))


@lru_cache(maxsize=16)
def compiled_gradient(model: Any, loss: LossName) -> Callable[[Images, Labels], NDArray[np.float64]]:
    """(x, y) -> gradient of the loss per LSB; not-finite values become zero."""
    tf, look = runtime().tf, looker(model, loss)
    graph = tf.function(lambda point, y: look(point, y, y)[0], reduce_retracing=True)

    def gradient(x: Images, y: Labels) -> NDArray[np.float64]:
        found = graph(tf.constant(x * np.float32(LEVELS)), tf.constant(y.astype(np.int64)))
        return np.asarray(found.numpy(), np.float64)

    return gradient


class Ball(NamedTuple):
    """Geometry of one norm, in LSBs, as TensorFlow functions."""

    towards: Callable[[Tensor], Tensor]  # gradient -> direction of a step of length one
    onto: Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, clean, epsilon) -> x in the ball and in the cube
    to_grid: Callable[[Tensor, Tensor, Tensor], Tensor]  # the same, on whole LSBs


def ball_of(norm: Norm) -> Ball:
    """The ball of that norm."""
    return Ball(_sign, _clip_linf, _round_linf) if norm == "linf" else Ball(_unit, _clip_l2, _round_l2)


def _build_loop(model: Any, loss: LossName, norm: Norm) -> Any:
    """The ascent as one TensorFlow graph, in LSBs."""
    tf = runtime().tf
    ball, look = ball_of(norm), looker(model, loss)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def ascend(
        clean: Tensor, start: Tensor, y: Tensor, target: Tensor, steps: Tensor, *settings: Tensor
    ) -> tuple[Tensor, ...]:
        epsilon, step, decay = settings
        iterate = ball.onto(start, clean, epsilon)
        best = ball.to_grid(iterate, clean, epsilon)
        gradient, _, best_score, finite = look(best, y, target)
        zero, momentum = is_zero(gradient), tf.zeros_like(clean)
        for _ in tf.range(steps - 1):
            momentum = decay * momentum + tf.where(decay > 0, _unit_l1(gradient), gradient)
            iterate = ball.onto(iterate + step * ball.towards(momentum), clean, epsilon)
            point = ball.to_grid(iterate, clean, epsilon)
            gradient, _, score, fine = look(point, y, target)
            best, best_score, finite = (
                keep_better(point, score, best, best_score),
                tf.maximum(score, best_score),
                finite & fine,
            )
        # Nobody needs the gradient of the last point.
        momentum = decay * momentum + tf.where(decay > 0, _unit_l1(gradient), gradient)
        point = ball.to_grid(ball.onto(iterate + step * ball.towards(momentum), clean, epsilon), clean, epsilon)
        score = score_of(model(point / LEVELS, training=False), y)
        return keep_better(point, score, best, best_score), tf.maximum(score, best_score), zero, finite

    return ascend


def looker(model: Any, loss: LossName) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(point in LSBs, y, target) -> (gradient, loss, score, everything finite), per image."""
    tf = runtime().tf
    loss_of = loss_function(loss)

    def look(point: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(point)
            logits = model(point / LEVELS, training=False)
            losses = loss_of(logits, y, target)
        gradient = tape.gradient(losses, point)
        finite = all_finite(logits) & all_finite(gradient)
        return tf.where(tf.math.is_finite(gradient), gradient, 0.0), losses, score_of(logits, y), finite

    return look


def score_of(logits: Tensor, y: Tensor) -> Tensor:
    """The margin, a hair above zero where a tie already goes to a wrong class; minus infinity for NaN."""
    tf = runtime().tf
    wrong = tf.cast(tf.argmax(logits, axis=1) != tf.cast(y, tf.int64), logits.dtype)
    return tf.where(all_finite(logits), margin(logits, y) + 1e-6 * wrong, tf.constant(-np.inf, logits.dtype))


def keep_better(point: Tensor, score: Tensor, best: Tensor, best_score: Tensor) -> Tensor:
    """Per image, the point with the higher score."""
    return runtime().tf.where(wide(score > best_score, best), point, best)


def all_finite(x: Tensor) -> Tensor:
    """(N, ...) -> (N,): no NaN or infinity in the sample."""
    return runtime().tf.reduce_all(runtime().tf.math.is_finite(_flat(x)), axis=1)


def is_zero(gradient: Tensor) -> Tensor:
    """(N, ...) -> (N,): every component exactly zero."""
    return runtime().tf.reduce_all(runtime().tf.equal(_flat(gradient), 0.0), axis=1)


def wide(per_sample: Tensor, like: Tensor) -> Tensor:
    """Shape (N,) to (N, 1, ...), to broadcast against images."""
    return runtime().tf.reshape(per_sample, [-1] + [1] * (len(like.shape) - 1))


def _flat(x: Tensor) -> Tensor:
    return runtime().tf.reshape(x, [runtime().tf.shape(x)[0], -1])


def _norm(x: Tensor) -> Tensor:
    return wide(runtime().tf.norm(_flat(x), axis=1), x)


def _sign(gradient: Tensor) -> Tensor:
    return runtime().tf.sign(gradient)


def _unit(gradient: Tensor) -> Tensor:
    return gradient / (_norm(gradient) + 1e-30)


def _unit_l1(gradient: Tensor) -> Tensor:
    tf = runtime().tf
    return gradient / (wide(tf.reduce_mean(tf.abs(_flat(gradient)), axis=1), gradient) + 1e-30)


def _clip_linf(x: Tensor, clean: Tensor, epsilon: Tensor) -> Tensor:
    tf = runtime().tf
    return tf.clip_by_value(tf.clip_by_value(x, clean - epsilon, clean + epsilon), 0.0, LEVELS - 1.0)


def _clip_l2(x: Tensor, clean: Tensor, epsilon: Tensor) -> Tensor:
    tf = runtime().tf
    delta = tf.clip_by_value(x, 0.0, LEVELS - 1.0) - clean
    return clean + delta * tf.minimum(1.0, epsilon / (_norm(delta) + 1e-30))


def _round_linf(x: Tensor, clean: Tensor, epsilon: Tensor) -> Tensor:
    """The nearest grid point that is not farther out than the whole LSBs of epsilon."""
    tf = runtime().tf
    whole = tf.floor(epsilon)
    return tf.clip_by_value(tf.round(x), clean - whole, clean + whole)


def _round_l2(x: Tensor, clean: Tensor, epsilon: Tensor) -> Tensor:
    """The nearest grid point, or where that leaves the ball, the one rounded towards `clean`."""
    tf = runtime().tf
    nearest, inward = tf.round(x - clean), tf.cast(tf.cast(x - clean, tf.int32), x.dtype)
    return clean + tf.where(_norm(nearest) <= epsilon, nearest, inward)
