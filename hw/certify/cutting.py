"""Branch and cut: whether no input of a region is decided wrongly, by linear programs with cuts.

HiGHS solves the programs in floats. Cuts (`rounding.py`), columns that are fixed and empty parts (`relaxation.py`) are
each proved in whole numbers, so the answer is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Points
from hw.certify.relaxation import Floats, Relaxation, Solution
from hw.certify.rounding import rounding_cuts
from hw.certify.rows import FREE, Rows, Whole

_TURNS, _TURN_ROWS, _TURN_CUTS = 40, 80, 30  # rounds of cuts, tableau rows and cuts of each
_GAIN, _IDLE = 0.01, 2  # a round that closes less of what is lacking is idle; so many in a row end them
_TRIED, _KNOWN = 12, 6  # columns tried out in each part, as long as they were tried less often than that
_DIVES = 64  # parts after which an input is searched for again; then twice as many, and so on
_FIXINGS = 2  # times that columns are fixed in a part
_LITTLE = 1e-2  # of a gain: with none on one side, the other one still counts
_WHOLE = 1e-6


class _GivenUp(Exception):
    """Nothing more can be said: an input was found, or HiGHS' answer proves nothing."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the columns' numbers.

    Args:
        low: of columns.
        high: likewise.
        solution: of these bounds, or of somewhat wider ones.
        closer: bounds of inputs are closer than those of the solution.
    """

    low: Whole
    high: Whole
    solution: Solution | None = None
    closer: bool = False

    @property
    def value(self) -> float:
        """What the cost is at least, as HiGHS says."""
        return -np.inf if self.solution is None else self.solution.value

    def halves(self, column: int, at: int) -> tuple[_Part, _Part]:
        """Both sides of a number: a column up to it, and above."""
        below, above = self.high.copy(), self.low.copy()
        below[column], above[column] = at, at + 1
        return _Part(self.low, below), _Part(above, self.high)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Both halves of a part, and how much the cost rises on them; None: nothing is in this one, proved."""

    halves: tuple[_Part | None, _Part | None]
    gains: tuple[float, float]

    @property
    def worth(self) -> float:
        return max(self.gains[0], _LITTLE) * max(self.gains[1], _LITTLE)

    def parts(self) -> list[_Part]:
        """The dearer one comes last: it is worked on first, and likely closed."""
        halves = self.halves if self.gains[0] < self.gains[1] else self.halves[::-1]
        return [half for half in halves if half is not None]


