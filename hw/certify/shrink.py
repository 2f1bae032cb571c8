"""A smaller network for one box: what cannot change there is added up, and what nobody reads is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hw.certify.dual import Net, Objective, Regions
from hw.certify.interval import Integers, Interval
from hw.certify.matrix import Matrix
from hw.certify.stages import Largest, Stage


def shrink(net: Net, regions: Regions, goal: Objective) -> tuple[Net, Regions, Objective, dict[int, Any]]:
    """The same questions about fewer neurons; all rows of `regions` are the same box.

    Returns:
        net, regions, goal, and by leaf the elements that are left.
    """
    kept = _kept(net, regions)
    fixed = {index: _fixed(net, regions, index) for index in kept}
    stages: list[Stage] = []
    matrices: dict[int, tuple[tuple[int, Matrix], ...]] = {}
    reach: dict[int, Interval] = {}
    for stage in net.stages:
        mine = kept[stage.out]
        reach[stage.out] = regions.reach[stage.out].take(mine)
        if isinstance(stage, Largest):
            place = np.full(stage.inputs, -1)
            place[kept[stage.source]] = np.arange(len(kept[stage.source]))
            members = place[stage.members[:, mine]]
            stages.append(replace(stage, members=members, inputs=len(kept[stage.source])))
            continue
        bias: Integers = stage.bias[mine]
        parts = []
        for index, matrix in net.matrices[stage.out]:
            rows = matrix.sparse[mine]
            bias = bias + _constant(rows, fixed[index], kept[index])
            parts.append((index, Matrix(rows[:, kept[index]].tocsr())))
        matrices[stage.out] = tuple(parts)
        stages.append(replace(stage, bias=bias, parts=()))
    constant = goal.constant.copy()
    coefficients = {}
    for index, weights in goal.coefficients.items():
        away = np.setdiff1d(np.arange(weights.shape[1]), kept[index])
        constant = constant + weights[:, away] @ fixed[index][away]
        coefficients[index] = weights[:, kept[index]]
    leaves = {i: Interval(*(end[:1, kept[i]] for end in regions.leaves[i])) for i in net.leaves}
    small = Net(tuple(stages), matrices, net.leaves)
    return small, Regions(leaves, reach), Objective(coefficients, constant), {i: kept[i] for i in net.leaves}


def _fixed(net: Net, regions: Regions, index: int) -> Integers:
    values: Integers = regions.outputs(net, index).low[0]
    return values


def _constant(rows: Any, values: Integers, kept: Any) -> Integers:
    others = values.copy()
    others[kept] = 0
    found: Integers = rows @ others
    return found


def _kept(net: Net, regions: Regions) -> dict[int, Any]:
    """By value, the elements that can change, or that a group which can change reads."""
    kept: dict[int, Any] = {}
    for index in [*net.leaves, *(s.out for s in net.stages)]:
        box = regions.outputs(net, index)
        kept[index] = np.flatnonzero(box.low[0] < box.high[0])
    for stage in reversed(net.stages):
        if isinstance(stage, Largest):
            read = np.unique(stage.members[:, kept[stage.out]])
            kept[stage.source] = np.union1d(kept[stage.source], read).astype(np.int64)
    return kept
