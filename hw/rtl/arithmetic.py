"""bitsim's recipes on alkaid's symbolic numbers, one element at a time.

A symbolic number stands for a raw integer: its step is 1 or a larger power of two. alkaid keeps its interval, so what
can be decided from the interval (a clamp that never acts) costs no logic. Wrapping, comparing, adding and tables are
alkaid's; rounding and saturation are written with them here, so that all modes but AP_WRAP_SM can be said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from hw.simulate.bitsim.program import Ints
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
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding

#: alkaid's FVariable, or a number where it is known.
Number = Any
#: Bits of any number: alkaid computes with doubles and 64-bit integers.
MAX_BITS = 48
#: A constant's bits from its highest to its lowest set one: alkaid finds the lowest one of a float32.
MAX_CONSTANT_BITS = 24
#: Bits of a table's values: alkaid looks at them as float32.
MAX_TABLE_BITS = 24
MAX_TABLE = 1 << 12


def refuse(layer: str, why: str) -> NoReturn:
    """UserError naming the layer."""
    raise UserError(f"layer {layer!r}: no RTL for {why}; the vendor project has it (robust-hls generate)")


@dataclass(frozen=True)
class Place:
    """Whose number it is: the layer, and the element's pixel and channel, which `Param` actions tell apart."""

    layer: str
    pixel: int = 0
    channel: int = 0
    pairs: int = 1  # of channels a pixel has


def apply(recipe: Recipe, v: Number, place: Place) -> Number:
    """recipe(v).

    Raises:
        UserError: something that alkaid cannot say; names the layer.
    """
    for action in recipe.actions:
        v = checked(_act(action, v, place), place.layer)
    return v


