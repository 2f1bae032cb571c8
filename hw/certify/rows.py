"""What every input that is decided wrongly fulfils, as inequalities between whole numbers.

Columns are the inputs and, for each neuron, how many steps of its quantizer it has passed; steps that are alike share a
column. Each sum lies between two weighted sums of these numbers, and values are weighted sums of them too. Steps of
other widths or heights get columns of their own, each open to the next only when it is full (the incremental model of a
piecewise function, Markowitz and Manne 1957). Ties to even make steps one longer or shorter in turn: they count as
alike, so a sum's row is wider by one than it needs to be, until its step is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Regions
from hw.certify.interval import Interval
from hw.certify.stages import Affine
from hw.certify.staircase import Staircase

#: No end, on either side.
FREE = 1 << 60

_CELLS = 1 << 22  # numbers of a matrix; larger ones take too long
_SAFE = 2.0**50  # no weighted sum of columns may be larger, so that float64 adds whole numbers exactly
_ALIKE = 1  # widths of steps that differ by no more are alike

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ladders:
    """The neurons with steps: which columns and rows they have.

    Args:
        first: (neurons + 1,) the first column of each, in the order of filling; and where they end.
        below: (neurons,) the row that keeps the sum from below.
        above: (neurons,) from above; often the same row.
        least: (neurons, steps) what the former is at least, by the step that the sum is on.
        most: likewise the latter at most.
    """

    first: Whole
    below: Whole
    above: Whole
    least: Whole
    most: Whole


@dataclass(frozen=True, eq=False)
class Rows:
    """least <= matrix @ y <= most for whole numbers y from `low` to `high`, wherever a decision is wrong.

    Args:
        matrix: (rows, n).
        least: (rows,), or -FREE.
        most: (rows,), or FREE.
        low: (n,).
        high: (n,).
        cost: (n,), of the difference of outputs, without its constant.
        limit: cost @ y is at most this where a decision is wrong; it is the last row as well.
        steps: (n,) which columns count steps.
        leaves: by leaf, its first column, and how many it has.
        ladders: of the neurons with steps.
    """

    matrix: Whole
    least: Whole
    most: Whole
    low: Whole
    high: Whole
    cost: Whole
    limit: int
    steps: NDArray[np.bool_]
    leaves: dict[int, tuple[int, int]]
    ladders: Ladders

    def ends(self, low: Whole, high: Whole) -> tuple[Whole, Whole]:
        """`least` and `most` between closer bounds of y: exactly the step's where a neuron has only one left."""
        least, most, ladders = self.least.copy(), self.most.copy(), self.ladders
        if len(ladders.below):
            begin, end = ladders.first[0], ladders.first[-1]
            passed = np.add.reduceat(low[begin:end], ladders.first[:-1] - begin)
            known = np.flatnonzero(passed == np.add.reduceat(high[begin:end], ladders.first[:-1] - begin))
            least[ladders.below[known]] = ladders.least[known, passed[known]]
            most[ladders.above[known]] = ladders.most[known, passed[known]]
        return least, most


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
    made.add(cost, most=need - 1 - constant)
    matrix, least, most = np.array(made.rows), np.array(made.least), np.array(made.most)
    reach = np.abs(matrix.astype(np.float64)) @ np.maximum(np.abs(made.low), np.abs(made.high))
    ends = np.concatenate([least[least > -FREE], most[most < FREE]])
    if reach.max() + np.abs(ends).max() >= _SAFE:
        return None
    steps = np.arange(made.size) >= made.inputs
    limit = need - 1 - constant
    return Rows(matrix, least, most, made.low, made.high, cost, limit, steps, made.leaves, made.ladders())


@dataclass(frozen=True, eq=False)
class _Runs:
    """The steps that a neuron's sum may reach.

    Args:
        counts: how many steps each column has.
        below: how much a step of each column moves the lower end of the sum.
        above: and the upper end.
        values: and the value.
        least: (steps + 1,) the lower end on each step, less what `below` has moved it.
        most: and the upper one, less what `above` has.
    """

    counts: Whole
    below: Whole
    above: Whole
    values: Whole
    least: Whole
    most: Whole

    @classmethod
    def of(cls, stairs: Staircase, low: int, high: int) -> _Runs:
        """The steps between two sums."""
        first, last = (int(step) for step in stairs.index(np.array([low, high])))
        starts, values = stairs.starts[first + 1 : last + 1], np.diff(stairs.values[first : last + 1])
        begins, ends = np.append(low, starts), np.append(starts - 1, high)
        below, above = np.diff(begins), np.diff(ends)
        if len(starts) > 1:
            usual = round(int(starts[-1] - starts[0]) / (len(starts) - 1))
            below[0], above[-1] = max(below[0], usual), max(above[-1], usual)  # as if the range ended with a whole step
            for widths in (below, above):
                widths[np.abs(widths - usual) <= _ALIKE] = usual
        kinds = np.stack([below, above, values])
        changes = np.flatnonzero((kinds[:, 1:] != kinds[:, :-1]).any(axis=0)) + 1
        cuts = [0]
        for begin, end in pairwise([*changes.tolist(), len(starts)]):
            # a run after a longer one begins with a column of one step, which is either full or not
            cuts += [begin, begin + 1] if begin - cuts[-1] > 1 and end - begin > 1 else [begin]
        least, most = begins - np.append(0, np.cumsum(below)), ends - np.append(0, np.cumsum(above))
        return cls(np.diff(np.append(cuts, len(starts))), below[cuts], above[cuts], values[cuts], least, most)


