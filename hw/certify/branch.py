"""Branch and bound on hidden quantizers: a neuron's sums are cut at one of its steps, and each part is proved apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hw.certify.assume import assumed
from hw.certify.branching import Gains, choose
from hw.certify.closer import ENOUGH, LATER_STEP, closer
from hw.certify.dual import Multipliers, Net, Objective, Points, Regions
from hw.certify.nodes import Cuts, Nodes, cuttable, either, halves, narrowed, prove, restarted
from hw.certify.patterns import between, pinned, settle
from hw.certify.search import Found, ascend

_NODES_AT_ONCE = 64
_NEURONS_AT_ONCE = 40_000
_BENT_STEPS = 3  # of the ascent with a kink, for each one without
_NEAR = 0.1  # of what the root lacked: a node that lacks less gets more steps
_POLISH, _POLISH_STEP = 4, 0.03  # so many times the steps, and their first length
_STUCK = 6  # parts
_ASSUMED, _ASSUMED_STEPS, _ROUNDS = 16, 30, 4  # nodes at once in which a wrong decision is assumed, steps, how often
_HELPED = 0.85  # a round that leaves more than this share of what a node lacks was of no use
_PULL, _MORE, _LESS = 0.15, 1.4, 0.7  # how fast the usual lack is learnt, and from how much more or less
_PROGRAMS = 200  # linear programs for one node where no neuron can be cut

Broken = Callable[[NDArray[np.int64], Points], NDArray[np.bool_]]
Stuck = Callable[[NDArray[np.int64], Regions, Multipliers], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class _Left:
    """The nodes that stay open: the ascent of each, what is left of it, and which one it was.

    `worth`: what every node is at least, also the closed ones; no more than what is needed.
    """

    found: Found
    nodes: Nodes
    rows: NDArray[np.int64]
    worth: NDArray[np.float64]


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
        stuck: told once of questions that many parts have not answered, with a row of each; which ones it has proved.
    """

    net: Net
    goal: Objective
    need: NDArray[np.int64]
    broken: Broken
    alive: Callable[[], NDArray[np.bool_]]
    steps: int
    stuck: Stuck = lambda questions, regions, multipliers: np.zeros(len(questions), np.bool_)

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
        self.gap = (self.need - ENOUGH) - bound
        self.able = self.gap.copy()  # how much a node may lack for `assumed` to be of use
        none = Cuts.none(count), proved.copy(), np.ones(count)
        nodes, worked = Nodes(rows, regions, found.multipliers, bound, *none), np.zeros(count, np.int64)
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
            crossed = (before < _STUCK) & (worked >= _STUCK) & self.alive()
            asked = np.intersect1d(np.flatnonzero(crossed), nodes.question)
            if len(asked):
                asked = asked[np.argsort(bound[asked])]
                proved[asked] = self.stuck(asked, regions.take(asked), found.take(asked))

    def _work(self, nodes: Nodes) -> Nodes:
        """Bound these nodes; the parts of those that stay open."""
        left = self._bounded(nodes)
        self.gains.learn(nodes.made, nodes.upper, left.worth - nodes.bound)
        left = self._assumed(left)
        nodes, open_now = left.nodes, ~self.over[left.nodes.question]
        for row in np.flatnonzero(pinned(self.net, nodes.regions)):
            if open_now[row]:
                open_now[row] = not self._settled(nodes.take(np.array([row])))
        rest = np.flatnonzero(open_now & ~self.over[nodes.question])
        return self._split(nodes.take(rest), left.found.some(rest))

    def _assumed(self, left: _Left) -> _Left:
        """What stays open when a wrong decision is assumed: again as long as that helps."""
        lack = self._promised(left.nodes) - left.nodes.bound
        now = np.flatnonzero(lack <= self.able[left.nodes.question])
        now = now[np.argsort(-lack[now])[:_ASSUMED]]
        for _ in range(_ROUNDS):
            if not len(now):
                break
            nodes, lam = left.nodes.take(now), left.found.take(now)
            goal, need, lack = (
                self.goal.take(nodes.question),
                self.need[nodes.question],
                self._promised(nodes) - nodes.bound,
            )
            regions, _ = assumed(self.net, nodes.regions, goal, need, lam, _ASSUMED_STEPS)
            after = self._bounded(replace(nodes, regions=regions))
            helped = self._promised(nodes) - after.worth < _HELPED * lack
            self._learn(nodes.question, lack, helped)
            others = np.setdiff1d(np.arange(len(left.nodes)), now)
            found, rest = after.found.join(left.found.some(others)), after.nodes.join(left.nodes.take(others))
            left, now = replace(left, found=found, nodes=rest), np.flatnonzero(helped[after.rows])
        return left

    def _promised(self, nodes: Nodes) -> NDArray[np.float64]:
        """What must be promised of each."""
        return (self.need[nodes.question] - ENOUGH).astype(np.float64)

    def _learn(self, question: NDArray[np.int64], lack: NDArray[np.float64], helped: NDArray[np.bool_]) -> None:
        """Nodes that lacked so much were helped, or not."""
        for one, size, good in zip(question, lack, helped, strict=True):
            able = self.able[one]
            self.able[one] += _PULL * (max(_MORE * size - able, 0.0) if good else min(_LESS * size - able, 0.0))

    def _bounded(self, nodes: Nodes) -> _Left:
        """Bound these nodes, and keep of each what is left of it."""
        worth = self._promised(nodes)
        regions, empty = narrowed(self.net, nodes.regions)
        kept = np.flatnonzero(~empty)
        nodes = replace(nodes, regions=regions).take(kept)
        wanted, mine, need = worth[kept], self.goal.take(nodes.question), self.need[nodes.question]
        floats = mine.floats()
        start, before = restarted(self.net, nodes, floats, wanted)
        found = ascend(self.net, nodes.regions, floats, start, self.steps, wanted, LATER_STEP)
        lam = either(found.value >= before, found.multipliers, nodes.start)
        found = replace(found, multipliers=lam, value=np.maximum(found.value, before))
        bent = closer(self.net, nodes.regions, mine, need, found, _BENT_STEPS * self.steps)
        shown, value = bent.shown.copy(), bent.value.copy()
        near = np.flatnonzero(~shown & (wanted - value < _NEAR * self.gap[nodes.question]))
        if len(near):
            shown[near], value[near] = self._polished(nodes.take(near), found.take(near))
        for points in (*found.inputs[-2:], bent.inputs[-1]):
            self.over |= self.broken(nodes.question, points)
        worth[kept] = np.where(shown, wanted, np.minimum(value, wanted))
        rest = np.flatnonzero(~shown & ~self.over[nodes.question])
        better = replace(nodes, regions=bent.remains(), start=lam, bound=np.maximum(value, nodes.bound)).take(rest)
        return _Left(found.some(rest), better, kept[rest], worth)

    def _polished(self, nodes: Nodes, start: Multipliers) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Nodes that lack little: which of them more steps prove, and what these promise."""
        mine, need, steps = self.goal.take(nodes.question), self.need[nodes.question], _POLISH * self.steps
        wanted = (need - ENOUGH).astype(np.float64)
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
        cuts = choose(self.net, self.goal.take(nodes.question), nodes, found, self.gains, self._promised(nodes))
        self.over[nodes.question[cuts.cost <= 0]] = True
        return halves(self.net, nodes, cuts)
