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
_WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class _Part:
    low: Whole
    high: Whole


@dataclass(frozen=True, eq=False)
class _Split:
    """Where a part is cut in two: a column, and by how much the cost rises below and above."""

    column: int
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
            part = parts.pop()
            self.found.solve(part.low, part.high)
            if not self.found.done:
                return False
            if self.found.empty:
                if not self.found.impossible(part.low, part.high):
                    return False
                continue
            low, high = self.found.fixed(part.low, part.high)
            if (low > high).any():
                continue
            split = self._choose(low, high)
            if split is None:
                return False
            parts += self._halves(low, high, split)
        return True

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

    def _choose(self, low: Whole, high: Whole) -> _Split | None:
        """The column whose halves both cost most; None where all are whole, or HiGHS gave up."""
        found = self.found
        found.solve(low, high)
        if found.empty or not found.done:
            return None
        point, value = found.point, found.value
        fraction = point - np.floor(point)
        near = np.minimum(fraction, 1 - fraction)
        columns = np.flatnonzero((near > _WHOLE) & self.rows.steps)
        if not len(columns):  # all steps are whole: what do inputs near this one do?
            if self.show({i: np.rint(point[None, at : at + n]).astype(np.int64) for i, (at, n) in self._leaves}):
                return None
            columns = np.flatnonzero(near > _WHOLE)
        if not len(columns):
            return None
        best: _Split | None = None
        basis = found.highs.getBasis()
        for column in columns[np.argsort(-self._likely(columns, fraction), kind="stable")][:_TRIED]:
            if best is not None and self.count[column].min() >= _KNOWN:
                continue
            gains = []
            for side, ends in enumerate(self._sides(column, point[column], low, high)):
                found.tried(int(column), *ends, basis)
                gain = self.rows.most + 1 - value if found.empty else max(found.value - value, 0.0)
                gains.append(gain)
                if not found.empty:
                    share = fraction[column] if side == 0 else 1 - fraction[column]
                    self.gain[column, side] += gain / max(share, 1e-3)
                    self.count[column, side] += 1
            found.highs.changeColBounds(int(column), float(low[column]), float(high[column]))
            split = _Split(int(column), (gains[0], gains[1]))
            if best is None or split.worth > best.worth:
                best = split
        found.highs.setBasis(basis)
        found.point = point
        return best

    @property
    def _leaves(self) -> list[tuple[int, tuple[int, int]]]:
        return list(self.rows.leaves.items())

    def _likely(self, columns: NDArray[np.int64], fraction: Floats) -> Floats:
        """What a cut at each column is likely worth, by what was seen of it, and of the others."""
        usual = (self.gain.sum(axis=0) + 1) / (self.count.sum(axis=0) + 1)
        mean = (self.gain[columns] + 2 * usual) / (self.count[columns] + 2)
        below, above = mean[:, 0] * fraction[columns], mean[:, 1] * (1 - fraction[columns])
        likely: Floats = 10 * np.minimum(below, above) + np.maximum(below, above)
        return likely

    @staticmethod
    def _sides(column: int, at: float, low: Whole, high: Whole) -> tuple[tuple[float, float], tuple[float, float]]:
        return (float(low[column]), float(np.floor(at))), (float(np.floor(at) + 1), float(high[column]))

    def _halves(self, low: Whole, high: Whole, split: _Split) -> list[_Part]:
        """Both sides. The dearer one comes last: it is worked on first, and likely closed."""
        below, above = (low, high.copy()), (low.copy(), high)
        below[1][split.column] = int(np.floor(self.found.point[split.column]))
        above[0][split.column] = below[1][split.column] + 1
        halves = [_Part(*below), _Part(*above)]
        return halves if split.gains[0] < split.gains[1] else halves[::-1]
