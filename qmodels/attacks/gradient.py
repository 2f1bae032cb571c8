"""FGSM, BIM, PGD (L-infinity and L2) and MIM: one ascent loop with settings.

The loop is compiled by TensorFlow (`ascent.py` runs it). It keeps a real-valued iterate, so that steps below one LSB
add up, but asks the victim only about grid points inside the ball; the worst grid point seen is the one returned.

Sources: Goodfellow 2015 arXiv:1412.6572 (FGSM), Kurakin 2017 arXiv:1607.02533 (BIM), Madry 2018 arXiv:1706.06083
(PGD), Dong 2018 arXiv:1710.06081 (MIM).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ascent import Ascended, Ascent, Judge, Room, Seen
from qmodels.attacks.ball import Ball, Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Problem
from qmodels.attacks.engine import engine_ascent
from qmodels.criteria import MISCLASSIFICATION, Criterion, Truth
from qmodels.grid import Codes, Points
from qmodels.losses import LossName, Tensor, all_finite
from qmodels.runtime import runtime
from qmodels.tracing import Traced, repeated
from qmodels.victims import GradientModel

#: The usual ratio: the iterate can cross the ball 1.25 times.
STEPS_ACROSS = 2.5
BATCH = 500
ENGINE_BATCH = 1000  # an engine takes few samples at a time in any case; what is around it is done less often


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

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """The worst grid point of every restart; restarts go on with the images that still stand."""
        ball, x, y = problem.ball, problem.clean, problem.y
        ascend = self.ascent(problem.gradient_model, problem.criterion, ball.radius)
        targets = self.targets(problem)
        best, score = x.copy(), np.full(len(x), -np.inf, np.float32)
        n, zero, broken = max(len(x), 1), 0, 0
        size = BATCH if problem.gradient_model.engine is None else ENGINE_BATCH
        for trial in range(self.restarts * targets.shape[1]):
            start = self.start(ball, rng)
            if problem.begin is not None and not trial:
                start = problem.begin.astype(np.float32)
            target = targets[:, trial % targets.shape[1]]
            for rows in batches(np.flatnonzero(score <= 0) if trial else np.arange(len(x)), size):
                judge = None if problem.for_others else _judge(problem, rows)
                found = ascend(ball.take(rows), start[rows], y[rows], target[rows], judge)
                problem.count(found.looks)
                better = found.score > score[rows]
                best[rows[better]], score[rows[better]] = found.x[better], found.score[better]
                if not trial:
                    zero, broken = zero + int(found.zero.sum()), broken + int(found.non_finite.sum())
        return best, Diagnostics(zero / n, broken / n, self.loss == "ce-probabilities")

    @abstractmethod
    def ascent(self, source: GradientModel, criterion: Criterion, epsilon: float) -> Ascend:
        """The compiled loop with this attack's settings."""

    def targets(self, problem: Problem) -> Truth:
        """Target classes (N, trials) for targeted losses; one column of true labels means untargeted."""
        return problem.y[:, None]

    def start(self, ball: Ball, rng: np.random.Generator) -> Points:
        """Where the ascent starts: the clean inputs, or random points of the ball."""
        return ball.random(rng) if self.random_start else ball.clean


class SteppedAttack(GradientAttack):
    """Steps of a fixed length along the sign of the gradient, or in L2 along its direction."""

    step_lsb: float | None = Field(None, gt=0, description="step in LSBs; 2.5 epsilon / steps when left out")

    def step_size(self, epsilon_lsb: float) -> float:
        """Length of one step in LSBs."""
        return self.step_lsb if self.step_lsb is not None else STEPS_ACROSS * epsilon_lsb / self.steps

    def momentum(self) -> float:
        """How much of the accumulated gradient stays; 0 is none."""
        return 0.0

    def ascent(self, source: GradientModel, criterion: Criterion, epsilon: float) -> Ascend:
        """The compiled loop with this attack's settings."""
        loop = compiled_ascent(source, self.loss, self.norm, criterion)
        settings = (epsilon, self.step_size(epsilon), self.momentum())
        return lambda ball, start, y, target, judge: loop(ball, start, y, target, self.steps, *settings, judge=judge)


class FGSM(SteppedAttack):
    """One step of size epsilon along the sign of the gradient."""

    kind: ClassVar[str] = "fgsm"
    steps: Literal[1] = 1
    iterative: ClassVar[bool] = False

    def step_size(self, epsilon_lsb: float) -> float:
        """The whole radius, unless set."""
        return self.step_lsb if self.step_lsb is not None else epsilon_lsb


