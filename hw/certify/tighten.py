"""Closer bounds of inner sums: each neuron's sum is bounded backwards to the box, as the outputs are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.certify.closer import reference_of
from hw.certify.dual import Net, Objective, Regions
from hw.certify.interval import Integers, Interval
from hw.certify.kinked import twice
from hw.certify.nodes import Exact, exact_bound, narrowed
from hw.certify.search import ascend, chords
from hw.certify.stages import Affine

_ROWS = 256
_BENT_RATE = 0.1


def deep(net: Net) -> list[Affine]:
    """Stages whose sums intervals bound loosely: all but those that read leaves only."""
    stages = [s for s in net.stages if isinstance(s, Affine) and s.stairs is not None]
    return [s for s in stages if not all(index in net.leaves for index, _ in net.matrices[s.out])]


def tightened(net: Net, regions: Regions, steps: int = 0) -> Regions:
    """Of one row: the same with closer bounds of the sums of all deep stages, in order.

    Args:
        net: stages.
        regions: one row.
        steps: of ascent for every neuron; 0: chords only.
    """
    for stage in deep(net):
        assert stage.stairs is not None
        reach = regions.reach[stage.out]
        moving = np.flatnonzero(stage.stairs.index(reach.low[0]) < stage.stairs.index(reach.high[0]))
        if not len(moving):
            continue
        front = net.upto(stage.out)
        low, high = reach.low.copy(), reach.high.copy()
        for first in range(0, len(moving), _ROWS // 2):
            part = moving[first : first + _ROWS // 2]
            signs = np.repeat([1, -1], len(part))
            weights = np.zeros((2 * len(part), len(stage.bias)), np.int64)
            weights[np.arange(2 * len(part)), np.tile(part, 2)] = signs
            rows = regions.take(np.zeros(len(signs), np.int64))
            least = _least(front, rows, Objective.of(net, stage, weights), steps)
            if least is None:
                continue
            low[0, part] = np.maximum(low[0, part], least[: len(part)])
            high[0, part] = np.minimum(high[0, part], -least[len(part) :])
        regions = Regions(regions.leaves, {**regions.reach, stage.out: Interval(low, high)})
        regions, _ = narrowed(net, regions)
    return regions


def _least(front: Net, regions: Regions, goal: Objective, steps: int) -> Integers | None:
    """Whole numbers that no row falls below; None where int64 may not hold the proof."""
    floats = goal.floats()
    lam = chords(front, regions, floats)
    never: NDArray[np.float64] = np.full(len(goal.constant), np.inf)
    found = ascend(front, regions, floats, lam, steps, never)
    least = _rounded(exact_bound(front, regions, goal, found.multipliers))
    if not steps:
        return least
    reference = reference_of(front, regions, found.inputs[-1], found.values)
    start = twice(found.multipliers, front)
    bent = ascend(front, regions, floats, start, steps, never, _BENT_RATE, reference)
    closer = _rounded(exact_bound(front, regions, goal, bent.multipliers, reference))
    return least if closer is None else closer if least is None else np.maximum(least, closer)


def _rounded(found: Exact | None) -> Integers | None:
    if found is None:
        return None
    least: Integers = -((-found.bound.value) // found.scale)
    return least