class Cutting:
    """One question, by branch and cut.

    Args:
        rows: what a wrong decision fulfils.
        alive: whether there is still time.
        show: told of a point's leaves (1, n), in floats, near which inputs may be decided wrongly; whether they are.
    """

    def __init__(self, rows: Rows, alive: Callable[[], bool], show: Callable[[Points], bool]) -> None:
        self.rows, self.alive, self.show = rows, alive, show
        self.found = Relaxation(rows)
        self.gain, self.count = np.zeros((len(rows.cost), 2)), np.zeros((len(rows.cost), 2))

    def impossible(self) -> bool:
        """Whether it is proved that no input is decided wrongly."""
        done = dives = 0
        try:
            parts = [self._root()]
            while parts:
                if not self.alive():
                    return False
                if done == dives:
                    dives = 2 * max(done, _DIVES)
                    self._dive(min(parts, key=lambda part: part.value))
                left = self._left(parts.pop())
                if left is not None:
                    parts += self._split(left)
                done += 1
        except _GivenUp:
            return False
        return True

    def _solved(self, low: Whole, high: Whole, basis: Any = None) -> Solution:
        found = self.found.solve(low, high, basis)
        if found is None:
            raise _GivenUp
        return found

    def _root(self) -> _Part:
        """Rounds of cuts that hold everywhere; everything, with its solution."""
        found, idle, low, high = self.found, 0, self.rows.low, self.rows.high
        solution = self._solved(low, high)
        for _ in range(_TURNS):
            if solution.empty or idle > _IDLE or not self.alive():
                break
            cuts = rounding_cuts(found, solution, low, high, _TURN_ROWS, _TURN_CUTS)
            if cuts is None:
                break
            found.forget(solution)
            matrix, most = cuts
            found.add(matrix, np.full(len(most), -FREE), most)
            before, solution = solution.value, self._solved(low, high)
            idle = idle + 1 if solution.value - before < _GAIN * (self.rows.limit - before) else 0
        return _Part(low, high, solution)

    def _left(self, part: _Part) -> _Part | None:
        """What is left of a part when what costs too much is away, with a solution; None: nothing, proved."""
        solution = part.solution or self._solved(part.low, part.high)
        for turn in range(_FIXINGS + 1):
            if solution.empty:
                gone = self.found.impossible(solution, part.low, part.high)
                return None if gone else _Part(part.low, part.high, solution)
            low, high = self.found.fixed(solution, part.low, part.high)
            if (low > high).any():
                return None
            same = (low == part.low) & (high == part.high)
            if same[self.rows.steps].all():
                return _Part(low, high, solution, closer=not same.all())
            if turn < _FIXINGS:
                part = _Part(low, high)
                solution = self._solved(low, high, solution.basis)
        return _Part(part.low, part.high, solution)

    def _dive(self, part: _Part) -> None:
        """Look for an input: the step that is nearest to a whole one is taken for it, again and again."""
        while self.alive() and (left := self._left(part)) is not None:
            solution = left.solution
            if solution is None or solution.empty:
                return
            columns = self._fractions(solution.point, self.rows.steps)
            if not len(columns):
                return self._shown(solution.point)
            away = np.abs(solution.point - np.rint(solution.point))[columns]
            column = int(columns[away.argmin()])
            below, above = left.halves(column, int(np.floor(solution.point[column])))
            part = below if np.rint(solution.point[column]) == below.high[column] else above

    def _fractions(self, point: Floats, columns: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Which of some columns are not whole."""
        return np.flatnonzero(columns & (np.abs(point - np.rint(point)) > _WHOLE))

    def _shown(self, point: Floats) -> None:
        """What do inputs near this one do?"""
        if self.show({index: point[None, at : at + n] for index, (at, n) in self.rows.leaves.items()}):
            raise _GivenUp

    def _split(self, part: _Part) -> list[_Part]:
        """A part, after `_left`, in smaller ones, without those that are proved to be empty."""
        solution, steps = part.solution, self.rows.steps
        assert solution is not None
        if solution.empty:  # without a proof
            return self._anywhere(part)
        columns = self._fractions(solution.point, steps)
        if not len(columns) and part.closer:
            return [_Part(part.low, part.high)]
        if not len(columns):
            self._shown(solution.point)
            if (part.low < part.high)[steps].any():
                return self._anywhere(part)
            columns = self._fractions(solution.point, ~steps)
        if not len(columns):
            raise _GivenUp
        return self._best(part, solution, columns).parts()

    def _anywhere(self, part: _Part) -> list[_Part]:
        """Both halves of the column with the most steps that are left: rows are closer where a step is known."""
        column = int(np.argmax(np.where(self.rows.steps, part.high - part.low, 0)))
        if part.low[column] == part.high[column]:
            raise _GivenUp
        return list(part.halves(column, int(part.low[column] + part.high[column]) // 2))

    def _best(self, part: _Part, solution: Solution, columns: NDArray[np.int64]) -> _Trial:
        """The column whose halves both cost most, of those whose number is not whole."""
        best: _Trial | None = None
        self.found.between(part.low, part.high)
        fraction = (solution.point - np.floor(solution.point))[columns]
        for column in columns[np.argsort(-self._likely(columns, fraction), kind="stable")][:_TRIED]:
            if best is not None and self.count[column].min() >= _KNOWN:
                continue
            trial = self._tried(part, solution, int(column))
            if None in trial.halves:
                return trial
            if best is None or trial.worth > best.worth:
                best = trial
        assert best is not None
        return best

    def _tried(self, part: _Part, solution: Solution, column: int) -> _Trial:
        """A part cut in two at a column's number, and what both cost."""
        halves: list[_Part | None] = []
        gains: list[float] = []
        at = float(solution.point[column])
        for side, half in enumerate(part.halves(column, int(np.floor(at)))):
            after = self.found.tried(column, int(half.low[column]), int(half.high[column]), solution.basis)
            if after is None:
                raise _GivenUp
            gone = after.empty and self.found.impossible(after, half.low, half.high)
            halves.append(None if gone else _Part(half.low, half.high, after))
            if after.empty:
                gains.append(self.rows.limit + 1 - solution.value)
                continue
            gains.append(max(after.value - solution.value, 0.0))
            share = at - np.floor(at) if side == 0 else np.floor(at) + 1 - at
            self.gain[column, side] += gains[side] / max(share, 1e-3)
            self.count[column, side] += 1
        self.found.bound(column, int(part.low[column]), int(part.high[column]))
        return _Trial((halves[0], halves[1]), (gains[0], gains[1]))

    def _likely(self, columns: NDArray[np.int64], fraction: Floats) -> Floats:
        """What a cut at each column is likely worth, by what was seen of it, and of the others."""
        usual = (self.gain.sum(axis=0) + 1) / (self.count.sum(axis=0) + 1)
        mean = (self.gain[columns] + 2 * usual) / (self.count[columns] + 2)
        below, above = mean[:, 0] * fraction, mean[:, 1] * (1 - fraction)
        likely: Floats = np.maximum(below, _LITTLE) * np.maximum(above, _LITTLE)
        return likely
