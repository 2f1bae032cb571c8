"""Inputs that come near a wrong decision: projected gradient steps through the stages, straight through quantizers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.stages import Affine, Largest

_RATE = 2.5  # of the first steps, times the box over the number of steps


def descend(
    net: Net, regions: Regions, objective: Objective, steps: int, rng: np.random.Generator, corner: bool = False
) -> list[Points]:
    """Leaves that make the objective small: where each row ends, and one step before.

    Args:
        net: stages before the last.
        regions: one row an objective; only the leaves' boxes matter.
        objective: to be made small.
        steps: gradient steps.
        rng: for the start.
        corner: start at the middle of the box and not somewhere in it.
    """
    low = {i: b.low.astype(np.float64) for i, b in regions.leaves.items()}
    wide = {i: b.high - low[i] for i, b in regions.leaves.items()}
    now = {i: low[i] + wide[i] * (0.5 if corner else rng.random(wide[i].shape)) for i in low}
    seen: list[Points] = []
    for step in range(steps):
        slope = _gradient(net, objective, {i: np.rint(v) for i, v in now.items()})
        rate = _RATE / steps if step < steps - 1 else 1.0
        now = {
            i: np.clip(v - rate * wide[i] * np.sign(slope.get(i, 0.0)), low[i], low[i] + wide[i])
            for i, v in now.items()
        }
        if step >= steps - 2:
            seen.append({i: np.rint(v).astype(np.int64) for i, v in now.items()})
    return seen


def _gradient(net: Net, objective: Objective, leaves: Points) -> Points:
    values: Points = dict(leaves)
    slopes: dict[int, NDArray[np.float64]] = {}
    for stage in net.stages:
        if isinstance(stage, Largest):
            group = values[stage.source][:, stage.members]
            values[stage.out] = group.max(axis=1)
            first = group.argmax(axis=1)[:, None]
            slopes[stage.out] = (np.arange(group.shape[1])[None, :, None] == first).astype(np.float64)
            continue
        total = np.zeros(1) + stage.bias
        for index, matrix in net.matrices[stage.out]:
            total = total + matrix.forward(values[index].astype(np.float64))
        if stage.stairs is None:
            values[stage.out] = total
            continue
        values[stage.out], slopes[stage.out] = _climb(stage, total)
    worth: Points = {i: c.astype(np.float64) for i, c in objective.coefficients.items()}
    for stage in reversed(net.stages):
        mu = worth.pop(stage.out, None)
        if mu is None:
            continue
        if isinstance(stage, Largest):
            worth[stage.source] = worth.get(stage.source, 0.0) + stage.back(mu[:, None] * slopes[stage.out])
            continue
        lam = mu if stage.stairs is None else mu * slopes[stage.out]
        for index, matrix in net.matrices[stage.out]:
            back = matrix.backward(lam)
            worth[index] = worth[index] + back if index in worth else back
    return worth


def _climb(stage: Affine, total: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """g(a), and its slope over the two steps around a: 0 on the flat ends only when they are wide."""
    stairs = stage.stairs
    assert stairs is not None
    a = np.clip(total, stairs.starts[0], stairs.last)
    reach = float(np.median(stairs.widths)) if len(stairs.widths) else 1.0
    up, down = (stairs(np.clip(a + s * reach, stairs.starts[0], stairs.last).astype(np.int64)) for s in (1, -1))
    return stairs(a.astype(np.int64)).astype(np.float64), (up - down) / (2 * reach)
