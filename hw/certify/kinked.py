"""Closer bounds from a reference point: what lies above it and what lies below it is weighed apart.

Let r be any point, and a(r) its sums. A change of the input moves a sum up by u >= 0 and down by d >= 0, each the sum
of the terms of one sign: a = a(r) + u - d. For numbers above <= below,

    mu g(a) = [mu g(a) - above u + below d] + above u - below d,

and the bracket is at least mu g(a) - above (a - a(r)) where a >= a(r), and mu g(a) - below (a - a(r)) elsewhere: it is
minimised step by step on both sides of a(r). The rest depends on the layer before, with one weight for what rises
above r and one for what falls below, and so on back to the box. With above = below this is `dual.evaluate`. The
difference counts moves that cancel in a sum, as mixed-integer rounding cuts do: at the point where a relaxation thinks
the answer lies, it can be exact. Any multipliers give a true bound, and whole ones an exact one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Multipliers, Net, Objective, Points, Regions, _members, group_minimum
from hw.certify.groups import Group
from hw.certify.interval import SAFE_BITS, Interval
from hw.certify.matrix import Matrix, TooLarge, check_products
from hw.certify.stages import Affine, Largest
from hw.certify.staircase import Staircase

_FAR = 1 << 60
ABOVE, BELOW = 0, 1  # second axis of multipliers (rows, 2, n) of affine stages; those of largest ones have one for all


@dataclass(frozen=True, eq=False)
class Kinked:
    """A lower bound a row, and what attains its parts: by value and by stage's output, (rows, n).

    Args:
        value: the bounds.
        values: what each value is taken to be.
        sums: where each staircase's sums are taken to be; of largest ones the group's members.
        worth: mean of the two weights of every stage's output.
        centre: by stage's output, the reference's sums.
        lines: both weights (rows, 2, n) of every stage's output.
        least: by output of stages with steps, what each neuron costs.
    """

    value: NDArray[Any]
    values: Points
    sums: Points
    worth: Points
    centre: Points
    lines: Points
    least: Points


def twice(multipliers: Multipliers, net: Net) -> Multipliers:
    """Multipliers without a kink: the same above and below."""
    return {out: np.stack([lam, lam], axis=1) if affine(net, out) else lam for out, lam in multipliers.items()}


def affine(net: Net, out: int) -> bool:
    """Whether a stage has multipliers above and below."""
    return any(s.out == out and isinstance(s, Affine) for s in net.stages)


def evaluate(net: Net, regions: Regions, objective: Objective, multipliers: Multipliers, reference: Points) -> Kinked:
    """The bound for these multipliers (above <= below) and reference points: exact for whole numbers.

    Args:
        net: stages.
        regions: where.
        objective: what is bounded.
        multipliers: by stage's output (rows, 2, n), of largest ones (rows, group size, n).
        reference: by value (rows, n), whole numbers; leaves' within their boxes.

    Raises:
        TooLarge: int64 may not hold it.
    """
    sum_up = _Sum(objective.constant)
    worth: dict[int, Any] = {}
    for index, c in objective.coefficients.items():
        check_products(c, reference[index])
        sum_up.add(c * reference[index])
        worth[index] = np.stack([c, c], axis=1)
    values: Points = {}
    sums: Points = {}
    worths: Points = {}
    centre: Points = {}
    lines: Points = {}
    least: Points = {}
    for stage in reversed(net.stages):
        mu = worth.pop(stage.out, None)
        if mu is None:
            continue
        worths[stage.out], lines[stage.out] = (mu[:, ABOVE] + mu[:, BELOW]) / 2, mu
        reach, here = regions.reach[stage.out], reference[stage.out]
        if isinstance(stage, Largest):
            lam = multipliers[stage.out]
            slope, offset = _chord(mu, here, reach)
            sum_up.add(offset)
            found, values[stage.out], sums[stage.out] = group_minimum(slope, lam, _members(stage, regions, net))
            sum_up.add(found)
            back = stage.back(lam)
            check_products(back, reference[stage.source])
            sum_up.add(back * reference[stage.source])
            worth[stage.source] = worth.get(stage.source, 0) + np.stack([back, back], axis=1)
            continue
        at = stage.bias
        for index, matrix in net.matrices[stage.out]:
            at = at + matrix.forward(np.asarray(reference[index], np.int64))
        centre[stage.out] = at
        lam = mu
        if stage.stairs is not None:
            lam = straight(multipliers[stage.out], net.grouped(stage.out))
            found, edge = _minimum(stage.stairs, mu, lam, reach, at, here)
            sum_up.add(found)
            sums[stage.out], values[stage.out], least[stage.out] = edge, stage.stairs(edge), found
        elif (at != here).any():
            raise AssertionError("the reference of plain sums is what they are")
        for index, matrix in net.matrices[stage.out]:
            part = _back(matrix, lam)
            worth[index] = worth[index] + part if index in worth else part
    for index, mu in worth.items():
        here = reference[index]
        values[index] = _leaf(mu, regions.leaves[index], here, net.groups.get(index, ()))
        change = values[index] - here
        check_products(mu, change)
        sum_up.add(np.where(change > 0, mu[:, ABOVE], mu[:, BELOW]) * change)
    return Kinked(sum_up.total(), values, sums, worths, centre, lines, least)


class _Sum:
    """Sums a row, and how large they may get on the way."""

    def __init__(self, start: NDArray[Any]) -> None:
        self.value, self.size = start.copy(), np.abs(start.astype(np.float64))

    def add(self, terms: NDArray[Any]) -> None:
        """All terms (rows, n)."""
        self.value = self.value + terms.sum(axis=1)
        self.size += np.abs(terms.astype(np.float64)).sum(axis=1)

    def total(self) -> NDArray[Any]:
        """The sums; TooLarge where int64 may have wrapped."""
        if self.value.dtype != np.float64 and self.size.max(initial=0) >= 2.0 ** (SAFE_BITS - 1):
            raise TooLarge
        return self.value


def _minimum(stairs: Staircase, mu: Any, lam: Any, reach: Interval, at: Any, here: Any) -> tuple[Any, Any]:
    """min over a in `reach` of the worth of g(a) - here, less lam (a - at); and an a that attains it.

    Weights above are at most those below, so the worth of a change is the smaller one of both lines: there is one
    minimum for each line and each side of `at`.
    """
    check_products(mu, here)
    check_products(lam, at)
    straight = bool((mu[:, ABOVE] == mu[:, BELOW]).all())
    if straight and bool((lam[:, ABOVE] == lam[:, BELOW]).all()):
        cost, where = stairs.minimum(mu[:, ABOVE], lam[:, ABOVE], reach.low, reach.high)
        return cost - mu[:, ABOVE] * here + lam[:, ABOVE] * at, where
    found = edge = None
    for side in (ABOVE, BELOW):
        low = np.maximum(reach.low, at) if side == ABOVE else reach.low
        high = np.minimum(reach.high, at) if side == BELOW else reach.high
        none, slope = low > high, lam[:, side]
        low, high = (np.minimum(low, high), high) if side == ABOVE else (low, np.maximum(low, high))
        for line in (ABOVE,) if straight else (ABOVE, BELOW):
            cost, where = stairs.minimum(mu[:, line], slope, low, high)
            cost = np.where(none, _FAR, cost - mu[:, line] * here + slope * at)
            if found is None or edge is None:
                found, edge = cost, where
            else:
                better = cost < found
                found, edge = np.where(better, cost, found), np.where(better, where, edge)
    return found, edge


def _leaf(mu: Any, box: Interval, here: Any, groups: tuple[Group, ...]) -> Any:
    """What values of a leaf are worth least, counted from `here`: groups are used where the weights have no kink."""
    check_products(mu, box.high - here, box.low - here)
    rise, fall = mu[:, ABOVE] * (box.high - here), mu[:, BELOW] * (box.low - here)
    at = np.where(np.minimum(rise, fall) >= 0, here, np.where(rise < fall, box.high, box.low))
    if (mu[:, ABOVE] == mu[:, BELOW]).all():
        for group in groups:
            at[:, group.elements] = group.best(mu[:, ABOVE])
    return at


def straight(lam: Any, wanted: bool) -> Any:
    """The same multipliers above and below where that is wanted, so that `Group.best` can be asked."""
    if not wanted:
        return lam
    both = lam.sum(axis=1, keepdims=True)
    return np.repeat(both / 2 if lam.dtype == np.float64 else both // 2, 2, axis=1)


def _chord(mu: Any, here: Any, box: Interval) -> tuple[Any, Any]:
    """A line below the worth of a value in a box, which bends down at `here`: slope, and worth at 0."""

    def worth(at: Any) -> Any:
        return np.where(at > here, mu[:, ABOVE], mu[:, BELOW]) * (at - here)

    check_products(mu, box.low, box.low - here, box.high - here)
    first, last = worth(box.low), worth(box.high)
    width = np.maximum(box.high - box.low, 1)
    slope = (last - first) // width if mu.dtype != np.float64 else (last - first) / width
    return slope, first - slope * box.low


def _back(matrix: Matrix, lam: Any) -> Any:
    """Weights (rows, 2, inputs) of what a layer reads, from those (rows, 2, n) of its sums."""
    rows = len(lam)
    both = np.concatenate([lam[:, ABOVE], lam[:, BELOW]])
    up, down = matrix.up.backward(both), matrix.down.backward(both)
    return np.stack([up[:rows] + down[rows:], up[rows:] + down[:rows]], axis=1)


def supergradient(net: Net, bound: Kinked, reference: Points) -> tuple[Points, Points]:
    """By how much each multiplier's terms differ: (rows, 2, n), of largest ones (rows, group size, n).

    And what the sums of the stages with steps really are for the values that were chosen, (rows, n).
    """
    slope: Points = {}
    true: Points = {}
    for stage in net.stages:
        if stage.out not in bound.worth:
            continue
        if isinstance(stage, Largest):
            slope[stage.out] = (bound.values[stage.source][:, stage.members] - bound.sums[stage.out]).astype(float)
            continue
        rise = fall = 0.0
        for index, matrix in net.matrices[stage.out]:
            change = np.asarray(bound.values[index] - reference[index], np.float64)
            more, less = np.maximum(change, 0), np.maximum(-change, 0)
            rise = rise + matrix.up.forward(more) - matrix.down.forward(less)
            fall = fall - matrix.down.forward(more) + matrix.up.forward(less)
        at = bound.centre[stage.out]
        if stage.stairs is None:
            bound.values[stage.out] = at + rise - fall
            continue
        true[stage.out] = at + rise - fall
        chosen = bound.sums[stage.out] - at
        slope[stage.out] = np.stack([rise - np.maximum(chosen, 0), np.maximum(-chosen, 0) - fall], axis=1)
    return slope, true


def ordered(lam: Any) -> Any:
    """Multipliers whose weights above are at most those below: both their mean where they were not."""
    mean = lam.mean(axis=1)
    found = np.stack([np.minimum(lam[:, ABOVE], mean), np.maximum(lam[:, BELOW], mean)], axis=1)
    return found
