"""The linear program of some rows: HiGHS solves it in floats, and what follows is checked in whole numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.rows import FREE, Rows, Whole

_ROOM = 2.0**52  # what sums of whole numbers may come to: float64 holds them
#: Rows are scaled here already; other costs, to be changed back in the end, help large programs only.
_OPTIONS = {
    "output_flag": False,
    "presolve": "off",
    "threads": 1,
    "simplex_scale_strategy": 0,
    "dual_simplex_cost_perturbation_multiplier": 0.0,
}

Floats = NDArray[np.float64]


class Relaxation:
    """min cost @ y over the rows, their cuts, and bounds of y, with y no longer whole.

    `matrix`, `least` and `most` hold all rows between the last bounds of y; those from `own` on are cuts.
    """

    def __init__(self, rows: Rows) -> None:
        import highspy  # takes a quarter of a second to load

        self.rows, self.own = rows, len(rows.most)
        self.matrix, self.least, self.most = rows.matrix[:0], rows.least[:0], rows.most[:0]
        self.scale: Floats = np.zeros(0)  # of each row as HiGHS has it: powers of two
        self._highspy: Any = highspy
        self.highs = self._highspy.Highs()
        for option, value in _OPTIONS.items():
            self.highs.setOptionValue(option, value)
        count = len(rows.cost)
        none = np.zeros(0, np.int32)
        self._columns, self._own = np.arange(count, dtype=np.int32), np.arange(self.own, dtype=np.int32)
        ends = rows.low.astype(np.float64), rows.high.astype(np.float64)
        self.highs.addCols(count, rows.cost.astype(np.float64), *ends, 0, np.zeros(count, np.int32), none, np.zeros(0))
        self.add(rows.matrix, rows.least, rows.most)
        self.empty, self.done = False, False
        self.point: Floats = np.zeros(count)
        self.value = 0.0

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
        """(rows,) the larger magnitude of each row's ends."""
        ends = (np.where(np.abs(end) < FREE, np.abs(end), 0) for end in (self.least, self.most))
        return np.maximum(*ends).astype(np.float64)

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

    def basis(self) -> NDArray[np.int64]:
        """(rows,) columns of the last basis; -1 - row for a slack.

        HiGHS' own functions for this, and for `inverse`, end in segmentation faults now and then (seen with 1.15.1).
        """
        basis, basic = self.highs.getBasis(), self._highspy.HighsBasisStatus.kBasic
        columns = [at for at, status in enumerate(basis.col_status) if status == basic]
        slacks = [-1 - at for at, status in enumerate(basis.row_status) if status == basic]
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

    def forget(self) -> None:
        """Leave out cuts that are not tight at the last solution."""
        basic = self._highspy.HighsBasisStatus.kBasic
        status = self.highs.getBasis().row_status
        away = [row for row in range(self.own, len(self.most)) if status[row] == basic]
        if away:
            self.highs.deleteRows(len(away), np.array(away, np.int32))
            kept = np.setdiff1d(np.arange(len(self.most)), away)
            self._kept(self.matrix[kept], self.least[kept], self.most[kept], self.scale[kept])

    def _kept(self, matrix: Whole, least: Whole, most: Whole, scale: Floats) -> None:
        self.matrix, self.least, self.most, self.scale = matrix, least, most, scale
        for name in ("floats", "sizes", "ends"):
            vars(self).pop(name, None)

    def solve(self, low: Whole, high: Whole) -> None:
        """Solve it between other bounds; `empty`, or else `point` and `value`. Not `done`: HiGHS gave up."""
        self.highs.changeColsBounds(len(low), self._columns, low.astype(np.float64), high.astype(np.float64))
        least, most = self.rows.ends(low, high)
        self.highs.changeRowsBounds(self.own, self._own, *self._scaled(least, most, self.scale[: self.own]))
        self.least[: self.own], self.most[: self.own] = least, most
        vars(self).pop("ends", None)
        self._run()

    def tried(self, column: int, low: float, high: float, basis: Any) -> None:
        """Solve it with other bounds of one column, which stay; from a basis."""
        self.highs.changeColBounds(column, low, high)
        self.highs.setBasis(basis)
        self._run()

    def _run(self) -> None:
        status = self._highspy.HighsModelStatus
        self.highs.run()
        found = self.highs.getModelStatus()
        self.empty, self.done = found == status.kInfeasible, found in (status.kInfeasible, status.kOptimal)
        if found == status.kOptimal:
            self.point = np.array(self.highs.getSolution().col_value)
            self.value = float(self.highs.getInfo().objective_function_value)

    def impossible(self, low: Whole, high: Whole) -> bool:
        """After `empty`: whether the rows' sum, weighted as HiGHS says, is proved to contradict the bounds."""
        _, known, ray = self.highs.getDualRay()
        if not known:
            return False
        for sign in (1.0, -1.0):
            whole, _ = self._whole(sign * np.array(ray), low, high, 0)
            total = self._sum(whole)
            if int(np.minimum(total * low, total * high).sum()) > self._at_most(whole):
                return True
        return False

    def fixed(self, low: Whole, high: Whole) -> tuple[Whole, Whole]:
        """Bounds of y without what costs too much, by the last solution's multipliers; low > high: nothing is left.

        Any multipliers give a true bound of the cost, and of the cost with a column one further from its best end.
        """
        rows = self.rows
        duals = -np.array(self.highs.getSolution().row_dual)
        whole, unit = self._whole(duals, low, high, int(np.abs(rows.cost).max()))
        worth = rows.cost * unit + self._sum(whole)
        least = int(np.minimum(worth * low, worth * high).sum()) - self._at_most(whole)
        room = rows.limit * unit - least
        if room < 0:
            return high + 1, high
        steps = room // np.maximum(np.abs(worth), 1)
        up, down = worth > 0, worth < 0
        return np.where(down, np.maximum(low, high - steps), low), np.where(up, np.minimum(high, low + steps), high)

    def _whole(self, duals: Floats, low: Whole, high: Whole, cost: int) -> tuple[Whole, int]:
        """Weights of rows as whole numbers of 1/unit, so small that float64 holds what they are used for.

        Those above zero stand for a row's upper end, the others for its lower one; without that end they are zero.
        """
        up, down = np.where(self.most < FREE, duals, 0), np.where(self.least > -FREE, duals, 0)
        weights = (np.maximum(up, 0) + np.minimum(down, 0)) * self.scale
        sizes = np.abs(weights)
        reach = float(max(np.abs(low).max(), np.abs(high).max(), 1)) * len(low)
        size = (float((sizes @ self.sizes).max()) + cost) * reach + float(sizes @ self.ends)
        size += cost * reach + abs(self.rows.limit)
        rest = float(self.sizes.sum(axis=0).max()) * reach + float(self.ends.sum())  # if each is rounded up by one
        if not 0 < size < _ROOM - rest:
            return np.zeros(len(weights), np.int64), 1
        unit = 1 << min(int(np.floor(np.log2((_ROOM - rest) / size))), 50)
        return np.rint(weights * unit).astype(np.int64), unit

    def _sum(self, whole: Whole) -> Whole:
        """The rows, weighted and added up; float64 is much faster and as exact, for weights of `_whole`."""
        return (whole.astype(np.float64) @ self.floats).astype(np.int64)

    def _at_most(self, whole: Whole) -> int:
        """What this sum is at most."""
        ends = np.where(whole > 0, self.most, self.least)
        return int(whole[whole != 0] @ ends[whole != 0])
