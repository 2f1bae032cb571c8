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
from hw.certify.relaxation import Floats, Relaxation
from hw.certify.rounding import rounding_cuts
from hw.certify.rows import FREE, Rows, Whole

_TURNS, _TURN_ROWS, _TURN_CUTS = 40, 80, 30  # rounds of cuts, tableau rows and cuts of each
_GAIN, _IDLE = 0.01, 2  # a round that closes less of what is lacking is idle; so many in a row end them
_TRIED, _KNOWN = 16, 8  # columns tried out in each part, as long as they were tried less often than that
_FIXINGS = 2  # times that columns are fixed in a part
_WHOLE = 1e-6


class _GivenUp(Exception):
    """Nothing more can be said: an input was found, or HiGHS' answer proves nothing."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the columns' numbers.

    Args:
        low: of columns.
        high: likewise.
        basis: of a solution that is likely near.
    """

    low: Whole
    high: Whole
    basis: Any = None

    def halves(self, column: int, at: int, bases: tuple[Any, Any] = (None, None)) -> tuple[_Part, _Part]:
        """Both sides of a number: a column up to it, and above."""
        below, above = self.high.copy(), self.low.copy()
        below[column], above[column] = at, at + 1
        return _Part(self.low, below, bases[0]), _Part(above, self.high, bases[1])

    def same(self, other: _Part) -> bool:
        """Whether the bounds are the same."""
        return bool((self.low == other.low).all() and (self.high == other.high).all())


@dataclass(frozen=True, eq=False)
class _Trial:
    """Both halves of a part, and how much the cost rises on them; None: nothing is in this one, proved."""

    halves: tuple[_Part | None, _Part | None]
    gains: tuple[float, float]

    @property
    def worth(self) -> float:
        return 10 * min(self.gains) + max(self.gains)

    def parts(self) -> list[_Part]:
        """The dearer one comes last: it is worked on first, and likely closed."""
        halves = self.halves if self.gains[0] < self.gains[1] else self.halves[::-1]
        return [half for half in halves if half is not None]