class BIM(SteppedAttack):
    """Iterated FGSM from the clean image."""

    kind: ClassVar[str] = "bim"


class PGD(SteppedAttack):
    """Projected gradient descent from a random point of the L-infinity ball."""

    kind: ClassVar[str] = "pgd-linf"
    random_start: ClassVar[bool] = True


class PGDL2(SteppedAttack):
    """Projected gradient descent from a random point of the L2 ball, steps along the normalised gradient."""

    kind: ClassVar[str] = "pgd-l2"
    norm: ClassVar[Norm] = "l2"
    random_start: ClassVar[bool] = True


class MIM(SteppedAttack):
    """BIM with momentum: gradients, each of unit mean magnitude, accumulate with `decay`."""

    kind: ClassVar[str] = "mim"
    decay: float = Field(1.0, ge=0)

    def momentum(self) -> float:
        """The decay factor."""
        return self.decay


Ascend = Callable[[Ball, Points, Truth, Truth, Judge | None], Ascended]  # (ball, start, y, target, judge)


def _judge(problem: Problem, rows: NDArray[np.int64]) -> Judge:
    """The victim's own word on inputs of one batch."""
    return lambda x, part: problem.fooled(x, rows[part])


def batches(rows: NDArray[np.int64], size: int = BATCH) -> list[NDArray[np.int64]]:
    """Row numbers in nearly equal parts of at most `size`."""
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []


def compiled_ascent(
    source: GradientModel, loss: LossName, norm: Norm, criterion: Criterion = MISCLASSIFICATION
) -> Ascent:
    """The ascent of a model, kept with it."""

    def build(model: GradientModel) -> Ascent:
        engine = model.plain_engine if norm == "linf" else None
        if engine is not None:
            return engine_ascent(engine, criterion.loss(loss), criterion)
        return _build_ascent(model, loss, norm, criterion)

    return source.compiled(("ascent", loss, norm, criterion), build)


def compiled_gradient(
    source: GradientModel, loss: LossName, criterion: Criterion = MISCLASSIFICATION
) -> Callable[[Codes, Truth], NDArray[np.float64]]:
    """(x, y) -> gradient of the loss per grid step; values that are not finite become zero."""

    def build(model: GradientModel) -> Callable[[Codes, Truth], NDArray[np.float64]]:
        tf, look = runtime().tf, looker(model, loss, criterion)
        return lambda x, y: np.asarray(look(tf.constant(x, tf.float32), y, y)[0].numpy(), np.float64)

    return source.compiled(("gradient", loss, criterion), build)


class Geometry(NamedTuple):
    """What one norm means for an ascent, as TensorFlow functions."""

    ahead: Callable[[Tensor, Tensor, Tensor], Tensor]  # (gradient, weight, length) -> a step
    onto: Callable[[Tensor, Room, Tensor], Tensor]  # (x, room, epsilon) -> x in the ball
    to_grid: Callable[[Tensor, Room, Tensor], Tensor]  # what `onto` gave, in whole steps


def geometry_of(norm: Norm) -> Geometry:
    """The geometry of L-infinity or L2."""
    return (
        Geometry(_ahead_linf, _clip_linf, _round_linf) if norm == "linf" else Geometry(_ahead_l2, _clip_l2, _round_l2)
    )


def _build_ascent(source: GradientModel, loss: LossName, norm: Norm, criterion: Criterion) -> Ascent:
    """The ascent as TensorFlow graphs, in grid steps; its state: where it is, the gradient there, the momentum."""
    tf = runtime().tf
    geometry, look = geometry_of(norm), looker(source, loss, criterion)

    def move(room: Room, iterate: Tensor, gradient: Tensor, momentum: Tensor, *settings: Tensor) -> tuple[Tensor, ...]:
        epsilon, step, decay = settings
        momentum = tf.cond(decay > 0, lambda: decay * momentum + _unit_l1(gradient), lambda: gradient)
        iterate = geometry.onto(iterate + geometry.ahead(momentum, room.weight, step), room, epsilon)
        return geometry.to_grid(iterate, room, epsilon), iterate, momentum

    def begin(room: Room, start: Tensor, y: Tensor, target: Tensor, *settings: Tensor) -> tuple[Any, ...]:
        iterate = geometry.onto(start, room, settings[0])
        best = geometry.to_grid(iterate, room, settings[0])
        gradient, _, score, finite = look(best, y, target)
        return Seen(best, score, is_zero(gradient), finite), (iterate, gradient, tf.zeros_like(room.clean))

    def advance(
        room: Room, y: Tensor, target: Tensor, state: Any, first: Tensor, last: Tensor, moves: Tensor, *settings: Tensor
    ) -> tuple[Any, ...]:
        def walk(_: Tensor, seen: Seen, now: tuple[Tensor, ...]) -> tuple[Any, ...]:
            point, iterate, momentum = move(room, *now, *settings)
            gradient, _, score, finite = look(point, y, target)
            return noted(seen, point, score, seen.finite & finite), (iterate, gradient, momentum)

        def arrive(seen: Seen, now: tuple[Tensor, ...]) -> tuple[Any, ...]:
            """The last move: nobody needs the gradient there."""
            _, gradient, _ = now
            point, iterate, momentum = move(room, *now, *settings)
            score = criterion.score(source.glance(point), y)
            return noted(seen, point, score, seen.finite), (iterate, gradient, momentum)

        state = repeated(first, tf.minimum(last, moves), walk, state)
        moved: tuple[Any, ...] = tf.cond(last > moves, lambda: arrive(*state), lambda: state)
        return moved

    return Ascent(begin, Traced(advance))


