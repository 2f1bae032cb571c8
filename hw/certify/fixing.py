"""What a bound leaves of a region: steps of quantizers on which no input can be decided wrongly are cut off its ends.

A bound is a sum of terms, one a neuron, each the smallest cost of the steps that the neuron may be on. If a neuron is
kept on one of its steps, the bound rises by what this step costs more than the cheapest one. Where it then reaches
what is needed, a wrong decision does not lie on that step. Solvers of integer programs know this as fixing by reduced
costs. All is in int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Points, Regions
from hw.certify.interval import Interval
from hw.certify.kinked import ABOVE, BELOW, Kinked, straight
from hw.certify.nodes import Exact, cuttable
from hw.certify.staircase import Staircase


def fixed(
    net: Net, regions: Regions, exact: Exact, need: NDArray[np.int64], reference: Points | None = None
) -> Regions:
    """The part of each row where the bound does not exclude a wrong decision.

    Args:
        net: stages.
        regions: where the bound holds.
        exact: the bound.
        need: a row each.
        reference: of a bound with a kink.
    """
    reach, bound, slack = dict(regions.reach), exact.bound, np.maximum(exact.slack(need), 0)
    for stage in cuttable(net):
        if stage.out not in bound.least:
            continue
        assert stage.stairs is not None
        mu, here, at, own = bound.worth[stage.out], None, None, exact.multipliers[stage.out]
        if isinstance(bound, Kinked):
            assert reference is not None
            mu, here, at = bound.lines[stage.out], reference[stage.out], bound.centre[stage.out]
            own = straight(own, net.grouped(stage.out))
        cost = _Cost(stage.stairs, mu, own, here, at)
        reach[stage.out] = _ends(cost, reach[stage.out], bound.least[stage.out] + slack[:, None])
    return Regions(regions.leaves, reach)


class _Cost:
    """What every neuron's steps cost: mu g(a) - lam a, or what `kinked` makes of it."""

    def __init__(self, stairs: Staircase, mu: Any, lam: Any, here: Any, at: Any) -> None:
        self.stairs, self.mu, self.lam, self.here, self.at = stairs, mu, lam, here, at

    def least(self, row: Any, column: Any, step: Any, low: Any, high: Any) -> NDArray[np.int64]:
        """The smallest one on one step of each of some neurons, no further than from `low` to `high`."""
        first, last = np.maximum(self.stairs.starts[step], low), np.minimum(self.stairs.ends[step], high)
        value = self.stairs.values[step]
        if self.here is None:
            lam = self.lam[row, column]
            return np.asarray(self.mu[row, column] * value - np.where(lam > 0, last, first) * lam)
        change, at = value - self.here[row, column], self.at[row, column]
        worth = np.minimum(self.mu[row, ABOVE, column] * change, self.mu[row, BELOW, column] * change)
        above, below = self.lam[row, ABOVE, column], self.lam[row, BELOW, column]
        moves = [np.where(a > at, above, below) * (a - at) for a in (first, last, np.clip(at, first, last))]
        return np.asarray(worth - np.maximum.reduce(moves))


def _ends(cost: _Cost, reach: Interval, most: Any) -> Interval:
    """The interval without the steps at its ends that cost more than `most`."""
    stairs, low, high = cost.stairs, reach.low.copy(), reach.high.copy()
    for end, way in ((low, 1), (high, -1)):
        row, column = np.nonzero(stairs.index(low) < stairs.index(high))
        while len(row):
            place = row, column
            step = stairs.index(end[place])
            dear = cost.least(row, column, step, low[place], high[place]) > most[place]
            dear &= stairs.index(low[place]) < stairs.index(high[place])
            row, column, step = row[dear], column[dear], step[dear]
            end[row, column] = stairs.ends[step] + 1 if way > 0 else stairs.starts[step] - 1
    return Interval(low, high)