def _act(action: Action, v: Number, place: Place) -> Number:
    if isinstance(action, Cast):
        return cast(v, action.source, action.target, place.layer)
    if isinstance(action, Clamp):
        return clamp(v, action.low, action.high, place.layer)
    if isinstance(action, Affine):
        return add(times(v, action.scale, place.layer), action.offset, place.layer)
    if isinstance(action, ShiftLeft):
        return v * float(2**action.bits)
    if isinstance(action, Param):
        row = (place.pixel * place.pairs + place.channel // 2) % len(action.data)
        number = int(action.data[row, place.channel % 2])
        return times(v, number, place.layer) if action.multiply else add(v, number, place.layer)
    if isinstance(action, DivideTowardsZero):
        return _divide(v, action.divisor, place.layer)
    if isinstance(action, LookupTable):
        return look_up(v, action.table, action.base, place.layer)
    return _choose(action, v, place)


def is_known(v: Number) -> bool:
    """Whether the number is the same for every input."""
    return not hasattr(v, "qint") or bool(v.low == v.high)


def bounds(v: Number) -> tuple[int, int]:
    """The raw integers it lies between."""
    return (int(v.low), int(v.high)) if hasattr(v, "qint") else (int(v), int(v))


def checked(v: Number, layer: str) -> Number:
    """The number, if alkaid can carry it."""
    low, high = bounds(v)
    if max(abs(low), abs(high)) >> MAX_BITS:
        refuse(layer, f"numbers of more than {MAX_BITS} bits")
    if not hasattr(v, "qint"):
        return float(v)
    if low % int(v.step):  # the step was found from a float32 of a constant, which is too coarse for this one
        refuse(layer, f"constants that add up to more than {MAX_CONSTANT_BITS} bits")
    return v


def add(v: Number, constant: int, layer: str) -> Number:
    """v + constant. alkaid joins additions in a row, and keeps 32 bits of the joined constant."""
    if constant == 0 or not hasattr(v, "qint"):
        return v + constant
    _check_constant(v, constant, layer)
    return v + float(constant)


def _check_constant(v: Number, constant: int, layer: str) -> None:
    joined = float(constant)
    if v.opr == "cadd":
        low, shift = v._data & 0xFFFFFFFF, (v._data >> 32) & 0xFFFFFFFF
        joined += _signed(low) * 2.0 ** -_signed(shift) * v._factor
    if _odd_bits(joined) > MAX_CONSTANT_BITS:
        refuse(layer, f"a constant of {_odd_bits(joined)} bits (allowed: {MAX_CONSTANT_BITS})")


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _odd_bits(value: float) -> int:
    """Bits from the highest to the lowest set one."""
    numerator, _ = abs(value).as_integer_ratio()
    return (numerator // (numerator & -numerator)).bit_length() if numerator else 0


def times(v: Number, constant: int, layer: str) -> Number:
    """v * constant, as shifts and adds."""
    if constant == 0:
        return 0.0
    if _odd_bits(constant) > MAX_TABLE_BITS:
        refuse(layer, f"a factor of {_odd_bits(constant)} bits (allowed: {MAX_TABLE_BITS})")
    return v * float(constant)


def clamp(v: Number, low: int | None, high: int | None, layer: str) -> Number:
    """v kept between raw bounds."""
    if low is not None and bounds(v)[0] < low:
        v = _extreme(v, low, "max_of", layer)
    if high is not None and bounds(v)[1] > high:
        v = _extreme(v, high, "min_of", layer)
    return v


def _extreme(v: Number, bound: int, which: str, layer: str) -> Number:
    """The larger or smaller one of a number and a bound on its wrong side for some input."""
    if is_known(v):
        return float(bound)
    _check_constant(v, -bound, layer)
    return getattr(v, which)(float(bound))


def negative(v: Number) -> Number:
    """1 where v < 0, else 0."""
    if not hasattr(v, "qint"):
        return float(v < 0)
    if v._factor < 0:  # alkaid 0.8.2's msb_mux loses the sign of a number that is minus a wrapped one
        return 1.0 - (-v - 1.0).is_negative()
    return v.is_negative()


def select(condition: Number, yes: Number, no: Number) -> Number:
    """`yes` where the condition, a bit, is 1, else `no`."""
    if not hasattr(condition, "qint") or is_known(condition):
        return yes if bounds(condition)[0] else no
    return condition.msb_mux(yes, no)


def floor_shift(v: Number, bits: int) -> Number:
    """v >> bits, rounded down; to the left where bits is negative."""
    scaled = v * 2.0**-bits
    if bits <= 0:
        return scaled
    if not hasattr(v, "qint"):
        return float(np.floor(scaled))
    signed, integer, _ = scaled.kif
    if int(signed) + integer <= 0:  # only fraction bits are left: 0, or -1 below it
        return -negative(v)
    return scaled.quantize(signed, integer, 0)


def round_shift(v: Number, bits: int, mode: Rounding, layer: str) -> Number:
    """v / 2**bits on raw integers as `ap_q_mode` says; see `hw.simulate.bitsim.scalars.round_shift`."""
    if bits <= 0 or mode is Rounding.TRN:
        return floor_shift(v, bits)
    half = 1 << (bits - 1)
    if mode is Rounding.TRN_ZERO:
        return floor_shift(v + negative(v) * float((1 << bits) - 1), bits)
    if mode is Rounding.RND:
        return floor_shift(add(v, half, layer), bits)
    below = add(v, half - 1, layer)
    if mode is Rounding.RND_MIN_INF:
        return floor_shift(below, bits)
    if mode is Rounding.RND_CONV:
        return floor_shift(below + _low_bit(floor_shift(v, bits)), bits)
    # away from zero adds one to what is positive, towards zero to what is negative
    one_more = negative(v) if mode is Rounding.RND_ZERO else 1.0 - negative(v)
    return floor_shift(below + one_more, bits)


def _low_bit(v: Number) -> Number:
    return v.quantize(0, 1, 0) if hasattr(v, "qint") else float(int(v) & 1)


def cast(v: Number, source: FixedPoint, target: FixedPoint, layer: str) -> Number:
    """A raw integer from one format to another; see `hw.simulate.bitsim.scalars.quantize`."""
    v = checked(round_shift(v, source.fraction - target.fraction, target.rounding, layer), layer)
    low, high = target.raw_min, target.raw_max
    if target.overflow is Overflow.SAT_SYM and target.signed:
        return clamp(v, -high, high, layer)
    least, most = bounds(v)
    if low <= least and most <= high:
        return v
    if target.overflow is Overflow.WRAP:
        return wrap(v, target)
    if target.overflow is Overflow.SAT_ZERO:
        inside = select(negative(add(v, -low, layer)), 0.0, v) if least < low else v
        return select(negative(add(-v, high, layer)), 0.0, inside) if most > high else inside
    if target.overflow is Overflow.WRAP_SM:
        refuse(layer, "AP_WRAP_SM")
    return clamp(v, low, high, layer)


def wrap(v: Number, target: FixedPoint) -> Number:
    """The low bits, as the target's type reads them."""
    if not hasattr(v, "qint"):
        size = float(1 << target.width)
        return (v - target.raw_min) % size + target.raw_min
    return v.quantize(int(target.signed), target.width - int(target.signed), 0)


def _divide(v: Number, divisor: int, layer: str) -> Number:
    """v / divisor towards zero: a shift where it is a power of two, else a table."""
    if divisor < 0:
        return -_divide(v, -divisor, layer)
    if divisor & (divisor - 1) == 0:
        return round_shift(v, divisor.bit_length() - 1, Rounding.TRN_ZERO, layer)
    low, high = bounds(v)
    if high - low >= MAX_TABLE:
        refuse(layer, f"a division by {divisor} of numbers from {low} to {high} (by a power of two there is)")
    every = np.arange(low, high + 1)
    return look_up(v, np.sign(every) * (np.abs(every) // divisor), low, layer)


def look_up(v: Number, table: Ints, base: int, layer: str) -> Number:
    """table[v - base]."""
    low, high = bounds(v)
    part = np.asarray(table)[low - base : high - base + 1]
    if len(part) > MAX_TABLE or int(np.abs(part).max(initial=0)) >> MAX_TABLE_BITS:
        refuse(layer, f"a table of {len(part)} values (allowed: {MAX_TABLE}, of up to {MAX_TABLE_BITS} bits)")
    if is_known(v):
        return float(part[0])
    return v.lookup(part[:: int(v.step)].astype(np.float64))


def _choose(action: Choose, v: Number, place: Place) -> Number:
    yes, no = (apply(Recipe(branch), v, place) for branch in (action.yes, action.no))
    if action.or_equal:
        below = negative(add(v, -action.threshold, place.layer))
        return select(below, no, yes)
    above = negative(add(-v, action.threshold, place.layer))
    return select(above, yes, no)
