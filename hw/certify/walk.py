"""Inputs that are decided wrongly, looked for among the steps that the first sums can be on together.

The first quantizers decide all that follows: inputs whose first sums are on the same steps are one to the rest of the
network. So this walks from steps to steps, some sums one up or down at a time, towards a smaller difference of outputs.
A linear program (HiGHS) tells whether an input has these steps. If none has, its multipliers say so of other steps too
(as in Benders, Numerische Mathematik 4, 1962). Inputs are continuous there and are made whole at the end (`whole.py`);
the device judges. Nothing is proved here. Ours, not from a source.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.first_sums import FirstSums, Floats, Whole, first_staircases
from hw.certify.relaxation import new_highs
from hw.certify.stages import reads
from hw.certify.whole import whole_inputs

_TOGETHER, _SETS = 4, 500  # so many sums move at once at most; and sets of each size that are looked at
_TRIED = 12  # programs before other moves are looked at
_LEARNT = 400  # impossible programs that are remembered
_UPHILL, _LONG = 0.1, 8  # how far uphill, in usual changes by one sum, for each move without success; and so many
_PATIENCE = 100  # moves without success after which the walk begins again
_ROUNDED = 32  # inputs that are made of one between whole numbers
_INSIDE = 0.25  # of a step: sums keep away from its ends by a usual weight, and by no more than this
_POSSIBLE = 1e-7  # a program that violates its rows by no more is possible


class Walk:
    """Of one question.

    Args:
        sums: the first ones.
        net: stages.
        regions: one row.
        goal: one row, below `need` where a decision is wrong.
        need: a whole number.
        rng: moves and rounds.
    """

    def __init__(
        self, sums: FirstSums, net: Net, regions: Regions, goal: Objective, need: int, rng: np.random.Generator
    ) -> None:
        self.sums, self.net, self.regions, self.goal, self.need, self.rng = sums, net, regions, goal, need, rng
        low, high = (sums.steps(end) for end in sums.reach())
        self.moving, self.lowest = np.flatnonzero(low < high), low
        self.most = (high - low)[self.moving]
        each = np.minimum(low + np.arange(self.most.max(initial=0) + 1)[:, None], high)
        least, most = (end[:, self.moving] - sums.bias[self.moving] for end in sums.ends(each))
        self.programs = _Programs(sums, self.moving, least.astype(np.float64), most.astype(np.float64))

    @classmethod
    def of(cls, net: Net, regions: Regions, goal: Objective, need: int, rng: np.random.Generator) -> Walk | None:
        """None: the steps of the first sums do not decide everything, or they hang together too closely to be moved."""
        sums = FirstSums.of(net, regions) if _follows(net, goal) else None
        if sums is None or len(sums.bias) > len(sums.low):
            return None
        return cls(sums, net, regions, goal, need, rng)

    def found(self, start: Callable[[], Points], alive: Callable[[], bool], show: Callable[[Points], bool]) -> bool:
        """Whether an input is decided wrongly.

        Args:
            start: leaves (1, n) to begin at, others each time.
            alive: whether there is still time.
            show: leaves (some, n) to the device; whether it decides one wrongly.
        """
        if not len(self.moving) or not alive():
            return False
        at, value = self._begin(start())
        lowest, least, idle, seen = at, value, 0, {at.tobytes()}
        uphill = _UPHILL * self._usual(at)
        while alive():
            below = value + (self.rng.exponential(uphill * min(idle, _LONG)) if idle else 0.0)
            move = self._move(at, below, seen)
            idle += 1
            if move is not None:
                at, value, inputs = move
                seen.add(at.tobytes())
                if value < self.need and show(self._whole(inputs)):
                    return True
                if value < least:
                    lowest, least, idle = at, value, 0
            if idle > _PATIENCE:
                at, value = (lowest, least) if self.rng.random() < 0.5 else self._begin(start())
                idle = 1
        return False

    def _begin(self, start: Points) -> tuple[Whole, int]:
        """The steps that the sums of leaves (1, n) are on, above the lowest, and the difference of outputs there."""
        steps = self.sums.steps(self.sums.at(self.sums.inputs(start))) - self.lowest
        at = np.clip(steps[self.moving], 0, self.most)
        return at, int(self.differences(at[None])[0])

    def differences(self, at: Whole) -> Whole:
        """The differences of outputs (N,) on some steps (N, sums that move), above the lowest ones."""
        steps = np.repeat(self.lowest[None], len(at), axis=0)
        steps[:, self.moving] += at
        found: Whole = self.goal.at(self.net.forward(self.sums.values(steps)))
        return found

    def _usual(self, at: Whole) -> float:
        """By how much the difference of outputs changes when one sum moves."""
        ones = self._near(at, 1)
        changes = np.abs(self.differences(ones) - self.differences(at[None]))
        return float(np.median(changes[changes > 0])) if changes.any() else 1.0

    def _near(self, at: Whole, together: int = _TOGETHER) -> Whole:
        """Steps (N, sums that move) near these: every sum alone, and sets of up to so many."""
        count = len(at)
        moves = [np.concatenate([np.eye(count, dtype=np.int64), -np.eye(count, dtype=np.int64)])]
        for size in range(2, min(together, count) + 1):
            which = np.argsort(self.rng.random((_SETS, count)), axis=1)[:, :size]
            sets = np.zeros((_SETS, count), np.int64)
            np.put_along_axis(sets, which, self.rng.choice((-1, 1), which.shape), axis=1)
            moves.append(sets)
        near: Whole = at + np.concatenate(moves)
        return near[((near >= 0) & (near <= self.most)).all(axis=1)]

    def _move(self, at: Whole, below: float, seen: set[bytes]) -> tuple[Whole, int, Floats] | None:
        """Steps near these that an input has, with a smaller difference of outputs than `below`; and the input."""
        near = self._near(at)
        values = self.differences(near)
        rows = np.flatnonzero(values < below)
        rows = rows[[near[row].tobytes() not in seen for row in rows]]
        rows = rows[self.programs.open(near[rows])]
        rows = rows[np.argsort(values[rows], kind="stable")]
        for _ in range(_TRIED):
            if not len(rows):
                break
            row, rows = rows[0], rows[1:]
            inputs = self.programs.inputs(near[row])
            if inputs is not None:
                return near[row], int(values[row]), inputs
            rows = rows[self.programs.open(near[rows], latest=True)]
        return None

    def _whole(self, inputs: Floats) -> Points:
        """Leaves (some, n) whose sums are likely on the same steps as those of inputs between whole numbers."""
        return whole_inputs(self.net, self.regions, self.sums.points(inputs[None]), _ROUNDED, self.rng)


class _Programs:
    """min of how far the sums of inputs in the box are from some steps, by linear programs.

    Args:
        sums: of the question.
        moving: those that are asked about.
        least: (steps, sums) the first number of each step, less the bias.
        most: likewise the last one.
    """

    def __init__(self, sums: FirstSums, moving: NDArray[np.int64], least: Floats, most: Floats) -> None:
        self.matrix, self.low, self.high = sums.matrix[moving], sums.low, sums.high
        usual = float(np.sqrt(np.mean(self.matrix[self.matrix != 0] ** 2))) if self.matrix.any() else 0.0
        inside = np.minimum(usual, _INSIDE * (most - least))
        self.least, self.most, self.each = least + inside, most - inside, np.arange(len(moving))
        self.scale = 1.0 / max(float(np.abs(self.matrix).max()), 1.0)
        self.highs = new_highs()
        count, size = self.matrix.shape
        columns = size + 2 * count  # what lacks below, and what is too much
        free, none = np.full(count, np.inf), np.zeros(0, np.int32)
        low, high = np.append(self.low, np.zeros(2 * count)), np.concatenate([self.high, free, free])
        cost = np.append(np.zeros(size), np.ones(2 * count))
        self.highs.addCols(columns, cost, low, high, 0, np.zeros(columns, np.int32), none, np.zeros(0))
        cells = np.hstack([self.matrix * self.scale, np.eye(count), -np.eye(count)])
        row, column = np.nonzero(cells)
        starts = np.searchsorted(row, self.each).astype(np.int32)
        self.highs.addRows(count, -free, free, len(row), starts, column.astype(np.int32), cells[row, column])
        self.tables: Floats = np.zeros((0, *least.shape))  # what is known to be impossible
        self.reach: Floats = np.zeros(0)

    def inputs(self, steps: Whole) -> Floats | None:
        """Inputs (inputs,) with these steps; None: there are none, or HiGHS gave up."""
        ends = self.least[steps, self.each], self.most[steps, self.each]
        self.highs.changeRowsBounds(len(steps), self.each.astype(np.int32), *(end * self.scale for end in ends))
        self.highs.run()
        solution = self.highs.getSolution()
        if not solution.value_valid or not solution.dual_valid:
            return None
        if self.highs.getInfo().objective_function_value > _POSSIBLE:
            self._learn(np.array(solution.row_dual))
            return None
        inputs: Floats = np.array(solution.col_value[: len(self.low)])
        return inputs

    def _learn(self, weights: Floats) -> None:
        """The box keeps the weighted sum of all sums below a number; steps whose ends are above it are impossible."""
        worth = weights @ self.matrix
        reach = np.maximum(worth * self.low, worth * self.high).sum()
        table = np.where(weights > 0, weights * self.least, weights * self.most)
        self.tables = np.concatenate([self.tables, table[None]])[-_LEARNT:]
        self.reach = np.append(self.reach, reach + _POSSIBLE)[-_LEARNT:]

    def open(self, steps: Whole, latest: bool = False) -> NDArray[np.bool_]:
        """Which steps (N, sums) nothing that was learnt rules out; asks only what was learnt last, if told so."""
        first = max(len(self.reach) - 1, 0) if latest else 0
        tables, totals = self.tables[first:], np.zeros((len(self.reach) - first, len(steps)))
        for place in self.each:
            totals += tables[:, steps[:, place], place]
        return np.asarray((totals <= self.reach[first:, None]).all(axis=0))


def _follows(net: Net, goal: Objective) -> bool:
    """Whether the steps of the first sums decide everything else: nothing later reads the inputs themselves."""
    later = [stage for stage in net.stages if stage not in first_staircases(net)]
    read = {index for stage in later for index in reads(stage)} | set(goal.coefficients)
    return not net.groups and not read & set(net.leaves)
