"""Whole inputs from a point between them: rounded at random, then moved until their sums are on the steps of its sums.

Rounding moves every sum a little, and some over the end of their step. Then single inputs are moved by one, each time
the one that brings the sums nearest to where they should be. The first sums decide all that follows: once they are on
the same steps, the device does what a linear program said of the point.
"""

from __future__ import annotations

import numpy as np

from hw.certify.dual import Net, Points, Regions
from hw.certify.first_sums import FirstSums, Floats

_MOVED, _MOVES = 32, 200  # inputs that are moved, and how often each


def whole_inputs(net: Net, regions: Regions, near: Points, count: int, rng: np.random.Generator) -> Points:
    """Leaves (count, n), whole and inside their box.

    Args:
        net: stages.
        regions: one row.
        near: leaves (1, n), in floats.
        count: of inputs; the first one is rounded to the nearest.
        rng: rounds.
    """
    sums = FirstSums.of(net, regions)
    found: Points = {}
    for index in net.leaves:
        low, high = regions.leaves[index]
        point = np.clip(near[index], low, high)
        found[index] = np.clip(np.floor(point + rng.random((count, point.shape[1]))), low, high)
        found[index][0] = np.rint(point[0])
    if sums is not None:
        least, most = _steps(sums, regions, sums.inputs(near))
        moved = np.concatenate([found[index] for index in sums.leaves], axis=1)
        for x in moved[:_MOVED]:
            _move(x, sums, least, most)
        found = sums.points(moved)
    return {index: part.astype(np.int64) for index, part in found.items()}


def _steps(sums: FirstSums, regions: Regions, near: Floats) -> tuple[Floats, Floats]:
    """The first and last number of the step that each sum of a point is on, less its bias."""
    low, high = (np.concatenate([regions.reach[s.out][end][0] for s in sums.stages]) for end in (0, 1))
    least, most = sums.ends(sums.steps(np.clip(sums.at(np.clip(near, sums.low, sums.high)), low, high)))
    return (least - sums.bias).astype(np.float64), (most - sums.bias).astype(np.float64)


def _move(x: Floats, first: FirstSums, least: Floats, most: Floats) -> None:
    """Move single numbers of x by one, as long as its sums come nearer to between `least` and `most`."""
    sums = first.matrix @ x
    for _ in range(_MOVES):
        away = float((_outside(sums, least, most) ** 2).sum())
        if away == 0:
            return
        best = away, 0, 0.0
        for by, room in ((1.0, x < first.high), (-1.0, x > first.low)):
            after = (_outside(sums[:, None] + by * first.matrix, least[:, None], most[:, None]) ** 2).sum(axis=0)
            after[~room] = np.inf
            element = int(after.argmin())
            best = min(best, (float(after[element]), element, by))
        if best[0] >= away:
            return
        _, element, by = best
        x[element] += by
        sums += by * first.matrix[:, element]


def _outside(sums: Floats, least: Floats, most: Floats) -> Floats:
    """How far sums are from where they should be."""
    away: Floats = np.maximum(least - sums, 0) + np.maximum(sums - most, 0)
    return away
