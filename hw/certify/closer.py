"""What all rows of one region are at least: with chords, with better multipliers, and with a kink at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.fixing import fixed
from hw.certify.kinked import twice
from hw.certify.nodes import exact_bound, prove
from hw.certify.search import Found, ascend, chords
from hw.certify.stages import Largest

LATER_STEP = 0.1  # of an ascent that starts where another one ended
ENOUGH = 0.9  # a promise of so much less than what is needed is enough, see `Exact.shows`


def root(net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], steps: int) -> tuple[Found, Any]:
    """Multipliers of every row from chords and some steps, and what they prove."""
    floats = goal.floats()
    found = ascend(net, regions, floats, chords(net, regions, floats), steps, (need - ENOUGH).astype(np.float64))
    return found, prove(net, regions, goal, need, found.multipliers)


@dataclass(frozen=True, eq=False)
class Closer:
    """What a row is at least, as multipliers with a kink promise it; whether they prove it; inputs on the way.

    `remains` finds out where they leave a wrong decision possible.
    """

    value: NDArray[np.float64]
    shown: NDArray[np.bool_]
    inputs: list[Points]
    remains: Callable[[], Regions]


def closer(net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], found: Found, steps: int) -> Closer:
    """Better multipliers than `found`: with a kink at the point that it leads to."""
    reference = reference_of(net, regions, found.inputs[-1], found.values)
    start, wanted = twice(found.multipliers, net), (need - ENOUGH).astype(np.float64)
    bent = ascend(net, regions, goal.floats(), start, steps, wanted, LATER_STEP, reference)
    exact = exact_bound(net, regions, goal, bent.multipliers, reference)
    if exact is None:
        return Closer(bent.value, np.zeros(len(need), np.bool_), bent.inputs, lambda: regions)
    remains = partial(fixed, net, regions, exact, need, reference)
    return Closer(bent.value, exact.shows(need), bent.inputs, remains)


def reference_of(net: Net, regions: Regions, leaves: Points, values: Points) -> Points:
    """Whole numbers near what the leaves and the stages were on average, which `evaluate` takes for its reference."""
    found: Points = {}
    for index in net.leaves:
        box = regions.leaves[index]
        middle = leaves.get(index)
        found[index] = (
            np.clip(np.rint(middle), box.low, box.high).astype(np.int64) if middle is not None else np.zeros(0)
        )
    for stage in net.stages:
        box = regions.outputs(net, stage.out)
        if isinstance(stage, Largest):
            found[stage.out] = np.clip(found[stage.source][:, stage.members].max(axis=1), box.low, box.high)
        elif stage.stairs is None:
            parts = [matrix.forward(found[index]) for index, matrix in net.matrices[stage.out]]
            found[stage.out] = sum(parts, stage.bias)
        else:
            found[stage.out] = np.clip(np.rint(values[stage.out]), box.low, box.high).astype(np.int64)
    return found
