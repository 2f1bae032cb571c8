"""The interval that a recipe makes of an interval (hw/simulate/bitsim/recipes.py), action by action."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.certify.interval import SAFE_BITS, Integers, Interval, cast
from hw.simulate.bitsim.encode.compiler import compile_recipe
from hw.simulate.bitsim.program import Value
from hw.simulate.bitsim.recipes import (
    Action,
    Affine,
    Cast,
    Choose,
    Clamp,
    DivideTowardsZero,
    LookupTable,
    Param,
    Recipe,
    ShiftLeft,
)


def image(recipe: Recipe, what: Interval, value: Value) -> Interval:
    """Bounds of recipe(v) for v in an interval: the hull after every action.

    Args:
        recipe: what is done to every element.
        what: bounds (N, elements) of what it is done to.
        value: whose elements these are; `Param` actions tell them apart by its image.
    """
    if not recipe.actions:
        return what
    if compile_recipe(recipe, *what.span).peak.bit_length() > SAFE_BITS - 1:
        what = what.wide()
    return _run(recipe.actions, what, value).narrow()


def apply(recipe: Recipe, v: Integers, value: Value) -> Integers:
    """recipe(v) of single numbers (N, elements): an interval of one point has an image of one point."""
    return image(recipe, Interval(v, v), value).low


def _run(actions: tuple[Action, ...], what: Interval, value: Value) -> Interval:
    for action in actions:
        what = _act(action, what, value)
    return what


def _act(action: Action, what: Interval, value: Value) -> Interval:
    if isinstance(action, Cast):
        return cast(what, action.source, action.target)
    if isinstance(action, Clamp):
        return what.clip(action.low, action.high)
    if isinstance(action, Affine):
        return what.times(action.scale).plus(action.offset)
    if isinstance(action, ShiftLeft):
        return what.times(1 << action.bits)
    if isinstance(action, Param):
        p = parameters(action, value)
        return what.times(p) if action.multiply else what.plus(p)
    if isinstance(action, DivideTowardsZero):
        ends = [_divide(end, action.divisor) for end in what]
        return Interval(np.minimum(*ends), np.maximum(*ends))
    if isinstance(action, LookupTable):
        return _look_up(action, what)
    return _choose(action, what, value)


def parameters(action: Param, value: Value) -> NDArray[np.int64]:
    """One parameter an element of the value, flat."""
    height, width, channels = value.image
    pairs = (channels + 1) // 2
    row = (np.arange(height * width)[:, None] * pairs + np.arange(channels) // 2) % len(action.data)
    picked: NDArray[np.int64] = action.data[row, np.arange(channels) % 2].reshape(-1)
    return picked


def _divide(v: Integers, divisor: int) -> Integers:
    quotient = np.abs(v) // abs(divisor)
    return np.where((v < 0) == (divisor < 0), quotient, -quotient)


def _look_up(action: LookupTable, what: Interval) -> Interval:
    """The smallest and the largest entry between two places, from tables of runs of 1, 2, 4, 8, ... entries."""
    first, last = ((end - action.base).astype(np.int64) for end in what)
    length = last - first + 1
    power = np.frexp(length.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2): exact below 2**53
    lows, highs = [action.table], [action.table]
    for k in range(int(power.max(initial=0))):
        step = 1 << k
        lows.append(np.minimum(lows[-1][:-step], lows[-1][step:]))
        highs.append(np.maximum(highs[-1][:-step], highs[-1][step:]))
    low, high = np.empty_like(first), np.empty_like(first)
    for k, (least, most) in enumerate(zip(lows, highs, strict=True)):
        here = power == k
        one, two = first[here], last[here] - (1 << k) + 1
        low[here] = np.minimum(least[one], least[two])
        high[here] = np.maximum(most[one], most[two])
    return Interval(low, high)


def _choose(action: Choose, what: Interval, value: Value) -> Interval:
    """Each branch on the part of the interval that reaches it."""
    threshold = action.threshold if action.or_equal else action.threshold + 1
    above, below = what.high >= threshold, what.low < threshold
    # where a branch is not taken, it is given what the others are: its image is thrown away
    reached = Interval(np.maximum(what.low, threshold), np.maximum(what.high, threshold))
    missed = Interval(np.minimum(what.low, threshold - 1), np.minimum(what.high, threshold - 1))
    if not above.any():
        return _run(action.no, what, value)
    if not below.any():
        return _run(action.yes, what, value)
    yes, no = _run(action.yes, reached, value), _run(action.no, missed, value)
    both = yes.hull(no)
    low = np.where(above & below, both.low, np.where(above, yes.low, no.low))
    return Interval(low, np.where(above & below, both.high, np.where(above, yes.high, no.high)))
