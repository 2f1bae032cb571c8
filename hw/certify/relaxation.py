"""The linear program of some rows: HiGHS solves it in floats, and what follows is checked in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.rows import FREE, Rows, Whole

_ROOM = 2.0**52  # what sums of whole numbers may come to: float64 holds them
#: Rows are scaled here already; other costs, to be changed back in the end, help large programs only.
_OPTIONS: dict[str, Any] = {
    "output_flag": False,
    "presolve": "off",
    "threads": 1,
    "simplex_scale_strategy": 0,
    "dual_simplex_cost_perturbation_multiplier": 0.0,
}

Floats = NDArray[np.float64]


def new_highs() -> Any:
    """HiGHS without output, presolve and threads."""
    import highspy  # takes a quarter of a second to load

    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in _OPTIONS.items():
        highs.setOptionValue(option, value)
    return highs


@dataclass(frozen=True, eq=False)
class Solution:
    """What HiGHS says of the rows between some bounds of y. Nothing is concluded from it.

    Args:
        empty: no y fulfils them.
        value: the least cost, or infinite.
        point: (n,) y that has it; of no use if empty.
        weights: (rows,) of rows as HiGHS has them, whose sum shows this; of unknown sign if empty.
        basis: of columns and rows.
    """

    empty: bool
    value: float
    point: Floats
    weights: Floats
    basis: Any


class Relaxation:
    """min cost @ y over the rows, their cuts, and bounds of y, with y no longer whole.

    `matrix`, `least` and `most` hold all rows; those from `own` on are cuts.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows, self.own = rows, len(rows.most)
        self.matrix, self.least, self.most = rows.matrix[:0], rows.least[:0], rows.most[:0]
        self.scale: Floats = np.zeros(0)  # of each row as HiGHS has it: powers of two
        import highspy

        self._highspy: Any = highspy
        self.highs = new_highs()
        count = len(rows.cost)
        none = np.zeros(0, np.int32)
        self._columns, self._own = np.arange(count, dtype=np.int32), np.arange(self.own, dtype=np.int32)
        ends = rows.low.astype(np.float64), rows.high.astype(np.float64)
        self.highs.addCols(count, rows.cost.astype(np.float64), *ends, 0, np.zeros(count, np.int32), none, np.zeros(0))
        self.add(rows.matrix, rows.least, rows.most)

    @cached_property
    def floats(self) -> Floats:
        """The matrix; whole numbers still."""
        return self.matrix.astype(np.float64)

    @cached_property
    def sizes(self) -> Floats:
        """Its magnitudes."""
        return np.abs(self.floats)

    @cached_property
    def ends(self) -> Floats:
        """(rows,) the largest magnitude of each row's ends, also between closer bounds."""
        ends = [np.where(np.abs(end) < FREE, np.abs(end), 0) for end in (self.least, self.most)]
        own: Floats = np.maximum(*ends).astype(np.float64)
        ladders = self.rows.ladders
        if len(ladders.below):
            np.maximum.at(own, ladders.below, np.abs(ladders.least).max(axis=1))
            np.maximum.at(own, ladders.above, np.abs(ladders.most).max(axis=1))
        return own

    @cached_property
    def rounded(self) -> float:
        """What a column comes to at most, with weights of one: so much may rounding add."""
        return float(self.sizes.sum(axis=0).max())

    def add(self, matrix: Whole, least: Whole, most: Whole) -> None:
        """More rows."""
        largest = np.maximum(np.abs(matrix).max(axis=1), 1).astype(np.float64)
        scale = np.exp2(-np.ceil(np.log2(largest)))
        cells = matrix * scale[:, None]
        row, column = np.nonzero(cells)
        starts = np.searchsorted(row, np.arange(len(most))).astype(np.int32)
        ends = self._scaled(least, most, scale)
        self.highs.addRows(len(most), *ends, len(row), starts, column.astype(np.int32), cells[row, column])
        whole = [np.concatenate(both) for both in ((self.least, least), (self.most, most), (self.scale, scale))]
        self._kept(np.vstack([self.matrix, matrix]), *whole)

    def _scaled(self, least: Whole, most: Whole, scale: Floats) -> tuple[Floats, Floats]:
        """Ends of rows as HiGHS has them."""
        free = self._highspy.kHighsInf
        return np.where(least > -FREE, least * scale, -free), np.where(most < FREE, most * scale, free)

    def basic(self, solution: Solution) -> NDArray[np.int64]:
        """(rows,) columns of a solution's basis; -1 - row for a slack.

        HiGHS' own functions for this, and for `inverse`, end in segmentation faults now and then (seen with 1.15.1).
        """
        basic = self._highspy.HighsBasisStatus.kBasic
        columns = [at for at, status in enumerate(solution.basis.col_status) if status == basic]
        slacks = [-1 - at for at, status in enumerate(solution.basis.row_status) if status == basic]
        return np.array(columns + slacks, np.int64)

    def inverse(self, basic: NDArray[np.int64], places: NDArray[np.int64]) -> Floats:
        """Rows (places, rows) of the inverse of the basis, of rows as HiGHS has them; zeros where it has none.

        Args:
            basic: columns of the basis; -1 - row for a slack.
            places: which rows.
        """
        if len(basic) != len(self.most):
            return np.zeros((len(places), len(self.most)))
        basis = self.floats[:, np.maximum(basic, 0)] * self.scale[:, None]
        slack = np.flatnonzero(basic < 0)
        basis[:, slack] = 0.0
        basis[-1 - basic[slack], slack] = 1.0
        unit = np.zeros((len(basic), len(places)))
        unit[places, np.arange(len(places))] = 1.0
        try:
            return np.asarray(np.linalg.solve(basis.T, unit).T)
        except np.linalg.LinAlgError:
            return np.zeros((len(places), len(basic)))

    def forget(self, solution: Solution) -> None:
        """Leave out cuts that are not tight at a solution."""
        basic = self._highspy.HighsBasisStatus.kBasic
        status = solution.basis.row_status
        away = [row for row in range(self.own, len(self.most)) if status[row] == basic]
        if away:
            self.highs.deleteRows(len(away), np.array(away, np.int32))
            kept = np.setdiff1d(np.arange(len(self.most)), away)
            self._kept(self.matrix[kept], self.least[kept], self.most[kept], self.scale[kept])

    def _kept(self, matrix: Whole, least: Whole, most: Whole, scale: Floats) -> None:
        self.matrix, self.least, self.most, self.scale = matrix, least, most, scale
        for name in ("floats", "sizes", "ends", "rounded"):
            vars(self).pop(name, None)

    def between(self, low: Whole, high: Whole) -> None:
        """Set the bounds of y."""
        self.highs.changeColsBounds(len(low), self._columns, low.astype(np.float64), high.astype(np.float64))
        ends = self._scaled(*self.rows.ends(low, high), self.scale[: self.own])
        self.highs.changeRowsBounds(self.own, self._own, *ends)

    def solve(self, low: Whole, high: Whole, basis: Any = None) -> Solution | None:
        """The solution between these bounds, perhaps from a basis on; None: HiGHS gave up."""
        self.between(low, high)
        if basis is not None:
            self.highs.setBasis(basis)
        return self._run()

    def bound(self, column: int, low: int, high: int) -> None:
        """Set the bounds of one column."""
        self.highs.changeColBounds(column, float(low), float(high))

    def tried(self, column: int, low: int, high: int, basis: Any) -> Solution | None:
        """The solution with other bounds of one column, which stay; from a basis on."""
        self.bound(column, low, high)
        self.highs.setBasis(basis)
        return self._run()

    def _run(self) -> Solution | None:
        highs, status = self.highs, self._highspy.HighsModelStatus
        highs.run()
        found = highs.getModelStatus()
        if found == status.kInfeasible:
            _, known, ray = highs.getDualRay()
            weights = np.array(ray) if known else np.zeros(len(self.most))
            return Solution(True, np.inf, np.zeros(0), weights, highs.getBasis())
        if found != status.kOptimal:
            return None
        solution, value = highs.getSolution(), float(highs.getInfo().objective_function_value)
        weights = -np.array(solution.row_dual)
        return Solution(False, value, np.array(solution.col_value), weights, highs.getBasis())

    def impossible(self, solution: Solution, low: Whole, high: Whole) -> bool:
        """Whether the rows' sum, with the weights of an empty solution, is proved to contradict these bounds of y."""
        least, most = self._ends(low, high)
        for sign in (1.0, -1.0):
            whole, _ = self._whole(sign * solution.weights, low, high, 0)
            total = self._sum(whole)
            if int(np.minimum(total * low, total * high).sum()) > _at_most(whole, least, most):
                return True
        return False

    def fixed(self, solution: Solution, low: Whole, high: Whole) -> tuple[Whole, Whole]:
        """Bounds of y without what costs too much, by a solution's weights; low > high: nothing is left.

        Any weights give a true bound of the cost, and of the cost with a column one further from its best end.
        """
        rows = self.rows
        whole, unit = self._whole(solution.weights, low, high, int(np.abs(rows.cost).max()))
        worth = rows.cost * unit + self._sum(whole)
        least = int(np.minimum(worth * low, worth * high).sum()) - _at_most(whole, *self._ends(low, high))
        room = rows.limit * unit - least
        if room < 0:
            return high + 1, high
        steps = room // np.maximum(np.abs(worth), 1)
        up, down = worth > 0, worth < 0
        return np.where(down, np.maximum(low, high - steps), low), np.where(up, np.minimum(high, low + steps), high)

    def _ends(self, low: Whole, high: Whole) -> tuple[Whole, Whole]:
        """Ends of all rows between these bounds of y."""
        least, most = self.rows.ends(low, high)
        return np.append(least, self.least[self.own :]), np.append(most, self.most[self.own :])

    def _whole(self, weights: Floats, low: Whole, high: Whole, cost: int) -> tuple[Whole, int]:
        """Weights of rows as whole numbers of 1/unit, so small that float64 holds what they are used for.

        Those above zero stand for a row's upper end, the others for its lower one; without that end they are zero.
        """
        free = np.where(weights > 0, self.most >= FREE, self.least <= -FREE)
        weights = np.where(free, 0, weights) * self.scale
        sizes = np.abs(weights)
        reach = float(max(np.abs(low).max(), np.abs(high).max(), 1)) * len(low)
        size = (float((sizes @ self.sizes).max()) + 2 * cost) * reach + float(sizes @ self.ends) + abs(self.rows.limit)
        rest = self.rounded * reach + float(self.ends.sum())
        if not 0 < size < _ROOM - rest:
            return np.zeros(len(weights), np.int64), 1
        unit = 1 << min(int(np.floor(np.log2((_ROOM - rest) / size))), 50)
        return np.rint(weights * unit).astype(np.int64), unit

    def _sum(self, whole: Whole) -> Whole:
        """The rows, weighted and added up; float64 is much faster and as exact, for weights of `_whole`."""
        return (whole.astype(np.float64) @ self.floats).astype(np.int64)


def _at_most(whole: Whole, least: Whole, most: Whole) -> int:
    """What the sum of rows with these weights is at most."""
    used = np.flatnonzero(whole)
    return int(whole[used] @ np.where(whole > 0, most, least)[used])
