"""What neurons that see the same few inputs can be together, and the smaller network that starts from them.

The pooled values of a first convolution see few inputs each, and most combinations of their levels never occur. The
combinations that may occur are collected by branch and bound over the box of these inputs, in integers: a part where
every neuron is on one level has one combination; a part all of whose combinations are known adds nothing; another one
is halved. When the time is up all combinations of the parts that are left are added. So none is ever missed.

The network behind these values then has them for its leaf: what lies before is in the combinations.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Regions
from hw.certify.groups import Group
from hw.certify.interval import Interval
from hw.certify.matrix import Matrix
from hw.certify.nodes import narrowed
from hw.certify.stages import Affine, Largest, Stage
from hw.certify.tighten import deep

_MOST_NEURONS = 400  # that can change: which belong together is asked pair by pair
_MOST_INPUTS = 24  # that a group may see
_MOST_LEVELS = 1 << 12  # combinations of levels that a group may have
_LISTED = 64  # combinations of a part that are looked up one by one
_AT_ONCE, _PARTS = 1024, 3_000  # parts that are bounded together, and in all
_SAMPLES = 2048


def joined(net: Net, regions: Regions, goal: Objective) -> tuple[Net, Regions] | None:
    """The stages behind the last value that sees few inputs, with groups of its elements for leaves.

    Args:
        net: stages of one box (`shrink`).
        regions: one row.
        goal: what will be asked.

    Returns:
        None where there is no such value, or where something else is read behind it.
    """
    for stage in reversed(deep(net)):
        if len(net.matrices[stage.out]) == 1:
            ((value, _),) = net.matrices[stage.out]
            found = None if value in net.leaves else groups(net, regions, value)
            if found is not None:
                return _behind(net, regions, goal, stage, value, found)
    return None


def _behind(
    net: Net, regions: Regions, goal: Objective, reader: Affine, value: int, found: tuple[Group, ...]
) -> tuple[Net, Regions] | None:
    """What `joined` returns for this value, which `reader` reads."""
    at = next(i for i, s in enumerate(net.stages) if s.out == value)
    after = net.stages[at + 1 :]
    known = {value, *(s.out for s in after)}
    if not known >= set(goal.coefficients).union(*(_read(net, s) for s in after)):
        return None
    matrices = {s.out: net.matrices[s.out] for s in after if isinstance(s, Affine)}
    small, box = Net(after, matrices, (value,), {value: found}), regions.outputs(net, value)
    reach = {s.out: regions.reach[s.out] for s in after}
    reach[reader.out] = _sums(reader, matrices[reader.out][0][1], box, found, reach[reader.out])
    return small, narrowed(small, Regions({value: box}, reach))[0]


def _read(net: Net, stage: Stage) -> set[int]:
    """The values that a stage reads: those of a shrunk one are in the net's matrices only."""
    return {stage.source} if isinstance(stage, Largest) else {index for index, _ in net.matrices[stage.out]}


def _sums(stage: Affine, matrix: Matrix, box: Interval, found: tuple[Group, ...], before: Interval) -> Interval:
    """Bounds (1, n) of a stage's sums: every group at its best combination, all other elements at their best."""
    low = stage.bias + matrix.forward(box.low)[0]
    high = low.copy()
    rest = Interval(np.zeros_like(box.low), box.high - box.low)
    for group in found:
        worth = matrix.sparse[:, group.elements] @ (group.combinations - box.low[0, group.elements]).T
        low, high = low + worth.min(axis=1), high + worth.max(axis=1)
        rest.high[0, group.elements] = 0
    others = matrix.interval(rest)
    return Interval(np.maximum(before.low, low + others.low), np.minimum(before.high, high + others.high))