def looker(
    source: GradientModel, loss: LossName, criterion: Criterion = MISCLASSIFICATION
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(point in grid steps, y, target) -> (gradient, loss, score, everything finite), per image.

    Kept with the model: the loops of all attacks that follow this loss share one trace of it.
    """
    return source.compiled(("look", loss, criterion), lambda model: _build_look(model, loss, criterion))


def _build_look(source: GradientModel, loss: LossName, criterion: Criterion) -> Traced:
    tf = runtime().tf
    loss_of = criterion.loss(loss)

    def look(point: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(point)
            logits = source.look(point)
            losses = loss_of(logits, y, target)
        gradient = tape.gradient(losses, point)
        fine = all_finite(gradient)
        gradient = tf.cond(  # a selection takes as long as the rest of a step, and is hardly ever needed
            tf.reduce_all(fine), lambda: gradient, lambda: tf.where(tf.math.is_finite(gradient), gradient, 0.0)
        )
        return gradient, losses, criterion.score(logits, y), fine & all_finite(logits)

    return Traced(look)


def noted(seen: Seen, point: Tensor, score: Tensor, finite: Tensor) -> Seen:
    """What has been seen, with one more point: per image, the one with the higher score stays."""
    tf = runtime().tf
    # The first version of `where` takes one condition a sample, and copies; broadcasting one is many times as slow.
    best = tf.compat.v1.where(score > seen.score, point, seen.best)
    return Seen(best, tf.maximum(score, seen.score), seen.zero, finite)


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


def _ahead_linf(gradient: Tensor, weight: Tensor, step: Tensor) -> Tensor:
    return runtime().tf.sign(gradient) * (weight * step)  # the small product first


def _ahead_l2(gradient: Tensor, weight: Tensor, step: Tensor) -> Tensor:
    gradient = gradient * weight  # nothing is spent on frozen features
    return gradient * (step / (_norm(gradient) + 1e-30))


def _unit_l1(gradient: Tensor) -> Tensor:
    tf = runtime().tf
    return gradient / (wide(tf.reduce_mean(tf.abs(_flat(gradient)), axis=1), gradient) + 1e-30)


def _clip_linf(x: Tensor, room: Room, epsilon: Tensor) -> Tensor:
    return runtime().tf.clip_by_value(x, room.low, room.high)


def _clip_l2(x: Tensor, room: Room, epsilon: Tensor) -> Tensor:
    tf = runtime().tf
    delta = tf.clip_by_value(x, room.low, room.high) - room.clean
    return room.clean + delta * tf.minimum(1.0, epsilon / (_norm(delta) + 1e-30))


def _round_linf(x: Tensor, room: Room, epsilon: Tensor) -> Tensor:
    """The nearest grid point: in the box as `x` is, since its ends are whole."""
    return runtime().tf.round(x)


def _round_l2(x: Tensor, room: Room, epsilon: Tensor) -> Tensor:
    """The nearest grid point, or where that leaves the ball, the one rounded towards `clean`."""
    tf = runtime().tf
    delta = x - room.clean
    nearest, inward = tf.round(delta), tf.cast(tf.cast(delta, tf.int32), x.dtype)
    return room.clean + tf.where(_norm(nearest) <= epsilon, nearest, inward)


_LINF = Geometry(_ahead_linf, _clip_linf, _round_linf)
_L2 = Geometry(_ahead_l2, _clip_l2, _round_l2)