class _Maker:
    """Columns of all leaves and stages first, then row by row."""

    def __init__(self, net: Net, regions: Regions) -> None:
        self.rows: list[Whole] = []
        self.least: list[int] = []
        self.most: list[int] = []
        self.neurons: list[tuple[int, int, int, Whole, Whole]] = []
        self.values: dict[int, tuple[Whole, Whole]] = {}  # a value is base + columns @ y
        self.leaves: dict[int, tuple[int, int]] = {}
        self.inputs = 0
        for index in net.leaves:
            self.leaves[index] = self.inputs, regions.leaves[index].low.shape[1]
            self.inputs += self.leaves[index][1]
        self.runs: dict[int, dict[int, _Runs]] = {}  # by stage and neuron
        for stage in net.stages:
            assert isinstance(stage, Affine)
            self.runs[stage.out] = _runs(stage, regions.reach[stage.out])
        self.used = self.inputs
        every = [runs for own in self.runs.values() for runs in own.values()]
        self.size = self.inputs + sum(len(runs.counts) for runs in every)
        #: The matrix' size, about.
        self.cells = (self.size + 2 * sum(len(s.bias) for s in net.stages if isinstance(s, Affine))) * self.size
        boxes = [regions.leaves[index] for index in net.leaves]
        self.low = np.concatenate([*(box.low[0] for box in boxes), np.zeros(self.size - self.inputs, np.int64)])
        self.high = np.concatenate([*(box.high[0] for box in boxes), *(runs.counts for runs in every)])
        if self.cells <= _CELLS:
            for index, (first, count) in self.leaves.items():
                self.values[index] = np.zeros(count, np.int64), np.eye(count, self.size, first, np.int64)

    def add(self, row: Whole, least: int = -FREE, most: int = FREE) -> int:
        """least <= row @ y <= most; the row's place."""
        self.rows.append(row)
        self.least.append(int(least))
        self.most.append(int(most))
        return len(self.rows) - 1

    def stage(self, stage: Affine, net: Net, reach: Interval) -> None:
        """The rows of a stage, and its values."""
        sums, constant = np.zeros((len(stage.bias), self.size), np.int64), stage.bias.astype(np.int64)
        for index, matrix in net.matrices[stage.out]:
            base, columns = self.values[index]
            dense = matrix.sparse.toarray().astype(np.int64)
            sums, constant = sums + dense @ columns, constant + dense @ base
        runs = self.runs[stage.out]
        self._within(sums, constant, reach, np.setdiff1d(np.arange(len(sums)), list(runs)))
        if stage.stairs is None:
            self.values[stage.out] = constant, sums
            return
        values = np.zeros_like(sums)
        for neuron, own in runs.items():
            values[neuron, self._ladder(own, sums[neuron], int(constant[neuron]))] = own.values
        self.values[stage.out] = stage.stairs.values[stage.stairs.index(reach.low[0])].astype(np.int64), values

    def _ladder(self, runs: _Runs, sums: Whole, constant: int) -> range:
        """The rows of one neuron; its columns."""
        columns = range(self.used, self.used + len(runs.counts))
        self.used = columns.stop
        below, above = sums.copy(), sums.copy()
        below[columns] -= runs.below
        above[columns] -= runs.above
        least, most = runs.least - constant, runs.most - constant
        if (below == above).all():
            rows = 2 * (self.add(above, least.min(), most.max()),)
        else:
            rows = self.add(below, least=least.min()), self.add(above, most=most.max())
        self.neurons.append((columns.start, *rows, least, most))
        for (lower, many), (upper, more) in pairwise(zip(columns, runs.counts.tolist(), strict=True)):
            row = np.zeros(self.size, np.int64)
            row[upper], row[lower] = many, -more  # one of them has a single step: none above before all are below
            self.add(row, most=0)
        return columns

    def ladders(self) -> Ladders:
        """Of the neurons with steps."""
        longest = max((len(least) for *_, least, _ in self.neurons), default=0)
        least, most = (np.zeros((len(self.neurons), longest), np.int64) for _ in range(2))
        for neuron, (*_, lower, upper) in enumerate(self.neurons):
            least[neuron, : len(lower)], most[neuron, : len(upper)] = lower, upper
        first, below, above = (np.array([one[i] for one in self.neurons], np.int64) for i in range(3))
        return Ladders(np.append(first, self.used), below, above, least, most)

    def _within(self, sums: Whole, constant: Whole, reach: Interval, neurons: NDArray[np.int64]) -> None:
        """Bounds of the sums of neurons without steps, where their columns alone do not keep them."""
        least = constant + np.minimum(sums * self.low, sums * self.high).sum(axis=1)
        most = constant + np.maximum(sums * self.low, sums * self.high).sum(axis=1)
        for neuron in neurons[((least < reach.low[0]) | (most > reach.high[0]))[neurons]]:
            self.add(sums[neuron], reach.low[0, neuron] - constant[neuron], reach.high[0, neuron] - constant[neuron])


def _runs(stage: Affine, reach: Interval) -> dict[int, _Runs]:
    """By neuron, the steps of those that have more than one to be on."""
    if stage.stairs is None:
        return {}
    moving = np.flatnonzero(stage.stairs.index(reach.low[0]) < stage.stairs.index(reach.high[0]))
    return {int(i): _Runs.of(stage.stairs, int(reach.low[0, i]), int(reach.high[0, i])) for i in moving}
