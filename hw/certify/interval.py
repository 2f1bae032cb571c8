"""Intervals of integers, and what rounding, saturation and tables make of them: exact, never rounded.

Arrays are int64, or Python's own integers (dtype object) where a step on the way would not fit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.scalars import ApInt
from qmodels.formats import FixedPoint, Overflow, Rounding

Integers = NDArray[Any]  # int64, or Python integers as objects

#: Magnitudes below 2**62 leave int64 a bit for sums and differences.
SAFE_BITS = 62


class Interval(NamedTuple):
    """Every number lies in [low, high], element by element: shapes (N, elements)."""

    low: Integers
    high: Integers

    def hull(self, other: Interval) -> Interval:
        """The smallest interval around both."""
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def clip(self, low: int | None, high: int | None) -> Interval:
        """Both ends, clamped."""
        ends: list[Integers] = []
        for end in self:
            least = end if low is None else np.maximum(end, low)
            ends.append(least if high is None else np.minimum(least, high))
        return Interval(*ends)

    def times(self, scale: Any) -> Interval:
        """Multiplied by numbers of either sign."""
        one, two = self.low * scale, self.high * scale
        return Interval(np.minimum(one, two), np.maximum(one, two))

    def plus(self, offset: Any) -> Interval:
        """Moved by `offset`."""
        return Interval(self.low + offset, self.high + offset)

    def take(self, index: Any) -> Interval:
        """Some of the elements, of every sample."""
        return Interval(self.low[:, index], self.high[:, index])

    def wide(self) -> Interval:
        """In Python's integers, which never overflow."""
        return Interval(self.low.astype(object), self.high.astype(object))

    def narrow(self) -> Interval:
        """In int64 where that holds them."""
        if self.low.dtype != object or bits_of(self) > SAFE_BITS:
            return self
        return Interval(self.low.astype(np.int64), self.high.astype(np.int64))

    @property
    def span(self) -> tuple[int, int]:
        """The smallest and the largest number of all elements; (0, 0) where there are none."""
        return int(self.low.min(initial=0)), int(self.high.max(initial=0))


def bits_of(what: Interval) -> int:
    """Bits of the largest magnitude."""
    low, high = what.span
    return max(low.bit_length(), high.bit_length())


def round_shift(v: Integers, bits: int, mode: Rounding) -> Integers:
    """v / 2**bits, rounded as `ap_q_mode` says; the vectors' form of `scalars.round_shift`. Never decreasing in v."""
    if bits <= 0:
        return v << -bits
    half, floor = 1 << (bits - 1), v >> bits
    if mode is Rounding.TRN:
        return floor
    if mode is Rounding.TRN_ZERO:
        return np.where(v < 0, -((-v) >> bits), floor)
    add: Any
    if mode is Rounding.RND:
        add = half
    elif mode is Rounding.RND_ZERO:
        add = half - 1 + (v < 0).astype(v.dtype)
    elif mode is Rounding.RND_INF:
        add = half - (v < 0).astype(v.dtype)
    elif mode is Rounding.RND_MIN_INF:
        add = half - 1
    else:
        add = half - 1 + (floor & 1)
    moved: Integers = (v + add) >> bits
    return moved


def cast(what: Interval, source: FixedPoint, target: FixedPoint) -> Interval:
    """The interval that `ap_fixed_base::operator=` makes of an interval: its hull, exactly."""
    if isinstance(target, ApInt):
        target = target._replace(rounding=target.rounding_from(source))
    bits = bits_of(what)
    shift = min(source.fraction - target.fraction, bits + 2)  # beyond, every shift gives the same
    if target.overflow is Overflow.WRAP and -shift >= target.width:
        return what.times(0)
    if bits - shift > SAFE_BITS:
        what = what.wide()
    rounded = Interval(*(round_shift(end, shift, target.rounding) for end in what))
    low, high = target.raw_min, target.raw_max
    if target.overflow is Overflow.SAT:
        return rounded.clip(low, high)
    if target.overflow is Overflow.SAT_SYM:
        return rounded.clip(-high, high) if target.signed else rounded.clip(low, high)
    if target.overflow is Overflow.WRAP:
        return _wrap(rounded, target.width, low, max(-shift, 0))
    inside = (rounded.low >= low) & (rounded.high <= high)
    if target.overflow is Overflow.WRAP_SM:
        return Interval(np.where(inside, rounded.low, low), np.where(inside, rounded.high, high))
    # SAT_ZERO: what lies inside stays, the rest is 0
    outside = (rounded.high < low) | (rounded.low > high)
    kept = rounded.clip(low, high)
    least = np.where(inside, kept.low, np.where(outside, 0, np.minimum(kept.low, 0)))
    most = np.where(inside, kept.high, np.where(outside, 0, np.maximum(kept.high, 0)))
    return Interval(least, most)


def _wrap(what: Interval, width: int, low: int, zeros: int) -> Interval:
    """The low bits; the whole range where the interval crosses the end of a period.

    `zeros`: so many of the lowest bits are 0, since the number was shifted up.
    """
    period = (what.low - low) >> width
    same = period == (what.high - low) >> width
    top = low + (1 << width) - (1 << zeros)
    return Interval(
        np.where(same, what.low - (period << width), low), np.where(same, what.high - (period << width), top)
    )