def groups(net: Net, regions: Regions, value: int) -> tuple[Group, ...] | None:
    """Groups of the elements of a value that can change, by the inputs that they see; None where one sees many."""
    box = regions.outputs(net, value)
    moving = np.flatnonzero(box.low[0] < box.high[0])
    seen = _seen(net, value) if 0 < len(moving) <= _MOST_NEURONS else None
    if seen is None:
        return None
    leaf, inputs = seen
    if inputs[moving].sum(axis=1).max() > _MOST_INPUTS:
        return None
    rng = np.random.default_rng(0)
    sizes = (box.high - box.low)[0] + 1
    found = []
    for elements in _merged(inputs, moving, sizes):
        few = np.flatnonzero(inputs[elements].any(axis=0))
        small, parts = _cut_out(net, regions, value, elements, leaf, few)
        base = box.low[0, elements]
        found.append(Group(elements, base + _Collector(small, parts, base, sizes[elements]).run(rng)))
    return tuple(found)


def _merged(inputs: NDArray[np.bool_], moving: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Groups of elements: those that share most of their inputs are put together, as long as a group stays small."""
    seen = [inputs[element] for element in moving]
    found = [(np.array([element]), int(sizes[element])) for element in moving]
    while True:
        sets = np.array(seen, np.float64).reshape(len(seen), -1)
        count, levels = sets.sum(axis=1), np.array([n for _, n in found], np.float64)
        common = sets @ sets.T
        union = count[:, None] + count - common
        allowed = (union <= _MOST_INPUTS) & (levels[:, None] * levels <= _MOST_LEVELS) & (common > 0)
        np.fill_diagonal(allowed, False)
        if not allowed.any():
            break
        one, two = divmod(int(np.where(allowed, common / union, 0).argmax()), len(seen))
        one, two = min(one, two), max(one, two)
        (ours, many), (theirs, more) = found[one], found[two]
        seen[one], found[one] = seen[one] | seen[two], (np.concatenate([ours, theirs]), many * more)
        del seen[two], found[two]
    return [np.sort(elements) for elements, _ in found if len(elements) > 1]


def _seen(net: Net, value: int) -> tuple[int, NDArray[np.bool_]] | None:
    """The leaf that a value depends on, and which of its elements each element sees."""
    stage = next(s for s in net.stages if s.out == value)
    if isinstance(stage, Largest):
        before = None if stage.source in net.leaves else _seen(net, stage.source)
        return before and (before[0], before[1][stage.members].any(axis=0))
    if len(net.matrices[value]) != 1:
        return None
    ((read, matrix),) = net.matrices[value]
    linked = (matrix.sparse != 0).toarray()
    if read in net.leaves:
        return read, linked
    before = _seen(net, read)
    return before and (before[0], (linked.astype(np.float32) @ before[1].astype(np.float32)) > 0)


def _cut_out(
    net: Net, regions: Regions, value: int, elements: NDArray[np.int64], leaf: int, few: NDArray[np.int64]
) -> tuple[Net, Regions]:
    """The stages that lead from some elements of a leaf to some of a value, and their one row."""
    stages: list[Stage] = []
    matrices: dict[int, tuple[tuple[int, Matrix], ...]] = {}
    reach: dict[int, Interval] = {}
    wanted = elements
    while value not in net.leaves:
        stage = next(s for s in net.stages if s.out == value)
        reach[value] = regions.reach[value].take(wanted)
        if isinstance(stage, Largest):
            read, value = np.unique(stage.members[:, wanted]), stage.source
            stages.append(replace(stage, members=np.searchsorted(read, stage.members[:, wanted]), inputs=len(read)))
        else:
            ((source, matrix),) = net.matrices[value]
            rows = matrix.sparse[wanted]
            read = few if source == leaf else np.unique(rows.indices)
            matrices[value] = ((source, Matrix(rows[:, read].tocsr())),)
            stages.append(replace(stage, bias=stage.bias[wanted], parts=()))
            value = source
        wanted = read
    small = Net(tuple(reversed(stages)), matrices, (leaf,))
    return small, Regions({leaf: regions.leaves[leaf].take(few)}, reach)


class _Collector:
    """Collects the combinations of levels, as numbers whose digits they are."""

    def __init__(self, net: Net, regions: Regions, base: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.net, self.regions, self.base, self.sizes = net, regions, base, sizes
        self.leaf = net.leaves[0]
        self.digit = np.append(1, np.cumprod(sizes[:-1]))
        self.known = np.zeros(int(sizes.prod()), np.bool_)

    def run(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Levels (count, n) above the lowest ones: all that may occur."""
        box = self.regions.leaves[self.leaf]
        inside = rng.integers(box.low, box.high + 1, (_SAMPLES, box.low.shape[1]))
        share = rng.random((_SAMPLES, 1))
        corner = np.where(rng.random(inside.shape) < share, box.low, box.high)
        points = np.where(rng.random((_SAMPLES, 1)) < 0.3, inside, corner)
        self._open(self._bounded(Interval(points, points))[0])
        left, done = box, 0
        while len(left.low) and done < _PARTS:
            now = Interval(left.low[:_AT_ONCE], left.high[:_AT_ONCE])
            done += len(now.low)
            levels, weight = self._bounded(now)
            open_now = self._open(levels)
            halves = _halves(now, weight, np.flatnonzero(open_now))
            left = Interval(*(np.concatenate([end[_AT_ONCE:], new]) for end, new in zip(left, halves, strict=True)))
        for first in range(0, len(left.low), _AT_ONCE):
            levels, _ = self._bounded(Interval(left.low[first : first + _AT_ONCE], left.high[first : first + _AT_ONCE]))
            for low, high in np.unique(np.stack(levels, axis=1), axis=0):
                self.known[self._all(low, high)] = True
        return np.stack([np.flatnonzero(self.known) // d % s for d, s in zip(self.digit, self.sizes, strict=True)], 1)

    def _bounded(self, box: Interval) -> tuple[Interval, NDArray[np.float64]]:
        """Levels (parts, n) above the lowest ones, and how much each input moves what is not settled."""
        rows = np.zeros(len(box.low), np.int64)
        regions, _ = narrowed(self.net, replace(self.regions.take(rows), leaves={self.leaf: box}))
        last, first = self.net.stages[-1].out, self.net.stages[0]
        levels = regions.outputs(self.net, last)
        settled = regions.outputs(self.net, first.out)
        matrix = abs(self.net.matrices[first.out][0][1].sparse)
        weight = (settled.low < settled.high).astype(np.float64) @ matrix.toarray() * (box.high - box.low)
        # a part that no input of the ball lies in may have any levels: they are only kept from being no index
        low, high = (np.clip(end - self.base, 0, self.sizes - 1) for end in levels)
        return Interval(low, high), weight

    def _open(self, levels: Interval) -> NDArray[np.bool_]:
        """Parts (count,) with a combination that is not known yet; those of one combination make it known."""
        one = (levels.low == levels.high).all(axis=1)
        self.known[levels.low[one] @ self.digit] = True
        pairs, place = np.unique(np.concatenate(levels, axis=1), axis=0, return_inverse=True)
        low, high = np.split(pairs, 2, axis=1)
        many = (high - low + 1).prod(axis=1) > _LISTED
        fresh = [bool(m) or not self.known[self._all(a, b)].all() for m, a, b in zip(many, low, high, strict=True)]
        return np.asarray(fresh)[place.reshape(-1)]

    def _all(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of all combinations between two."""
        found = np.zeros(1, np.int64)
        for least, most, digit in zip(low, high, self.digit, strict=True):
            found = (found[:, None] + np.arange(least, most + 1) * digit).reshape(-1)
        return found


def _halves(box: Interval, weight: NDArray[np.float64], rows: NDArray[np.int64]) -> Interval:
    """Some parts (count, inputs), each in two at the input that weighs most."""
    at = weight[rows].argmax(axis=1)
    low, high = box.low[rows], box.high[rows]
    place = np.arange(len(rows)), at
    middle = (low[place] + high[place]) // 2
    below, above = high.copy(), low.copy()
    below[place], above[place] = middle, middle + 1
    return Interval(np.concatenate([low, above]), np.concatenate([below, high]))
