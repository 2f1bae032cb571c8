"""Runs an ascent in stretches; between them, inputs that have fallen leave the batch.

Many inputs fall in the first steps of an attack, and whether one has fallen is all that an accuracy asks. The victim
itself is asked, since the model that gives the gradients may differ from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ball import Ball
from qmodels.criteria import Truth
from qmodels.grid import Codes, Points
from qmodels.losses import Tensor
from qmodels.runtime import runtime

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
    """A loop for NumPy arrays.

    `begin(room, start, y, target, *settings)` gives a state: `Seen`, and a tuple of what else the loop needs. It runs
    once a batch, so that tracing it would take longer than it does.
    `advance(room, y, target, state, first, last, plan, *settings)` makes the moves first .. last - 1.
    """

    begin: Callable[..., Any]
    advance: Callable[..., Any]
    arrays: bool = False  # whether both take and give NumPy's arrays; else they are TensorFlow's graphs

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
        given: Callable[[Any], Any] = np.asarray if self.arrays else runtime().tf.constant
        numbers = [given(np.float32(value)) for value in settings]
        moves = plan if isinstance(plan, int) else len(plan) - 1
        room = Room(*(given(np.asarray(part, np.float32)) for part in (ball.clean, *ball.box, ball.weight)))
        batch = _Batch(ball, room, self.begin(room, given(start.astype(np.float32)), y, target, *numbers))
        looks = len(ball)
        for first, last in _stretches(moves, 1 if judge is None else STRETCHES):
            which, rows = (given(np.int32(number)) for number in (first, last, plan)), batch.rows
            batch.state = self.advance(batch.room, y[rows], target[rows], batch.state, *which, *numbers)
            looks += (last - first) * len(rows)
            if judge is not None and last <= moves:
                batch.ask(judge)
                if not batch.shrink():
                    break
        return batch.ended()._replace(looks=looks)


class _Batch:
    """The inputs of an ascent that are still on their way, and what was seen of those that have left."""

    def __init__(self, ball: Ball, room: Room, state: tuple[Any, ...]) -> None:
        nothing = np.zeros(len(ball), bool)
        self.found = Ascended(ball.clean.copy(), np.zeros(len(ball), np.float32), nothing.copy(), nothing.copy(), 0)
        self.rows = np.arange(len(ball))
        self.room, self.state = room, state
        self._asked, self._fallen = nothing.copy(), nothing.copy()  # seem to have fallen; and the victim has agreed

    def ask(self, judge: Judge) -> None:
        """Let the victim judge what seems to have fallen; once, since one with a defence may take long to answer."""
        seen: Seen = self.state[0]
        fresh = np.flatnonzero((np.asarray(seen.score) > 0) & ~self._asked)
        if len(fresh):
            self._asked[fresh] = True
            points = np.asarray(seen.best)[fresh].astype(self.found.x.dtype)
            self._fallen[fresh] = judge(points, self.rows[fresh])

    def shrink(self) -> bool:
        """Take out the fallen if they are many enough to be worth it; False if none is left."""
        if self._fallen.sum() <= LEAVING * len(self.rows):
            return True
        stay = np.flatnonzero(~self._fallen)
        self._note(self._fallen)
        self.rows, self._asked, self._fallen = self.rows[stay], self._asked[stay], self._fallen[stay]
        if not len(stay):
            return False
        clean, low, high = _some(self.room[:3], stay)
        self.room = Room(clean, low, high, self.room.weight)
        seen, others = self.state
        self.state = Seen(*_some(seen, stay)), tuple(_some(others, stay))
        return True

    def ended(self) -> Ascended:
        """What was seen of all inputs."""
        if len(self.rows):
            self._note(np.ones(len(self.rows), bool))
        return self.found

    def _note(self, which: NDArray[np.bool_]) -> None:
        """Write what was seen of the inputs that leave into `found`."""
        best, score, zero, finite = (np.asarray(part)[which] for part in self.state[0])
        to = self.rows[which]
        self.found.x[to], self.found.score[to] = best, score
        self.found.zero[to], self.found.non_finite[to] = zero, ~finite


def _some(parts: Iterable[Any], rows: NDArray[np.int64]) -> list[Any]:
    """Rows of arrays or tensors."""
    return [part[rows] if isinstance(part, np.ndarray) else runtime().tf.gather(part, rows) for part in parts]


def _stretches(moves: int, count: int) -> list[tuple[int, int]]:
    """Moves 1 .. `moves` in at most `count` ranges of nearly equal length."""
    ends = np.unique(np.linspace(1, moves + 1, count + 1).round().astype(int)).tolist()
    return list(itertools.pairwise(ends))
