"""Branch and bound on hidden quantizers: a neuron's sums are cut at one of its steps, and each part is proved apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.assume import assumed
from hw.certify.branching import Gains, choose
from hw.certify.dual import Multipliers, Net, Objective, Points, Regions
from hw.certify.kinked import reference_of, twice
from hw.certify.fixing import fixed
from hw.certify.nodes import Cuts, Nodes, cuttable, either, exact_bound, halves, narrowed, prove, restarted
from hw.certify.patterns import between, pinned, settle
from hw.certify.search import Found, ascend, chords

_NODES_AT_ONCE = 64
_SUPPOSED = 16
_PULL, _MORE, _LESS = 0.15, 1.4, 0.7
_NEURONS_AT_ONCE = 40_000
_LATER_STEP = 0.1  # of a node's ascent, which starts where the one above it ended
_BENT_STEPS = 3  # of the ascent with a kink, for each one without
_NEAR = 0.1  # of what the root lacked: a node that lacks less gets more steps
_POLISH, _POLISH_STEP = 4, 0.03  # so many times the steps, and their first length
_STUCK = 40  # parts
_ROUNDS, _ASSUMED_STEPS, _WORTH = 4, 30, 0.85
_PROGRAMS = 200  # linear programs for one node where no neuron can be cut
_ENOUGH = 0.9  # a promise of so much less than what is needed is enough, see `prove`

Broken = Callable[[NDArray[np.int64], Points], NDArray[np.bool_]]


def root(net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], steps: int) -> tuple[Found, Any]:
    """Multipliers of every row from chords and some steps, and what they prove."""
    floats = goal.floats()
    found = ascend(net, regions, floats, chords(net, regions, floats), steps, (need - _ENOUGH).astype(np.float64))
    return found, prove(net, regions, goal, need, found.multipliers)


@dataclass(frozen=True, eq=False)
class Closer:
    """What a row is at least, as multipliers with a kink promise it; whether they prove it; inputs on the way.

    `regions`: where they leave a wrong decision possible.
    """

    value: NDArray[np.float64]
    shown: NDArray[np.bool_]
    inputs: list[Points]
    regions: Regions


def closer(net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], found: Found, steps: int) -> Closer:
    """Better multipliers than `found`: with a kink at the point that it leads to."""
    reference = reference_of(net, regions, found.inputs[-1], found.values)
    start, wanted = twice(found.multipliers, net), (need - _ENOUGH).astype(np.float64)
    bent = ascend(net, regions, goal.floats(), start, steps, wanted, _LATER_STEP, reference)
    exact = exact_bound(net, regions, goal, bent.multipliers, reference)
    if exact is None:
        return Closer(bent.value, np.zeros(len(need), np.bool_), bent.inputs, regions)
    return Closer(bent.value, exact.shows(need), bent.inputs, fixed(net, regions, exact, need, reference))


@dataclass(eq=False)
class Search:
    """Questions that are cut into parts until each part is proved or one is answered the other way.

    Args:
        net: stages before the last.
        goal: what must be at least `need`, a row a question.
        need: by question.
        broken: told of inputs that come near; it says which questions are thereby answered the other way.
        alive: which questions are still worth the time.
        steps: of each ascent.
        stuck: told once of a question (its region, one row) that many parts have not answered.
    """

    net: Net
    goal: Objective
    need: NDArray[np.int64]
    broken: Broken
    alive: Callable[[], NDArray[np.bool_]]
    steps: int
    stuck: Callable[[int, Regions], None] = lambda question, regions: None

    def __post_init__(self) -> None:
        self.over = np.zeros(len(self.need), np.bool_)  # answered the other way, or given up
        self.gains = Gains(self.net)
        self.gap = np.zeros(len(self.need))  # what each root lacked
        neurons = sum(len(s.bias) for s in cuttable(self.net))
        self.at_once = max(8, min(_NODES_AT_ONCE, _NEURONS_AT_ONCE // max(neurons, 1)))

    def run(self, regions: Regions, found: Found, bound: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which questions are proved; those that `alive` no longer names are given up.

        Args:
            regions: one row a question.
            found: of the root.
            bound: what the root promises.
        """
        count = len(self.need)
        proved = np.zeros(count, np.bool_)
        rows = np.arange(count)
        self.gap = (self.need - _ENOUGH) - bound
        self.able = self.gap.copy()
        none = Cuts.none(count), proved.copy(), np.ones(count)
        first = Nodes(rows, regions, found.multipliers, bound, *none)
        nodes, worked = first, np.zeros(count, np.int64)
        while True:
            wanted = self.alive() & ~self.over & ~proved
            nodes = nodes.take(wanted[nodes.question])
            left = np.bincount(nodes.question, minlength=count)
            proved |= wanted & (left == 0)
            if not len(nodes):
                return proved
            # questions with few open parts first, and of each the part that is nearest to being closed
            order = np.lexsort((-nodes.bound, left[nodes.question]))
            now, later = nodes.take(order[: self.at_once]), nodes.take(order[self.at_once :])
            nodes = later.join(self._work(now))
            before = worked.copy()
            np.add.at(worked, now.question, 1)
            for question in np.flatnonzero((before < _STUCK) & (worked >= _STUCK) & self.alive()):
                self.stuck(int(question), regions.take(np.array([question])))

    def _work(self, nodes: Nodes) -> Nodes:
        """Bound these nodes; the parts of those that stay open."""
        promised = (self.need - _ENOUGH).astype(np.float64)
        before, cut = nodes.bound, nodes
        found, nodes, value = self._bounded(nodes)
        self.gains.learn(cut.made, cut.upper, np.minimum(value, promised[cut.question]) - before)
        found, nodes = self._supposed(found, nodes)
        for row in np.flatnonzero(pinned(self.net, nodes.regions) & ~self.over[nodes.question]):
            if self._settled(nodes.take(np.array([row]))):
                nodes.question[row] = -1
        rest = np.flatnonzero((nodes.question >= 0) & ~self.over[nodes.question])
        return self._split(nodes.take(rest), found.some(rest))

    def _supposed(self, found: Found, nodes: Nodes) -> tuple[Found, Nodes]:
        """The nodes that stay open when a wrong decision is assumed: once more where that was of use."""
        promised = (self.need - _ENOUGH).astype(np.float64)
        lack = promised[nodes.question] - nodes.bound
        now = np.flatnonzero(lack <= self.able[nodes.question])
        now = now[np.argsort(-lack[now])[:_SUPPOSED]]
        for _ in range(_ROUNDS if len(now) else 0):
            part, lam, lack = nodes.take(now), found.take(now), promised[nodes.question[now]] - nodes.bound[now]
            goal, need = self.goal.take(part.question), self.need[part.question]
            regions, _ = assumed(self.net, part.regions, goal, need, lam, _ASSUMED_STEPS)
            closer_found, left, value = self._bounded(replace(part, regions=regions))
            helped = promised[part.question] - value < _WORTH * lack
            self._learn(part.question, lack, helped)
            others = np.setdiff1d(np.arange(len(nodes)), now)
            rest, kept = nodes.take(others), found.some(others)
            again = helped[self._where]
            nodes, found = left.join(rest), closer_found.join(kept)
            now = np.flatnonzero(again)
            if not len(now):
                break
        return found, nodes

    def _learn(self, question: NDArray[np.int64], lack: NDArray[np.float64], helped: NDArray[np.bool_]) -> None:
        """How much a node may lack for `assumed` to be of use."""
        for one, size, good in zip(question, lack, helped, strict=True):
            able = self.able[one]
            self.able[one] += _PULL * (max(_MORE * size - able, 0.0) if good else min(_LESS * size - able, 0.0))

    def _bounded(self, nodes: Nodes) -> tuple[Found, Nodes, NDArray[np.float64]]:
        """Of the nodes that stay open, in what is left of them: the ascent without a kink. And what all are worth."""
        promised = (self.need - _ENOUGH).astype(np.float64)
        worth = promised[nodes.question]
        regions, empty = narrowed(self.net, nodes.regions)
        kept = np.flatnonzero(~empty)
        nodes = replace(nodes, regions=regions).take(kept)
        wanted, mine, need = promised[nodes.question], self.goal.take(nodes.question), self.need[nodes.question]
        floats = mine.floats()
        start, before = restarted(self.net, nodes, floats, wanted)
        found = ascend(self.net, nodes.regions, floats, start, self.steps, wanted, _LATER_STEP)
        found = replace(found, multipliers=either(found.value >= before, found.multipliers, nodes.start))
        bent = closer(self.net, nodes.regions, mine, need, found, _BENT_STEPS * self.steps)
        shown, value = bent.shown.copy(), bent.value.copy()
        near = np.flatnonzero(~shown & (wanted - value < _NEAR * self.gap[nodes.question]))
        if len(near):
            shown[near], value[near] = self._polished(nodes.take(near), found.take(near))
        for points in (*found.inputs[-2:], bent.inputs[-1]):
            self.over |= self.broken(nodes.question, points)
        worth[kept] = np.where(shown, wanted, value)
        rest = np.flatnonzero(~shown & ~self.over[nodes.question])
        self._where = kept[rest]
        bound = np.maximum(value, nodes.bound)
        better = replace(nodes, regions=bent.regions, start=found.multipliers, bound=bound).take(rest)
        return found.some(rest), better, worth

    def _polished(self, nodes: Nodes, start: Multipliers) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Nodes that lack little: which of them more steps prove, and what these promise."""
        mine, need, steps = self.goal.take(nodes.question), self.need[nodes.question], _POLISH * self.steps
        wanted = (need - _ENOUGH).astype(np.float64)
        found = ascend(self.net, nodes.regions, mine.floats(), start, steps, wanted, _POLISH_STEP)
        bent = closer(self.net, nodes.regions, mine, need, found, _BENT_STEPS * steps)
        return bent.shown, bent.value

    def _settled(self, node: Nodes) -> bool:
        """Whether a node where no neuron can be cut is proved after all; if not, its question is answered or given up.

        What can be cut there is the box of inputs: at a feature that the linear program leaves between two numbers.
        """
        left = [node.regions]
        goal, need = self.goal.take(node.question), self.need[node.question]
        for _ in range(_PROGRAMS):
            if not left:
                return True
            regions = left.pop()
            found = settle(self.net, regions)
            if found is None or not self.alive()[node.question[0]]:
                break
            multipliers, points = found
            if prove(self.net, regions, goal, need, multipliers)[0]:
                continue
            if self.broken(node.question, points)[node.question[0]]:
                break
            parts = between(regions, points)
            if not parts:
                break
            left += parts
        self.over[node.question] = True
        return False

    def _split(self, nodes: Nodes, found: Found) -> Nodes:
        """Each node in two; a question with a node that cannot be cut is given up."""
        if not len(nodes):
            return nodes
        goal, need = self.goal.take(nodes.question), (self.need[nodes.question] - _ENOUGH).astype(np.float64)
        cuts = choose(self.net, goal, nodes, found, self.gains, need)
        self.over[nodes.question[cuts.cost <= 0]] = True
        return halves(self.net, nodes, cuts)
