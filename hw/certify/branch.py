"""Branch and bound on hidden quantizers: a neuron's sums are cut at one of its steps, and each part is proved apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Multipliers, Net, Objective, Points, Regions, evaluate
from hw.certify.interval import Interval
from hw.certify.matrix import TooLarge
from hw.certify.patterns import pinned, settle
from hw.certify.search import Found, ascend, chords
from hw.certify.stages import Affine, Largest
from hw.certify.staircase import Staircase

SCALES = tuple(1 << bits for bits in (28, 20, 12))  # multipliers are whole numbers of 1/scale
_NODES_AT_ONCE = 192
_LATER_STEP = 0.1  # of a node's ascent, which starts where the one above it ended
_ENOUGH = 0.9  # a promise of so much less than what is needed is enough, see `prove`
_EVEN = 1e-9  # where no neuron costs anything, the one with most steps is cut


def prove(net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], lam: Multipliers) -> NDArray[np.bool_]:
    """Which rows are proved, in int64: the bound with these multipliers, made integers, is above `need` - 1.

    What is bounded is a whole number: above `need` - 1 it is at least `need`.
    """
    for scale in SCALES:
        whole = {out: np.rint(value * scale).astype(np.int64) for out, value in lam.items()}
        scaled = Objective({i: c * scale for i, c in goal.coefficients.items()}, goal.constant * scale)
        try:
            return np.asarray(evaluate(net, regions, scaled, whole).value > (need - 1) * scale)
        except TooLarge:
            continue
    return np.zeros(len(need), np.bool_)


def narrowed(net: Net, regions: Regions) -> tuple[Regions, NDArray[np.bool_]]:
    """Bounds of every stage's sums, from those of the stages before, and which rows nothing fulfils any more."""
    values = dict(regions.leaves)  # (1, n) where all rows share them
    reach: dict[int, Interval] = {}
    empty = np.zeros(len(regions), np.bool_)
    for stage in net.stages:
        if isinstance(stage, Largest):
            box = values[stage.source].take(stage.members)
            found = Interval(box.low.max(axis=1), box.high.max(axis=1))
        else:
            found = Interval(stage.bias, stage.bias)
            for index, matrix in net.matrices[stage.out]:
                part = matrix.interval(values[index])
                found = Interval(found.low + part.low, found.high + part.high)
        before = regions.reach[stage.out]
        low, high = np.maximum(found.low, before.low), np.minimum(found.high, before.high)
        empty |= (low > high).any(axis=1)
        found = Interval(np.minimum(low, high), np.maximum(low, high))
        reach[stage.out] = found
        plain = isinstance(stage, Largest) or stage.stairs is None
        values[stage.out] = found if plain else stage.stairs.image(found)  # type: ignore[union-attr]
    return Regions(regions.leaves, reach), empty


Broken = Callable[[NDArray[np.int64], Points], NDArray[np.bool_]]


def root(net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], steps: int) -> tuple[Found, Any]:
    """Multipliers of every row from chords and some steps, and what they prove."""
    floats = goal.floats()
    found = ascend(net, regions, floats, chords(net, regions, floats), steps, (need - _ENOUGH).astype(np.float64))
    return found, prove(net, regions, goal, need, found.multipliers)


def search(
    net: Net,
    regions: Regions,
    goal: Objective,
    need: NDArray[np.int64],
    found: Found,
    broken: Broken,
    alive: Callable[[], NDArray[np.bool_]],
    steps: int,
) -> NDArray[np.bool_]:
    """Which rows are proved by cutting; rows that `alive` no longer names are given up.

    Args:
        net: stages before the last.
        regions: one row a question.
        goal: what must be at least `need`.
        need: by row.
        found: of the root.
        broken: told of inputs that come near; it says which questions are thereby answered the other way.
        alive: which questions are still worth the time.
        steps: of each ascent.
    """
    count = len(need)
    proved, over = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    nodes = _split(net, Nodes(np.arange(count), regions, found.multipliers, found.value), found, over)
    while True:
        wanted = alive() & ~over & ~proved
        nodes = nodes.take(wanted[nodes.question])
        left = np.bincount(nodes.question, minlength=count)
        proved |= wanted & (left == 0)
        if not len(nodes.question):
            return proved
        # questions with few open parts first, and of each the part that is nearest to being closed
        order = np.lexsort((-nodes.bound, left[nodes.question]))
        now, later = nodes.take(order[:_NODES_AT_ONCE]), nodes.take(order[_NODES_AT_ONCE:])
        nodes = later.join(_work(net, goal, need, now, broken, over, steps))


@dataclass(frozen=True, eq=False)
class Nodes:
    """Parts of questions still open."""

    question: NDArray[np.int64]
    regions: Regions
    start: Multipliers
    bound: NDArray[np.float64]

    def take(self, rows: Any) -> Nodes:
        """Some of them."""
        start = {out: lam[rows] for out, lam in self.start.items()}
        return Nodes(self.question[rows], self.regions.take(rows), start, self.bound[rows])

    def join(self, other: Nodes) -> Nodes:
        """Both."""
        start = {out: np.concatenate([lam, other.start[out]]) for out, lam in self.start.items()}
        return Nodes(
            np.concatenate([self.question, other.question]),
            self.regions.join(other.regions),
            start,
            np.concatenate([self.bound, other.bound]),
        )


