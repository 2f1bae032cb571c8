"""Whole inputs from a point between them: rounded at random, then moved until their sums are on the steps of its sums.

Rounding moves every sum a little, and some over the end of their step. Then single inputs are moved by one, each time
the one that brings the sums nearest to where they should be. The first sums decide all that follows: once they are on
the same steps, the device does what a linear program said of the point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Points, Regions
from hw.certify.stages import Affine

_MOVED, _MOVES = 32, 200  # inputs that are moved, and how often each
_CELLS = 1 << 18  # numbers of a matrix; with a larger one moves take too long

Floats = NDArray[np.float64]


def whole_inputs(net: Net, regions: Regions, near: Points, count: int, rng: np.random.Generator) -> Points:
    """Leaves (count, n), whole and inside their box.

    Args:
        net: stages.
        regions: one row.
        near: leaves (1, n), in floats.
        count: of inputs; the first one is rounded to the nearest.
        rng: rounds.
    """
    ends = [regions.leaves[index] for index in net.leaves]
    low, high = (np.concatenate([np.asarray(box[end][0], np.float64) for box in ends]) for end in (0, 1))
    point = np.clip(np.concatenate([near[index][0] for index in net.leaves]), low, high)
    found = np.clip(np.floor(point + rng.random((count, len(point)))), low, high)
    found[0] = np.rint(point)
    if (matrix := _first_sums(net)) is not None:
        least, most = _steps(net, regions, matrix @ point)
        for x in found[:_MOVED]:
            _move(x, matrix, least, most, low, high)
    cuts = np.cumsum([box.low.shape[1] for box in ends])[:-1]
    return {index: part.astype(np.int64) for index, part in zip(net.leaves, np.split(found, cuts, axis=1), strict=True)}


def first_staircases(net: Net) -> list[Affine]:
    """Those that read nothing but leaves: all others follow from them."""
    stages = [s for s in net.stages if isinstance(s, Affine) and s.stairs is not None]
    return [s for s in stages if all(index in net.leaves for index, _ in net.matrices[s.out])]


def _first_sums(net: Net) -> Floats | None:
    """The matrix (sums, inputs) of these stages, without their biases; None: there is none, or it is too large."""
    first = first_staircases(net)
    sizes = {index: matrix.sparse.shape[1] for stage in first for index, matrix in net.matrices[stage.out]}
    if not first or set(sizes) != set(net.leaves):
        return None
    if max(len(stage.bias) for stage in first) * sum(sizes.values()) > _CELLS:
        return None
    rows = []
    for stage in first:
        parts, count = dict(net.matrices[stage.out]), len(stage.bias)
        rows.append(
            np.hstack([parts[i].sparse.toarray() if i in parts else np.zeros((count, sizes[i])) for i in net.leaves])
        )
    return np.vstack(rows).astype(np.float64)


def _steps(net: Net, regions: Regions, sums: Floats) -> tuple[Floats, Floats]:
    """The first and last number of the step that each sum is on, less its bias."""
    least, most, at = [], [], 0
    for stage in first_staircases(net):
        assert stage.stairs is not None
        reach = regions.reach[stage.out]
        own = np.rint(sums[at : at + len(stage.bias)] + stage.bias).astype(np.int64)
        step = stage.stairs.index(np.clip(own, reach.low[0], reach.high[0]))
        least.append(stage.stairs.starts[step] - stage.bias)
        most.append(stage.stairs.ends[step] - stage.bias)
        at += len(stage.bias)
    return np.concatenate(least).astype(np.float64), np.concatenate(most).astype(np.float64)


def _move(x: Floats, matrix: Floats, least: Floats, most: Floats, low: Floats, high: Floats) -> None:
    """Move single numbers of x by one, as long as its sums come nearer to between `least` and `most`."""
    sums = matrix @ x
    for _ in range(_MOVES):
        away = float((_outside(sums, least, most) ** 2).sum())
        if away == 0:
            return
        best = away, 0, 0.0
        for by, room in ((1.0, x < high), (-1.0, x > low)):
            after = (_outside(sums[:, None] + by * matrix, least[:, None], most[:, None]) ** 2).sum(axis=0)
            after[~room] = np.inf
            element = int(after.argmin())
            best = min(best, (float(after[element]), element, by))
        if best[0] >= away:
            return
        _, element, by = best
        x[element] += by
        sums += by * matrix[:, element]


def _outside(sums: Floats, least: Floats, most: Floats) -> Floats:
    """How far sums are from where they should be."""
    away: Floats = np.maximum(least - sums, 0) + np.maximum(sums - most, 0)
    return away
