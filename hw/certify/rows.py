"""What every input that is decided wrongly fulfils, as inequalities between whole numbers.

Columns are the inputs and, for each step that a neuron may reach, a number that is 1 from this step on and 0 below it.
Sums lie between two weighted sums of these numbers, on every step exactly where the quantizer has it (the incremental
model of a piecewise function, Markowitz and Manne 1957). Values are weighted sums of them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Regions
from hw.certify.interval import Interval
from hw.certify.stages import Affine

_CELLS = 1 << 22  # numbers of a matrix; larger ones take too long
_SAFE = 2.0**50  # no weighted sum of columns may be larger, so that float64 adds whole numbers exactly

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """matrix @ y <= right for whole numbers y from `low` to `high`, wherever a decision is wrong.

    Args:
        matrix: (rows, n).
        right: (rows,).
        low: (n,).
        high: (n,).
        cost: (n,), of the difference of outputs, without its constant.
        most: cost @ y is at most this where a decision is wrong; it is the last row as well.
        steps: (n,) which columns are steps, from 0 to 1.
        leaves: by leaf, its first column, and how many it has.
    """

    matrix: Whole
    right: Whole
    low: Whole
    high: Whole
    cost: Whole
    most: int
    steps: NDArray[np.bool_]
    leaves: dict[int, tuple[int, int]]


def rows_of(net: Net, regions: Regions, goal: Objective, need: int) -> Rows | None:
    """The rows of one question; None where its network cannot be written like this, or is too large.

    Args:
        net: stages.
        regions: one row.
        goal: one row, below `need` where a decision is wrong.
        need: a whole number.
    """
    if not net.stages or net.groups or not all(isinstance(s, Affine) for s in net.stages):
        return None
    made = _Maker(net, regions)
    if made.cells > _CELLS:
        return None
    for stage in net.stages:
        assert isinstance(stage, Affine)
        made.stage(stage, net, regions.reach[stage.out])
    cost, constant = np.zeros(made.size, np.int64), int(goal.constant[0])
    for index, weights in goal.coefficients.items():
        base, columns = made.values[index]
        cost, constant = cost + weights[0] @ columns, constant + int(weights[0] @ base)
    made.add(cost, need - 1 - constant)
    matrix, right = np.array(made.rows), np.array(made.right)
    reach = np.abs(matrix.astype(np.float64)) @ np.maximum(np.abs(made.low), np.abs(made.high))
    if reach.max() + np.abs(right).max() >= _SAFE:
        return None
    steps = np.arange(made.size) >= made.inputs
    return Rows(matrix, right, made.low, made.high, cost, need - 1 - constant, steps, made.leaves)


class _Maker:
    """Columns of all leaves and stages first, then row by row."""

    def __init__(self, net: Net, regions: Regions) -> None:
        self.rows: list[Whole] = []
        self.right: list[int] = []
        self.values: dict[int, tuple[Whole, Whole]] = {}  # a value is base + columns @ y
        self.leaves: dict[int, tuple[int, int]] = {}
        self.inputs = 0
        for index in net.leaves:
            self.leaves[index] = self.inputs, regions.leaves[index].low.shape[1]
            self.inputs += self.leaves[index][1]
        self.first: dict[int, Whole] = {}  # by stage, the first column of every neuron, and the one after the last
        at = self.inputs
        for stage in net.stages:
            assert isinstance(stage, Affine)
            reach = regions.reach[stage.out]
            steps = np.zeros(len(stage.bias), np.int64)
            if stage.stairs is not None:
                steps = stage.stairs.index(reach.high[0]) - stage.stairs.index(reach.low[0])
            self.first[stage.out] = at + np.concatenate([[0], np.cumsum(steps)])
            at = int(self.first[stage.out][-1])
        self.size = at
        #: The matrix' size, about.
        self.cells = (self.size + 2 * sum(len(s.bias) for s in net.stages if isinstance(s, Affine))) * self.size
        boxes, none = [regions.leaves[index] for index in net.leaves], np.zeros(at - self.inputs, np.int64)
        self.low = np.concatenate([*(box.low[0] for box in boxes), none])
        self.high = np.concatenate([*(box.high[0] for box in boxes), none + 1])
        if self.cells <= _CELLS:
            for index, (first, count) in self.leaves.items():
                self.values[index] = np.zeros(count, np.int64), np.eye(count, self.size, first, np.int64)

    def add(self, row: Whole, right: int) -> None:
        """row @ y <= right."""
        self.rows.append(row)
        self.right.append(int(right))

    def stage(self, stage: Affine, net: Net, reach: Interval) -> None:
        """The rows of a stage, and its values."""
        sums, constant = np.zeros((len(stage.bias), self.size), np.int64), stage.bias.astype(np.int64)
        for index, matrix in net.matrices[stage.out]:
            base, columns = self.values[index]
            dense = matrix.sparse.toarray().astype(np.int64)
            sums, constant = sums + dense @ columns, constant + dense @ base
        first = self.first[stage.out]
        self._within(sums, constant, reach, np.flatnonzero(first[:-1] == first[1:]))
        if stage.stairs is None:
            self.values[stage.out] = constant, sums
            return
        lowest, stairs = stage.stairs.index(reach.low[0]), stage.stairs
        values = np.zeros_like(sums)
        for neuron, columns_of in enumerate(pairwise(first)):
            own, bottom = np.arange(*columns_of), int(lowest[neuron])
            if not len(own):
                continue
            starts = stairs.starts[bottom + 1 : bottom + 1 + len(own)]
            ends = np.array([reach.low[0, neuron], *starts, reach.high[0, neuron] + 1])
            below, above = -sums[neuron], sums[neuron].copy()
            below[own] += np.diff(ends[:-1])  # the sum is at least where its step begins
            above[own] -= np.diff(ends[1:])  # and below where the next one does
            self.add(below, constant[neuron] - ends[0])
            self.add(above, ends[1] - 1 - constant[neuron])
            values[neuron, own] = np.diff(stairs.values[bottom : bottom + 1 + len(own)])
            for lower, upper in pairwise(own):
                row = np.zeros(self.size, np.int64)
                row[upper], row[lower] = 1, -1
                self.add(row, 0)
        self.values[stage.out] = stairs.values[lowest].astype(np.int64), values

    def _within(self, sums: Whole, constant: Whole, reach: Interval, neurons: NDArray[np.int64]) -> None:
        """Bounds of the sums of neurons without steps, where their columns alone do not keep them."""
        least = constant + np.minimum(sums * self.low, sums * self.high).sum(axis=1)
        most = constant + np.maximum(sums * self.low, sums * self.high).sum(axis=1)
        for neuron in neurons[(least < reach.low[0])[neurons]]:
            self.add(-sums[neuron], constant[neuron] - reach.low[0, neuron])
        for neuron in neurons[(most > reach.high[0])[neurons]]:
            self.add(sums[neuron], reach.high[0, neuron] - constant[neuron])