def _work(
    net: Net, goal: Objective, need: NDArray[np.int64], nodes: Nodes, broken: Broken, over: Any, steps: int
) -> Nodes:
    """Bound these nodes; the parts of those that stay open. Marks questions in `over` that are answered or hopeless."""
    regions, empty = narrowed(net, nodes.regions)
    nodes = replace(nodes, regions=regions).take(~empty)
    if not len(nodes.question):
        return nodes
    wanted, mine = need[nodes.question], goal.take(nodes.question)
    found = ascend(
        net, nodes.regions, mine.floats(), nodes.start, steps, (wanted - _ENOUGH).astype(np.float64), _LATER_STEP
    )
    shown = prove(net, nodes.regions, mine, wanted, found.multipliers)
    for points in found.inputs[-2:]:
        over |= broken(nodes.question, points)
    for row in np.flatnonzero(pinned(net, nodes.regions) & ~shown & ~over[nodes.question]):
        shown[row] = _settled(net, goal, need, nodes.take(np.array([row])), broken, over)
    rest = np.flatnonzero(~shown & ~over[nodes.question])
    better = replace(nodes, start=found.multipliers, bound=found.value).take(rest)
    return _split(net, better, found.some(rest), over)


def _settled(
    net: Net, goal: Objective, need: NDArray[np.int64], node: Nodes, broken: Broken, over: NDArray[np.bool_]
) -> bool:
    """Whether a node where nothing can be cut is proved after all; if not, its question is answered or given up."""
    found = settle(net, node.regions)
    if found is not None:
        multipliers, points = found
        if prove(net, node.regions, goal.take(node.question), need[node.question], multipliers)[0]:
            return True
        over |= broken(node.question, points)
    over[node.question] = True
    return False


def _split(net: Net, nodes: Nodes, found: Found, over: NDArray[np.bool_]) -> Nodes:
    """Each node in two, at the neuron that costs most; a question with a node that cannot be cut is given up."""
    stages = [s for s in net.stages if isinstance(s, Affine) and s.stairs is not None and s.out in found.loss]
    cuts = _cuts(stages, nodes.regions, found)
    over[nodes.question[cuts.stage < 0]] = True
    halves = []
    for upper in (False, True):
        reach = {out: Interval(b.low.copy(), b.high.copy()) for out, b in nodes.regions.reach.items()}
        for number, stage in enumerate(stages):
            rows = np.flatnonzero(cuts.stage == number)
            neuron, start = cuts.neuron[rows], cuts.start[rows]
            if upper:
                reach[stage.out].low[rows, neuron] = start
            else:
                reach[stage.out].high[rows, neuron] = start - 1
        halves.append(replace(nodes, regions=Regions(nodes.regions.leaves, reach)))
    return halves[0].join(halves[1])


@dataclass(frozen=True, eq=False)
class _Cuts:
    """Where each node is cut: which stage (-1: nowhere), which neuron, and from which sum on the upper part is."""

    stage: NDArray[np.int64]
    neuron: NDArray[np.int64]
    start: NDArray[np.int64]


def _cuts(stages: list[Affine], regions: Regions, found: Found) -> _Cuts:
    rows = np.arange(len(regions))
    best = np.zeros(len(rows))
    cuts = _Cuts(np.full(len(rows), -1), np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64))
    for number, stage in enumerate(stages):
        reach, stairs = regions.reach[stage.out], stage.stairs
        assert stairs is not None
        first, last = stairs.index(reach.low), stairs.index(reach.high)
        loss = np.where(last > first, np.maximum(found.loss[stage.out], 0) + _EVEN * (last - first), 0.0)
        neuron = loss.argmax(axis=1)
        ends = Interval(reach.low[rows, neuron], reach.high[rows, neuron])
        start = _cut(stairs, ends, found.place[stage.out][rows, neuron])
        better = loss[rows, neuron] > best
        best = np.where(better, loss[rows, neuron], best)
        for kept, new in ((cuts.stage, number), (cuts.neuron, neuron), (cuts.start, start)):
            kept[better] = np.broadcast_to(new, better.shape)[better]
    return cuts


def _cut(stairs: Staircase, ends: Interval, place: NDArray[np.float64]) -> NDArray[np.int64]:
    """From which sum on the upper part is: at the step nearest to `place`."""
    first, last = stairs.index(ends.low), stairs.index(ends.high)
    step = np.clip(np.searchsorted(stairs.starts, place, "right") - 1, first, last)
    after = np.minimum(step + 1, last)
    nearer = (place - stairs.starts[step] < stairs.starts[after] - place) | (after == step)
    level = np.clip(np.where(nearer, step, after), first + 1, np.maximum(last, first + 1))
    start: NDArray[np.int64] = stairs.starts[np.minimum(level, len(stairs.starts) - 1)]
    return start
