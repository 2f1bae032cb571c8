"""Runs a compiled ascent in stretches; between them, inputs that have fallen leave the batch.

Many inputs fall in the first steps of an attack, and whether one has fallen is all that an accuracy asks. The victim
itself is asked, since the model that gives the gradients may differ from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ball import Ball
from qmodels.criteria import Truth
from qmodels.grid import Codes, Points
from qmodels.losses import Tensor
from qmodels.runtime import runtime
from qmodels.tracing import Traced

STRETCHES = 4  # more of them save few gradients and cost as much in calls
LEAVING = 0.125  # share of a batch that has to be ready before it is made smaller
#: (codes, their rows in the batch) -> where the victim is fooled
Judge = Callable[[Codes, NDArray[np.int64]], NDArray[np.bool_]]


class Room(NamedTuple):
    """A ball as tensors: centres, lowest and highest points of its box, and each feature's share of the radius."""

    clean: Tensor
    low: Tensor
    high: Tensor
    weight: Tensor


class Seen(NamedTuple):
    """What an ascent has seen of each input so far; the first entries of every ascent's state."""

    best: Tensor  # the worst grid point
    score: Tensor  # (N,) of it; above zero where the model is fooled
    zero: Tensor  # (N,) the first gradient is exactly zero
    finite: Tensor  # (N,) so was every logit and gradient on the way


class Ascended(NamedTuple):
    """What one ascent of one batch brought back."""

    x: Codes
    score: NDArray[np.float32]  # of x; above zero where the victim is fooled
    zero: NDArray[np.bool_]  # the first gradient is exactly zero
    non_finite: NDArray[np.bool_]  # some logit or gradient on the way is not finite
    looks: int  # inputs that the model was shown


@dataclass(frozen=True)
class Ascent:
    """A compiled loop for NumPy arrays.

    `begin(room, start, y, target, *settings)` gives a state: `Seen`, and a tuple of what else the loop needs.
    `advance(room, y, target, state, first, last, plan, *settings)` makes the moves first .. last - 1.
    """

    begin: Traced
    advance: Traced

    def __call__(
        self,
        ball: Ball,
        start: Points,
        y: Truth,
        target: Truth,
        plan: int | NDArray[np.int32],
        *settings: float,
        judge: Judge | None = None,
    ) -> Ascended:
        """Ascend from `start` inside `ball`.

        Args:
            ball: the balls of a batch.
            start: (N, ...) in grid steps.
            y: what is right, by input.
            target: the target, by input; for untargeted losses the same as `y`.
            plan: the number of moves, or what the loop wants to know of each; entry 0 belongs to no move.
            settings: numbers that start with the radius in grid steps.
            judge: asked whether inputs that seem to have fallen have; these leave. None: all inputs make all moves.
        """
        tf = runtime().tf
        numbers = [tf.constant(value, tf.float32) for value in settings]
        moves = plan if isinstance(plan, int) else len(plan) - 1
        nothing = np.zeros(len(ball), bool)
        found = Ascended(ball.clean.copy(), np.zeros(len(ball), np.float32), nothing.copy(), nothing.copy(), 0)
        rows, looks = np.arange(len(ball)), len(ball)
        room = _room(ball)
        state = self.begin(room, tf.constant(start, tf.float32), y, target, *numbers)
        asked, done = nothing, nothing.copy()  # have fallen; and the victim has agreed
        for first, last in _stretches(moves, 1 if judge is None else STRETCHES):
            state = self.advance(
                room, y[rows], target[rows], state, *(tf.constant(number) for number in (first, last, plan)), *numbers
            )
            looks += (last - first) * len(rows)
            if judge is None or last > moves:
                continue
            fresh = np.flatnonzero((state[0].score.numpy() > 0) & ~asked)
            if len(fresh):  # asked once: what a victim with a defence answers may take long
                asked[fresh] = True
                done[fresh] = judge(state[0].best.numpy()[fresh].astype(ball.clean.dtype), rows[fresh])
            if done.sum() > LEAVING * len(rows):
                _note(found, rows, state[0], done)
                stay = np.flatnonzero(~done)
                rows, asked, done = rows[stay], asked[stay], done[stay]
                if not len(rows):
                    break
                room = _some(room, stay)
                state = tf.nest.map_structure(lambda part, stay=stay: tf.gather(part, stay), state)
        _note(found, rows, state[0], np.ones(len(rows), bool))
        return found._replace(looks=looks)


def _room(ball: Ball) -> Room:
    tf = runtime().tf
    return Room(*(tf.constant(part, tf.float32) for part in (ball.clean, *ball.box, ball.weight)))


def _some(room: Room, rows: NDArray[np.int64]) -> Room:
    """The balls of some inputs; `weight` is the same for all."""
    gather = runtime().tf.gather
    return Room(gather(room.clean, rows), gather(room.low, rows), gather(room.high, rows), room.weight)


def _stretches(moves: int, count: int) -> list[tuple[int, int]]:
    """Moves 1 .. `moves` in at most `count` ranges of nearly equal length."""
    ends = np.unique(np.linspace(1, moves + 1, count + 1).round().astype(int)).tolist()
    return list(itertools.pairwise(ends))


def _note(found: Ascended, rows: NDArray[np.int64], seen: Seen, which: NDArray[np.bool_]) -> None:
    """Write what was seen of the inputs that leave into `found`."""
    best, score, zero, finite = (part.numpy()[which] for part in seen)
    to = rows[which]
    found.x[to], found.score[to], found.zero[to], found.non_finite[to] = best, score, zero, ~finite
