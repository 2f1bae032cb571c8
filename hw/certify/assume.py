"""Closer bounds of inner sums where a wrong decision is assumed.

Only inputs that are decided wrongly matter. Their difference d of outputs is below what is needed. Let s be a number
and a the sum of a neuron. A lower bound m of d + s a over a region gives s a >= m - d, and so a bound of a wherever d
is too small. It is often much closer than the one of all inputs, since an input that is decided wrongly must lie where
most neurons help. The multipliers that have bounded d are a good start, s is near the neuron's own multiplier. Solvers
of integer programs know this as bound tightening with the objective's cutoff. What is concluded is in int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Multipliers, Net, Objective, Regions
from hw.certify.interval import Interval
from hw.certify.nodes import cuttable, exact_bound, narrowed
from hw.certify.search import ascend
from hw.certify.stages import Affine

_ROWS = 256  # that are worked on at once
_FACTORS = 3.0, 8.0  # s, by the neuron's own multiplier: with large ones more is gained
_LEAST = 0.25  # s is no smaller than this share of the stage's mean multiplier
_FINE, _UNITS = 64.0, 16  # s is a whole number near these many units; an objective is worth 2**0 to 2**16 of them
_RATE = 0.2


def assumed(
    net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], lam: Multipliers, steps: int
) -> tuple[Regions, NDArray[np.bool_]]:
    """The part of each row where a wrong decision is possible, and which rows have none.

    Args:
        net: stages.
        regions: rows.
        goal: what must be at least `need`, a row each.
        need: a row each.
        lam: multipliers of each row without a kink.
        steps: of every ascent.
    """
    empty = np.zeros(len(regions), np.bool_)
    for stage in cuttable(net):
        assert stage.stairs is not None
        reach = regions.reach[stage.out]
        moves = (stage.stairs.index(reach.low) < stage.stairs.index(reach.high)) & ~empty[:, None]
        row, neuron = np.nonzero(moves)
        if not len(row):
            continue
        low, high = reach.low.copy(), reach.high.copy()
        size, unit = _sizes(np.abs(lam[stage.out]), moves)
        factors = np.array([sign * factor for factor in _FACTORS for sign in (1, -1)])
        own = lam[stage.out][row, neuron]
        # a wrong decision wants a sum where its multiplier pulls it: from there it is the other end that comes closer
        wanted = (own[:, None] * factors <= 0) | (np.abs(own) < size[row, neuron])[:, None]
        weight = np.rint(size[row, neuron][:, None] * factors * unit).astype(np.int64)[wanted]
        row, neuron = (np.broadcast_to(part[:, None], wanted.shape)[wanted] for part in (row, neuron))
        for first in range(0, len(row), _ROWS):
            part = slice(first, first + _ROWS)
            r, n, s = row[part], neuron[part], weight[part]
            room = _room(net, stage, regions.take(r), goal.take(r), need[r], (n, s, unit), lam, r, steps)
            if room is None:
                continue
            up = s > 0
            np.maximum.at(low, (r[up], n[up]), -((-room[up]) // s[up]))
            np.minimum.at(high, (r[~up], n[~up]), room[~up] // s[~up])
        regions, gone = narrowed(net, Regions(regions.leaves, {**regions.reach, stage.out: Interval(low, high)}))
        empty |= gone
    return regions, empty


def _sizes(lam: NDArray[Any], moves: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """What s is near, (rows, n), and what an objective is multiplied by so that s may be a whole number."""
    typical = (lam * moves).sum(axis=1) / np.maximum(moves.sum(axis=1), 1)
    overall = max(float(typical.max()), 2.0**-_UNITS)
    unit = 1 << int(np.clip(np.ceil(np.log2(_FINE / overall)), 0, _UNITS))
    return np.maximum(np.maximum(lam, _LEAST * typical[:, None]), 2.0 / unit), unit


def _room(
    net: Net,
    stage: Affine,
    regions: Regions,
    goal: Objective,
    need: NDArray[np.int64],
    pulled: tuple[NDArray[np.int64], NDArray[np.int64], int],
    lam: Multipliers,
    rows: NDArray[np.int64],
    steps: int,
) -> NDArray[np.int64] | None:
    """What s times each sum is at least where a decision is wrong; None where int64 may not hold the proof."""
    neuron, weight, unit = pulled
    weights = np.zeros((len(neuron), len(stage.bias)), np.int64)
    weights[np.arange(len(neuron)), neuron] = weight
    sums = Objective.of(net, stage, weights)
    coefficients = {index: c * unit for index, c in goal.coefficients.items()}
    for index, c in sums.coefficients.items():
        coefficients[index] = coefficients[index] + c if index in coefficients else c
    both = Objective(coefficients, goal.constant * unit + sums.constant)
    start = {out: value[rows] * unit for out, value in lam.items()}
    never: NDArray[np.float64] = np.full(len(need), np.inf)
    found = ascend(net, regions, both.floats(), start, steps, never, _RATE)
    exact = exact_bound(net, regions, both, found.multipliers)
    if exact is None:
        return None
    return np.asarray(-((-exact.bound.value) // exact.scale) - (need - 1) * unit)