class Cutting:
    """One question, by branch and cut.

    Args:
        rows: what a wrong decision fulfils.
        alive: whether there is still time.
        show: told of leaves (1, n) that may be decided wrongly; whether they are.
    """

    def __init__(self, rows: Rows, alive: Callable[[], bool], show: Callable[[Points], bool]) -> None:
        self.rows, self.alive, self.show = rows, alive, show
        self.found = Relaxation(rows)
        self.solved = _Part(rows.low, rows.high)  # the bounds of the last solution
        self.gain, self.count = np.zeros((len(rows.cost), 2)), np.zeros((len(rows.cost), 2))

    def impossible(self) -> bool:
        """Whether it is proved that no input is decided wrongly."""
        parts = [_Part(self.rows.low, self.rows.high)]
        self.found.solve(self.rows.low, self.rows.high)
        self._cut()
        while parts:
            if not self.alive():
                return False
            try:
                left = self._left(parts.pop())
                if left is not None:
                    parts += self._split(left)
            except _GivenUp:
                return False
        return True

    def _left(self, part: _Part) -> _Part | None:
        """What is left of a part when what costs too much is away; None: nothing, proved."""
        if part.basis is not None:
            self.found.highs.setBasis(part.basis)
        for _ in range(_FIXINGS):
            self.found.solve(part.low, part.high)
            if not self.found.done:
                raise _GivenUp
            self.solved = part
            if self.found.empty:
                return None if self.found.impossible(part.low, part.high) else part
            part = _Part(*self.found.fixed(part.low, part.high))
            if (part.low > part.high).any():
                return None
            if part.same(self.solved):
                break
        return part

    def _cut(self) -> None:
        """Rounds of cuts that hold everywhere."""
        found, idle = self.found, 0
        for _ in range(_TURNS):
            if not found.done or found.empty or not self.alive():
                return
            cuts, before = rounding_cuts(found, self.rows.low, self.rows.high, _TURN_ROWS, _TURN_CUTS), found.value
            if cuts is None:
                return
            found.forget()
            matrix, most = cuts
            found.add(matrix, np.full(len(most), -FREE), most)
            found.solve(self.rows.low, self.rows.high)
            idle = idle + 1 if found.value - before < _GAIN * (self.rows.limit - before) else 0
            if idle > _IDLE:
                return

    def _split(self, part: _Part) -> list[_Part]:
        """A part, after `_left`, in smaller ones, without those that are proved to be empty."""
        if self.found.empty:  # without a proof
            return self._anywhere(part)
        point = np.clip(self.found.point, part.low, part.high)
        near = np.abs(point - np.rint(point))
        columns = np.flatnonzero((near > _WHOLE) & self.rows.steps)
        if len(columns):
            return self._best(part, point, columns).parts()
        if not part.same(self.solved):
            return [part]
        whole = np.rint(point[None]).astype(np.int64)  # all steps are: what do inputs near this one do?
        if self.show({index: whole[:, at : at + n] for index, (at, n) in self.rows.leaves.items()}):
            raise _GivenUp
        if (part.low < part.high)[self.rows.steps].any():
            return self._anywhere(part)
        columns = np.flatnonzero(near > _WHOLE)
        if not len(columns):
            raise _GivenUp
        return self._best(part, point, columns).parts()

    def _anywhere(self, part: _Part) -> list[_Part]:
        """Both halves of the column with the most steps that are left: rows are closer where a step is known."""
        column = int(np.argmax(np.where(self.rows.steps, part.high - part.low, 0)))
        if part.low[column] == part.high[column]:
            raise _GivenUp
        return list(part.halves(column, int(part.low[column] + part.high[column]) // 2))

    def _best(self, part: _Part, point: Floats, columns: NDArray[np.int64]) -> _Trial:
        """The column whose halves both cost most, of those whose number at `point` is not whole."""
        best: _Trial | None = None
        value, basis, fraction = self.found.value, self.found.highs.getBasis(), point - np.floor(point)
        for column in columns[np.argsort(-self._likely(columns, fraction[columns]), kind="stable")][:_TRIED]:
            if best is not None and self.count[column].min() >= _KNOWN:
                continue
            trial = self._tried(part, int(column), float(point[column]), value, basis)
            if None in trial.halves:
                return trial
            if best is None or trial.worth > best.worth:
                best = trial
        assert best is not None
        return best

    def _tried(self, part: _Part, column: int, at: float, value: float, basis: Any) -> _Trial:
        """A part cut in two at a number, and the cost of both; `value` and `basis` are those of the part."""
        found, gains = self.found, []
        halves: list[_Part | None] = []
        for side, half in enumerate(part.halves(column, int(np.floor(at)))):
            found.tried(column, float(half.low[column]), float(half.high[column]), basis)
            if found.empty:
                gains.append(self.rows.limit + 1 - value)
                halves.append(None if found.impossible(half.low, half.high) else half)
                continue
            gains.append(max(found.value - value, 0.0))
            halves.append(_Part(half.low, half.high, found.highs.getBasis()))
            share = at - np.floor(at) if side == 0 else np.floor(at) + 1 - at
            self.gain[column, side] += gains[side] / max(share, 1e-3)
            self.count[column, side] += 1
        found.highs.changeColBounds(column, float(part.low[column]), float(part.high[column]))
        return _Trial((halves[0], halves[1]), (gains[0], gains[1]))

    def _likely(self, columns: NDArray[np.int64], fraction: Floats) -> Floats:
        """What a cut at each column is likely worth, by what was seen of it, and of the others."""
        usual = (self.gain.sum(axis=0) + 1) / (self.count.sum(axis=0) + 1)
        mean = (self.gain[columns] + 2 * usual) / (self.count[columns] + 2)
        below, above = mean[:, 0] * fraction, mean[:, 1] * (1 - fraction)
        likely: Floats = 10 * np.minimum(below, above) + np.maximum(below, above)
        return likely
