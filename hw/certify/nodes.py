"""Parts of a question that are still open, what bounds them, and the proof that one is closed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify import kinked
from hw.certify.dual import Bound, Multipliers, Net, Objective, Points, Regions, evaluate
from hw.certify.interval import Interval
from hw.certify.kinked import Kinked
from hw.certify.matrix import TooLarge
from hw.certify.search import slope
from hw.certify.stages import Affine, Largest

_BACK = 0.25
SCALES = tuple(1 << bits for bits in (28, 20, 12))  # multipliers are whole numbers of 1/scale


@dataclass(frozen=True, eq=False)
class Exact:
    """A bound in int64, with whole multipliers: all is `scale` times what it stands for."""

    bound: Bound | Kinked
    multipliers: Multipliers
    scale: int

    def shows(self, need: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are proved: what is bounded is a whole number, and above `need` - 1 it is at least `need`."""
        return np.asarray(self.slack(need) < 0)

    def slack(self, need: NDArray[np.int64]) -> NDArray[np.int64]:
        """How much the bound of each row may rise and still prove nothing."""
        return np.asarray((need - 1) * self.scale - self.bound.value)


def exact_bound(
    net: Net, regions: Regions, goal: Objective, lam: Multipliers, reference: Points | None = None
) -> Exact | None:
    """The bound with these multipliers, made whole numbers of 1/scale; None where int64 may not hold it."""
    for scale in SCALES:
        whole = {out: np.rint(value * scale).astype(np.int64) for out, value in lam.items()}
        scaled = Objective({i: c * scale for i, c in goal.coefficients.items()}, goal.constant * scale)
        try:
            if reference is None:
                return Exact(evaluate(net, regions, scaled, whole), whole, scale)
            return Exact(kinked.evaluate(net, regions, scaled, whole, reference), whole, scale)
        except TooLarge:
            continue
    return None


def prove(
    net: Net,
    regions: Regions,
    goal: Objective,
    need: NDArray[np.int64],
    lam: Multipliers,
    reference: Points | None = None,
) -> NDArray[np.bool_]:
    """Which rows are proved, in int64."""
    found = exact_bound(net, regions, goal, lam, reference)
    return np.zeros(len(need), np.bool_) if found is None else found.shows(need)


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


def cuttable(net: Net) -> list[Affine]:
    """Stages with steps."""
    return [s for s in net.stages if isinstance(s, Affine) and s.stairs is not None]


@dataclass(frozen=True, eq=False)
class Cuts:
    """One cut a row: of which stage (its place among the cuttable ones), which neuron, from which sum on is above.

    `cost`: what the relaxation gives away at that neuron; 0: there is nothing to cut.
    """

    stage: NDArray[np.int64]
    neuron: NDArray[np.int64]
    start: NDArray[np.int64]
    cost: NDArray[np.float64]

    def take(self, rows: Any) -> Cuts:
        """Some of them."""
        return Cuts(self.stage[rows], self.neuron[rows], self.start[rows], self.cost[rows])

    def join(self, other: Cuts) -> Cuts:
        """Both."""
        ours, theirs = vars(self), vars(other)
        return Cuts(**{name: np.concatenate([ours[name], theirs[name]]) for name in ours})

    @classmethod
    def none(cls, count: int) -> Cuts:
        """No cut has made these rows."""
        zero = np.zeros(count, np.int64)
        return cls(zero, zero, zero, np.zeros(count))


@dataclass(frozen=True, eq=False)
class Nodes:
    """Parts of questions still open, a row each.

    Args:
        question: which one.
        regions: where.
        start: multipliers of the node that this is a part of.
        bound: what that node promised.
        made: the cut that made this one.
        upper: on which side of it.
        share: what part of its question it is, halved with every cut.
    """

    question: NDArray[np.int64]
    regions: Regions
    start: Multipliers
    bound: NDArray[np.float64]
    made: Cuts
    upper: NDArray[np.bool_]
    share: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.question)

    def take(self, rows: Any) -> Nodes:
        """Some of them."""
        start = {i: part[rows] for i, part in self.start.items()}
        regions, made, upper, share = self.regions.take(rows), self.made.take(rows), self.upper[rows], self.share[rows]
        return Nodes(self.question[rows], regions, start, self.bound[rows], made, upper, share)

    def join(self, other: Nodes) -> Nodes:
        """Both."""
        return Nodes(
            np.concatenate([self.question, other.question]),
            self.regions.join(other.regions),
            {out: np.concatenate([lam, other.start[out]]) for out, lam in self.start.items()},
            np.concatenate([self.bound, other.bound]),
            self.made.join(other.made),
            np.concatenate([self.upper, other.upper]),
            np.concatenate([self.share, other.share]),
        )


def halves(net: Net, nodes: Nodes, cuts: Cuts) -> Nodes:
    """Each node in two: first all parts below their cuts, then all parts above.

    Args:
        net: stages.
        nodes: to be cut.
        cuts: where, a row each.
    """
    made = []
    for upper in (False, True):
        reach = {out: Interval(b.low.copy(), b.high.copy()) for out, b in nodes.regions.reach.items()}
        for number, stage in enumerate(cuttable(net)):
            rows = np.flatnonzero((cuts.stage == number) & (cuts.cost > 0))
            where, at = (rows, cuts.neuron[rows]), reach[stage.out]
            if upper:
                at.low[where] = np.maximum(cuts.start[rows], at.low[where])
            else:
                at.high[where] = np.minimum(cuts.start[rows] - 1, at.high[where])
        side, share = np.full(len(nodes), upper), nodes.share / 2
        regions = Regions(nodes.regions.leaves, reach)
        made.append(replace(nodes, regions=regions, made=cuts, upper=side, share=share))
    return made[0].join(made[1])


def restarted(
    net: Net, nodes: Nodes, goal: Objective, need: NDArray[np.float64]
) -> tuple[Multipliers, NDArray[np.float64]]:
    """What every node's ascent begins with, and what the multipliers that the node has promise.

    The neuron that was cut starts from its new chord, unless that loses too much.

    Args:
        net: stages.
        nodes: a row each.
        goal: in floats, likewise.
    """
    regions, cuts, fresh = nodes.regions.floats(), nodes.made, dict(nodes.start)
    before = evaluate(net, regions, goal, nodes.start)
    for number, stage in enumerate(cuttable(net)):
        rows = np.flatnonzero((cuts.stage == number) & (cuts.cost > 0))
        if len(rows) and stage.out in before.worth:
            assert stage.stairs is not None
            where, at, lam = (rows, cuts.neuron[rows]), regions.reach[stage.out], fresh[stage.out].copy()
            mu = before.worth[stage.out][where]
            lam[where] = mu * slope(stage.stairs, Interval(at.low[where], at.high[where]), mu)
            fresh[stage.out] = lam
    allowed = _BACK * np.maximum(need - before.value, 0)
    better = evaluate(net, regions, goal, fresh).value > before.value - allowed
    return either(better, fresh, nodes.start), before.value


def either(first: NDArray[np.bool_], one: Multipliers, two: Multipliers) -> Multipliers:
    """Of some rows `one`, of the others `two`."""
    return {out: np.where(first.reshape(-1, *[1] * (lam.ndim - 1)), one[out], lam) for out, lam in two.items()}
