"""APGD: projected gradient ascent that chooses its own step size, with cross-entropy, DLR and targeted DLR.

Source: Croce & Hein 2020, arXiv:2003.01690, algorithm 1. As in `gradient.py` the iterate is real, the victim
sees grid points only, and the worst grid point is returned.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ascent import Ascent, Room, Seen
from qmodels.attacks.ball import Norm
from qmodels.attacks.base import Problem
from qmodels.attacks.gradient import (
    Ascend,
    GradientAttack,
    geometry_of,
    is_zero,
    looker,
    noted,
    wide,
)
from qmodels.criteria import Criterion, Truth
from qmodels.losses import LossName, Tensor
from qmodels.runtime import runtime
from qmodels.tracing import Traced, repeated
from qmodels.victims import GradientModel

MOMENTUM = 0.75  # alpha of the paper
PATIENCE = 0.75  # rho: the loss must have risen in this share of a window's steps
FIRST_STEP = 2.0  # in units of epsilon


class APGD(GradientAttack):
    """APGD on cross-entropy in the L-infinity ball."""

    kind: ClassVar[str] = "apgd-ce"
    steps: int = Field(100, ge=2)
    random_start: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The kind says which loss."""
        return self.kind

    def ascent(self, source: GradientModel, criterion: Criterion, epsilon: float) -> Ascend:
        """The compiled loop; step sizes follow from the radius."""
        loop = compiled_apgd(source, self.loss, self.norm, criterion)
        windows = checkpoints(self.steps)
        return lambda ball, start, y, target, judge: loop(ball, start, y, target, windows, epsilon, judge=judge)


class APGDDLR(APGD):
    """APGD on the difference of logits ratio."""

    kind: ClassVar[str] = "apgd-dlr"
    loss: LossName = "dlr"


class APGDL2(APGD):
    """APGD in the L2 ball."""

    kind: ClassVar[str] = "apgd-l2"
    norm: ClassVar[Norm] = "l2"


class APGDTargeted(APGD):
    """APGD on targeted DLR, towards each of the most likely wrong classes in turn."""

    kind: ClassVar[str] = "apgd-t"
    loss: LossName = "dlr-targeted"
    classes: int = Field(9, ge=1, description="how many target classes are tried")

    def targets(self, problem: Problem) -> Truth:
        """What the criterion has to aim at: the likeliest wrong classes of each clean image, likeliest first."""
        return problem.criterion.targets(problem.logits(problem.clean), problem.y, self.classes)


def checkpoints(steps: int) -> NDArray[np.int32]:
    """Per step, the length of the window that ends there, or 0: windows shrink from 22 % to 6 % of the steps."""
    ends, position, previous = [0], 0.22, 0.0
    while position < 1.0:
        ends.append(int(np.ceil(round(position * steps, 6))))  # 0.57 * 100 is a hair above 57
        position, previous = position + max(position - previous - 0.03, 0.06), position
    windows = np.zeros(steps + 1, np.int32)
    for start, end in itertools.pairwise(ends):
        windows[min(end, steps)] = end - start
    return windows


def compiled_apgd(source: GradientModel, loss: LossName, norm: Norm, criterion: Criterion) -> Ascent:
    """The loop of a model, kept with it; in place of the number of steps it is given their `checkpoints`."""
    return source.compiled(("apgd", loss, norm, criterion), lambda model: _build_apgd(model, loss, norm, criterion))


def _build_apgd(source: GradientModel, loss: LossName, norm: Norm, criterion: Criterion) -> Ascent:
    tf = runtime().tf
    ball, look = geometry_of(norm), looker(source, loss, criterion)

    def move(
        room: Room, x: Tensor, before: Tensor, gradient: Tensor, length: Tensor, first: Tensor, epsilon: Tensor
    ) -> Tensor:
        """A gradient step, blended with the previous move from the second step on."""
        stepped = ball.onto(x + ball.ahead(gradient, room.weight, wide(length, x)), room, epsilon)
        blended = x + MOMENTUM * (stepped - x) + (1.0 - MOMENTUM) * (x - before)
        return tf.where(first, stepped, ball.onto(blended, room, epsilon))

    def begin(room: Room, start: Tensor, y: Tensor, target: Tensor, *settings: Tensor) -> tuple[Any, ...]:
        (epsilon,) = settings
        x = ball.onto(start, room, epsilon)
        best = ball.to_grid(x, room, epsilon)
        gradient, value, score, finite = look(best, y, target)
        length = FIRST_STEP * epsilon * tf.ones_like(value)
        here, lengths = (x, gradient, value), (length, length, tf.zeros_like(value))
        return Seen(best, score, is_zero(gradient), finite), (x, *here, *here, value, *lengths)

    def advance(
        room: Room,
        y: Tensor,
        target: Tensor,
        state: Any,
        start: Tensor,
        end: Tensor,
        windows: Tensor,
        *settings: Tensor,
    ) -> tuple[Any, ...]:
        (epsilon,) = settings

        def step(index: Tensor, seen: Seen, rest: tuple[Tensor, ...]) -> tuple[Any, ...]:
            before, x, gradient, value, top, top_gradient, top_value, last_top, length, last_length, rises = rest
            x, before = move(room, x, before, gradient, length, index == 1, epsilon), x
            point = ball.to_grid(x, room, epsilon)
            gradient, new_value, score, finite = look(point, y, target)
            seen = noted(seen, point, score, seen.finite & finite)
            rises, value = rises + tf.cast(new_value > value, tf.float32), new_value
            higher = wide(new_value > top_value, x)
            top, top_gradient = tf.where(higher, x, top), tf.where(higher, gradient, top_gradient)
            top_value = tf.maximum(new_value, top_value)
            window = tf.cast(windows[index], tf.float32)

            def checked() -> tuple[Tensor, ...]:
                """Too few rises, or nothing has changed since the last check: halve and go back to the top."""
                stuck = (length >= last_length) & (top_value <= last_top)
                halve = (rises < PATIENCE * window) | stuck
                back, shorter = wide(halve, x), tf.where(halve, length / 2.0, length)
                here = tf.where(back, top, x), tf.where(back, top_gradient, gradient), tf.where(halve, top_value, value)
                return *here, top_value, shorter, length, tf.zeros_like(rises)

            def unchecked() -> tuple[Tensor, ...]:
                return x, gradient, value, last_top, length, last_length, rises

            x, gradient, value, *lengths = tf.cond(window > 0, checked, unchecked)
            return seen, (before, x, gradient, value, top, top_gradient, top_value, *lengths)

        return repeated(start, end, step, state)

    return Ascent(begin, Traced(advance))


__all__ = ["APGD", "APGDDLR", "APGDL2", "APGDTargeted", "checkpoints"]
