"""One integer from one fixed-point format to another, as `ap_fixed` does it: the reference of every faster way."""

from __future__ import annotations

from qmodels.formats import FixedPoint, Overflow, Rounding


class ApInt(FixedPoint):
    """The format of an `ap_int`, which converts from `ap_fixed` in its own way (`ap_fixed_base::to_ap_int_base`).

    Towards zero, as C's double to int. But a signed number without integer bits is first cut to one bit, which the
    correction by +1 carries over: every negative one becomes -1, as if rounded down.
    """

    def rounding_from(self, source: FixedPoint) -> Rounding:
        """How numbers of `source` are rounded."""
        return Rounding.TRN if source.signed and source.integer <= 0 else Rounding.TRN_ZERO


def round_shift(v: int, bits: int, mode: Rounding) -> int:
    """v / 2**bits on integers, rounded as `ap_q_mode` says."""
    if bits <= 0:
        return v << -bits
    half, floor = 1 << (bits - 1), v >> bits
    if mode is Rounding.TRN:
        return floor
    if mode is Rounding.TRN_ZERO:
        return -((-v) >> bits) if v < 0 else floor
    add = {
        Rounding.RND: half,
        Rounding.RND_ZERO: half if v < 0 else half - 1,
        Rounding.RND_INF: half - 1 if v < 0 else half,
        Rounding.RND_MIN_INF: half - 1,
        Rounding.RND_CONV: half - 1 + (floor & 1),
    }[mode]
    return (v + add) >> bits


def quantize(raw: int, source: FixedPoint, target: FixedPoint) -> int:
    """One raw integer from one format to another: the scalar reference of `Cast`."""
    shift = source.fraction - target.fraction
    v = round_shift(raw, shift, target.rounding)
    low, high = target.raw_min, target.raw_max
    if target.overflow is Overflow.SAT_SYM and target.signed:
        return min(max(v, -high), high)
    if target.overflow is Overflow.WRAP:
        v &= (1 << target.width) - 1
        return v - (1 << target.width) if v > high else v
    if low <= v <= high:
        return v
    if target.overflow is Overflow.SAT_ZERO:
        return 0
    if target.overflow is Overflow.WRAP_SM:
        return _sign_magnitude(raw, v, shift, source, target)
    return min(max(v, low), high)


def _sign_magnitude(raw: int, v: int, shift: int, source: FixedPoint, target: FixedPoint) -> int:
    """`overflow_adjust` for AP_WRAP_SM, out of range."""
    position, mask, top = shift + target.width, (1 << target.width) - 1, 1 << (target.width - 1)
    lost = 0 <= position < source.width and bool((raw >> position) & 1)
    bits = v & mask
    if lost != bool(bits & top):
        bits = ~bits & mask
        bits = bits | top if lost else bits & ~top
    return bits - (1 << target.width) if bits & top else bits
