"""Nodes where every quantizer is on one step: either an input does that, or a combination of its sums forbids it.

HiGHS looks for both in floats. The input is shown to the device, the combination is made integers and proved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hw.certify.dual import Multipliers, Net, Points, Regions
from hw.certify.first_sums import first_staircases
from hw.certify.interval import Interval
from hw.certify.stages import Affine, Largest

_WHOLE = 1e-6  # nearer to a whole number is one
if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_PUSH = 1e7  # how much a violated sum is made to count: the objective is small against it


def pinned(net: Net, regions: Regions) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows where no staircase can be cut any further."""
    fixed = np.ones(len(regions), np.bool_)
    for stage in net.stages:
        if isinstance(stage, Affine) and stage.stairs is not None:
            reach = regions.reach[stage.out]
            fixed &= (stage.stairs.index(reach.low) == stage.stairs.index(reach.high)).all(axis=1)
    return fixed


def settle(net: Net, regions: Regions) -> tuple[Multipliers, Points] | None:
    """Of one row that is pinned: multipliers that may prove that nothing gets there, and leaves that may get there.

    Only sums of leaves are asked about: the others follow from them. None where there are no such sums.
    """
    from scipy.optimize import linprog  # takes half a second to load
    from scipy.sparse import csr_matrix, hstack, vstack

    stages = [s for s in net.stages if isinstance(s, Affine) and s.stairs is not None]
    first = first_staircases(net)
    if not first or any(isinstance(s, Largest) for s in net.stages):
        return None
    at: dict[int, int] = {}
    size = 0
    for index in net.leaves:
        at[index] = size
        size += regions.leaves[index].low.shape[1]
    rows, low, high = [], [], []
    for stage in first:
        parts = [_placed(matrix.sparse, at[index], size) for index, matrix in net.matrices[stage.out]]
        rows.append(sum(parts[1:], parts[0]))
        reach = regions.reach[stage.out]
        low.append(reach.low[0] - stage.bias)
        high.append(reach.high[0] - stage.bias)
    sums, least, most = vstack(rows).tocsr().astype(float), np.concatenate(low), np.concatenate(high)
    slack = csr_matrix(-np.ones((sums.shape[0], 1)))
    box = [pair for i in net.leaves for pair in zip(*(end[0] for end in regions.leaves[i]), strict=True)]
    found = linprog(
        np.append(np.zeros(size), 1.0),
        A_ub=vstack([hstack([-sums, slack]), hstack([sums, slack])]).tocsr(),
        b_ub=np.concatenate([-least, most]),
        bounds=[*box, (None, None)],
        method="highs",
    )
    if found.x is None:
        return None
    lower, upper = np.split(-np.asarray(found.ineqlin.marginals), 2)
    push = (upper - lower) * _PUSH
    multipliers: Multipliers = {}
    done = 0
    for stage in stages:
        count = len(stage.bias)
        inner = stage not in first
        multipliers[stage.out] = np.zeros((1, count)) if inner else push[None, done : done + count]
        done += 0 if inner else count
    points = {i: found.x[None, at[i] : at[i] + regions.leaves[i].low.shape[1]] for i in net.leaves}
    return multipliers, points


def between(regions: Regions, points: Points) -> list[Regions]:
    """One row in two, at the leaf's number that is furthest from a whole one; none where all are whole."""
    most, where = _WHOLE, None
    for index, point in points.items():
        away = np.abs(point[0] - np.rint(point[0]))
        if len(away) and away.max() > most:
            most, where = float(away.max()), (index, int(away.argmax()))
    if where is None:
        return []
    index, element = where
    box, at = regions.leaves[index], int(np.floor(points[index][0, element]))
    low, high = box.low.copy(), box.high.copy()
    high[0, element], low[0, element] = at, at + 1
    parts = Interval(box.low, high), Interval(low, box.high)
    return [Regions({**regions.leaves, index: part}, regions.reach) for part in parts]


def _placed(matrix: csr_matrix, at: int, size: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    wide = matrix.tocoo()
    return csr_matrix((wide.data, (wide.row, wide.col + at)), shape=(matrix.shape[0], size))
