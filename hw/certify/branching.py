"""Where to cut: at the neuron that is worth most on both sides, as tried out or as remembered from earlier cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Regions
from hw.certify.interval import Interval
from hw.certify.nodes import Cuts, Nodes, cuttable, halves, narrowed, restarted
from hw.certify.search import Found, ascend
from hw.certify.staircase import Staircase

_TRIED = 12  # neurons of every node that are thought about
_STRONG = 12  # with no more nodes open, all of these are tried out
_TRIAL_STEPS, _TRIAL_RATE = 5, 0.1  # of an ascent that only tries
_EVEN = 1e-9  # where no neuron costs anything, the one with most steps is cut
_LEAST = 1e-3  # no side of a cut is taken to be worth less than this share of what the neuron costs
_FLAT = 2.0  # an end of a staircase that is so many steps long is flat


class Gains:
    """By how much of what a neuron costs the bound rose when it was cut, on either side."""

    def __init__(self, net: Net) -> None:
        sizes = [len(s.bias) for s in cuttable(net)]
        self.first = np.cumsum([0, *sizes])
        self.total = np.zeros((self.first[-1], 2))
        self.count = np.zeros((self.first[-1], 2))

    def learn(self, cuts: Cuts, upper: NDArray[np.bool_], gain: NDArray[np.float64]) -> None:
        """What cuts have brought on one of their sides."""
        known = cuts.cost > 0
        place = (self.first[cuts.stage] + cuts.neuron)[known], upper[known].astype(np.int64)
        np.add.at(self.total, place, np.minimum(np.maximum(gain, 0)[known] / np.maximum(cuts.cost[known], 1e-6), 1e3))
        np.add.at(self.count, place, 1)

    def worth(self, cuts: Cuts) -> NDArray[np.float64]:
        """What cuts are likely worth, both sides together."""
        usual = (self.total.sum(axis=0) + 1.0) / (self.count.sum(axis=0) + 1.0)
        place = self.first[cuts.stage] + cuts.neuron
        share = (self.total[place] + usual) / (self.count[place] + 1)
        found: NDArray[np.float64] = cuts.cost * np.sqrt(np.maximum(share, _LEAST).prod(axis=-1))
        return found


def choose(net: Net, goal: Objective, nodes: Nodes, found: Found, gains: Gains, need: NDArray[np.float64]) -> Cuts:
    """A cut for every node; where its cost is 0 there is none.

    Args:
        net: stages.
        goal: a row each.
        nodes: that stay open.
        found: of their ascents.
        gains: what is known of earlier cuts, and is added to.
        need: a row each; no bound is worth more.
    """
    many = candidates(net, nodes.regions, found)
    rows = np.arange(len(nodes))
    if len(nodes) > _STRONG:
        return many.take((rows, gains.worth(many).argmax(axis=1)))
    count = many.cost.shape[1]
    flat = many.take((np.repeat(rows, count), np.tile(np.arange(count), len(rows))))
    several = np.repeat(rows, count)
    parts = halves(net, nodes.take(several), flat)
    own = np.tile(np.repeat(rows, count), 2)
    regions, empty = narrowed(net, parts.regions)
    before, floats = found.value, goal.take(own).floats()
    start, _ = restarted(net, replace(parts, regions=regions), floats, need[own])
    found = ascend(net, regions, floats, start, _TRIAL_STEPS, need[own], _TRIAL_RATE)
    gain = np.where(empty, np.inf, found.value)
    gain = np.minimum(gain, need[own]) - before[own]
    sides = np.maximum(gain.reshape(2, len(rows), count), _LEAST * many.cost)
    score = np.where(many.cost > 0, sides.min(axis=0) + 0.1 * sides.max(axis=0), -1.0)
    return many.take((rows, score.argmax(axis=1)))


def candidates(net: Net, regions: Regions, found: Found) -> Cuts:
    """The neurons that cost most, (nodes, some) cuts: those with cost 0 are none."""
    parts = []
    for number, stage in enumerate(cuttable(net)):
        if stage.out not in found.loss:
            continue
        reach, stairs = regions.reach[stage.out], stage.stairs
        assert stairs is not None
        many = np.flatnonzero((stairs.index(reach.high) > stairs.index(reach.low)).any(axis=0))
        reach = reach.take(many)
        first, last = stairs.index(reach.low), stairs.index(reach.high)
        loss = found.loss[stage.out][:, many]
        cost = np.where(last > first, np.maximum(loss, 0) + _EVEN * (last - first), 0.0)
        jump = np.abs(found.worth[stage.out][:, many]) * float(np.diff(stairs.values).max(initial=1))
        start = _cut(stairs, reach, found.place[stage.out][:, many], cost > jump)
        same = np.broadcast_to(np.int64(number), cost.shape)
        parts.append(Cuts(same, np.broadcast_to(many, cost.shape), start, cost))
    joined = Cuts(*(np.concatenate([vars(p)[name] for p in parts], axis=1) for name in vars(parts[0])))
    most = min(_TRIED, joined.cost.shape[1])
    best = np.argpartition(-joined.cost, most - 1, axis=1)[:, :most] if most else np.zeros((len(regions), 0), int)
    return joined.take((np.arange(len(regions))[:, None], best))


def _cut(stairs: Staircase, ends: Interval, place: NDArray[np.float64], bent: NDArray[np.bool_]) -> NDArray[np.int64]:
    """From which sum on the upper part is: at the step nearest to `place`, or where a flat end of a bent one begins."""
    first, last = stairs.index(ends.low), stairs.index(ends.high)
    step = np.clip(np.searchsorted(stairs.starts, place, "right") - 1, first, last)
    after = np.minimum(step + 1, last)
    nearer = (place - stairs.starts[step] < stairs.starts[after] - place) | (after == step)
    level = np.clip(np.where(nearer, step, after), first + 1, np.maximum(last, first + 1))
    usual = stairs.usual
    top = ends.high - np.maximum(stairs.starts[last], ends.low)
    bottom = np.minimum(stairs.ends[first], ends.high) - ends.low
    level = np.where(bent & (top > _FLAT * usual), last, level)
    level = np.where(bent & (bottom > _FLAT * usual), first + 1, level)
    start: NDArray[np.int64] = stairs.starts[np.minimum(level, len(stairs.starts) - 1)]
    return start
