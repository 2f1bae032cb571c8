"""Branch and cut: whether no input of a region is decided wrongly, by linear programs with cuts.

HiGHS solves the programs in floats. Cuts (`rounding.py`), columns that are fixed and empty parts (`relaxation.py`) are
each proved in whole numbers, so the answer is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Points
from hw.certify.relaxation import Floats, Relaxation
from hw.certify.rounding import rounding_cuts
from hw.certify.rows import Rows, Whole

_TURNS, _TURN_ROWS, _TURN_CUTS = 40, 80, 30  # rounds of cuts, tableau rows and cuts of each
_GAIN, _IDLE = 0.01, 2  # a round that closes less of what is lacking is idle; so many in a row end them
_TRIED, _KNOWN = 6, 2  # columns tried out in each part, as long as they were tried less often than that
_FIXINGS = 2  # times that columns are fixed in a part
_WHOLE = 1e-6


class _GivenUp(Exception):
    """Nothing more can be said: an input was found, or HiGHS' answer proves nothing."""


@dataclass(frozen=True, eq=False)
class _Part:
    low: Whole
    high: Whole


@dataclass(frozen=True, eq=False)
class _Split:
    """Where a part is cut in two: a column, the last number of its lower side, and how much the cost rises on both."""

    column: int
    at: int
    gains: tuple[float, float]

    @property
    def worth(self) -> float:
        return 10 * min(self.gains) + max(self.gains)


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
                    parts += self._halves(left, self._choose(left))
            except _GivenUp:
                return False
        return True

    def _left(self, part: _Part) -> _Part | None:
        """What is left of a part when what costs too much is away; None: nothing, proved."""
        low, high = part.low, part.high
        for _ in range(_FIXINGS):
            self.found.solve(low, high)
            if not self.found.done:
                raise _GivenUp
            if self.found.empty:
                if not self.found.impossible(low, high):
                    raise _GivenUp
                return None
            before = low, high
            low, high = self.found.fixed(low, high)
            if (low > high).any():
                return None
            if (low == before[0]).all() and (high == before[1]).all():
                break
        return _Part(low, high)

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
            found.add(*cuts)
            found.solve(self.rows.low, self.rows.high)
            idle = idle + 1 if found.value - before < _GAIN * (self.rows.most - before) else 0
            if idle > _IDLE:
                return

    def _choose(self, part: _Part) -> _Split:
        """The column whose halves both cost most, after `_left`."""
        found, low, high = self.found, part.low, part.high
        point, value = np.clip(found.point, low, high), found.value
        fraction = point - np.floor(point)
        near = np.minimum(fraction, 1 - fraction)
        columns = np.flatnonzero((near > _WHOLE) & self.rows.steps)
        if not len(columns):  # all steps are whole: what do inputs near this one do?
            whole = np.rint(point[None]).astype(np.int64)
            if self.show({index: whole[:, at : at + n] for index, (at, n) in self.rows.leaves.items()}):
                raise _GivenUp
            columns = np.flatnonzero(near > _WHOLE)
        if not len(columns):
            raise _GivenUp
        best: _Split | None = None
        basis = found.highs.getBasis()
        for column in columns[np.argsort(-self._likely(columns, fraction), kind="stable")][:_TRIED]:
            if best is not None and self.count[column].min() >= _KNOWN:
                continue
            at, gains = int(np.floor(point[column])), []
            for side, ends in enumerate(((low[column], at), (at + 1, high[column]))):
                found.tried(int(column), float(ends[0]), float(ends[1]), basis)
                gain = self.rows.most + 1 - value if found.empty else max(found.value - value, 0.0)
                gains.append(gain)
                if not found.empty:
                    share = fraction[column] if side == 0 else 1 - fraction[column]
                    self.gain[column, side] += gain / max(share, 1e-3)
                    self.count[column, side] += 1
            found.highs.changeColBounds(int(column), float(low[column]), float(high[column]))
            split = _Split(int(column), at, (gains[0], gains[1]))
            if best is None or split.worth > best.worth:
                best = split
        found.highs.setBasis(basis)
        assert best is not None
        return best

    def _likely(self, columns: NDArray[np.int64], fraction: Floats) -> Floats:
        """What a cut at each column is likely worth, by what was seen of it, and of the others."""
        usual = (self.gain.sum(axis=0) + 1) / (self.count.sum(axis=0) + 1)
        mean = (self.gain[columns] + 2 * usual) / (self.count[columns] + 2)
        below, above = mean[:, 0] * fraction[columns], mean[:, 1] * (1 - fraction[columns])
        likely: Floats = 10 * np.minimum(below, above) + np.maximum(below, above)
        return likely

    @staticmethod
    def _halves(part: _Part, split: _Split) -> list[_Part]:
        """Both sides. The dearer one comes last: it is worked on first, and likely closed."""
        below, above = part.high.copy(), part.low.copy()
        below[split.column], above[split.column] = split.at, split.at + 1
        halves = [_Part(part.low, below), _Part(above, part.high)]
        return halves if split.gains[0] < split.gains[1] else halves[::-1]
