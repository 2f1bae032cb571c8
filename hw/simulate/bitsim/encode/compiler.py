"""From a recipe to machine steps, by interval arithmetic.

`compile_recipe` walks a recipe with the interval of the integers that reach it, drops every step that provably changes
nothing (a wrap that cannot wrap), and reports the largest magnitude on the way, which decides the machine word.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import RoundMode, StepCode
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
from hw.simulate.bitsim.scalars import ApInt, round_shift
from qmodels.formats import FixedPoint, Overflow, Rounding


@dataclass(frozen=True)
class Counter:
    """What a step's changes are counted as: `place` is "result" or "accumulator"."""

    layer: str
    place: str
    wraps: bool


@dataclass(frozen=True, eq=False)
class Step:
    """One machine step, as kernels/steps.h reads it: `n` bits, `mode` of rounding or signedness, `a` and `b` constants.

    `data`: a table, or parameters that repeat every `period` rows. Widths are for WRAP_SM. Unused fields are 0.
    """

    code: StepCode
    n: int = 0
    mode: int = 0
    a: int = 0
    b: int = 0
    data: NDArray[np.int64] | None = None
    period: int = 1
    source_width: int = 0
    width: int = 0
    counter: Counter | None = None


@dataclass
class Compiler:
    """Collects steps, and follows the interval [low, high] through them."""

    low: int
    high: int
    steps: list[Step] = field(default_factory=list)
    peak: int = 0

    def __post_init__(self) -> None:
        self._saw(self.low, self.high)

    def _saw(self, *values: int) -> None:
        for v in values:
            self.peak = max(self.peak, v, ~v)

    def _set(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self._saw(low, high)

    def shift_right(self, bits: int, mode: Rounding) -> None:
        """Divide by 2**bits, rounding."""
        # beyond the value's own bits every shift gives the same result
        bits = min(bits, max(self.high.bit_length(), self.low.bit_length()) + 2)
        if bits <= 0:
            return
        if mode is not Rounding.TRN:
            self._saw(self.high + (1 << bits), self.low - (1 << bits) if mode is Rounding.TRN_ZERO else self.low)
        self.steps.append(Step(StepCode.SHR, n=bits, mode=RoundMode[mode.name]))
        self._set(round_shift(self.low, bits, mode), round_shift(self.high, bits, mode))

    def shift_left(self, bits: int) -> None:
        """Multiply by 2**bits."""
        if bits:
            self.steps.append(Step(StepCode.SHL, n=bits))
            self._set(self.low << bits, self.high << bits)

    def clamp(self, low: int, high: int, counter: Counter | None = None) -> None:
        """Bound the value; no step when it cannot leave the bounds."""
        if self.low < low or self.high > high:
            # bounds nothing can reach may not fit the machine word
            least, most = max(low, self.low), min(high, self.high)
            self.steps.append(Step(StepCode.CLAMP, a=least, b=most, counter=counter))
            self._set(min(max(self.low, low), high), max(min(self.high, high), low))

    def wrap(self, bits: int, signed: bool, counter: Counter | None = None) -> None:
        """Keep the low bits as a signed or unsigned number; no step when nothing is lost."""
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if self.low < low or self.high > high:
            self.steps.append(Step(StepCode.WRAP, n=bits, mode=int(signed), counter=counter))
            self._set(low, high)

    def cast(self, action: Cast) -> None:
        """`ap_fixed_base::operator=`."""
        source, target = action.source, action.target
        if isinstance(target, ApInt):
            target = target._replace(rounding=target.rounding_from(source))
        shift = source.fraction - target.fraction
        counter = Counter(action.layer, action.place, target.overflow in (Overflow.WRAP, Overflow.WRAP_SM))
        if target.overflow is Overflow.WRAP_SM and self._wrap_sign_magnitude(action, shift, counter):
            return
        if shift < 0 and target.overflow is Overflow.WRAP:
            if -shift >= target.width:
                self.multiply_add(0, 0)
            else:
                self.wrap(target.width + shift, target.signed, counter)
                self.shift_left(-shift)
            return
        self.shift_left(-shift) if shift < 0 else self.shift_right(shift, target.rounding)
        self._overflow(target, counter)

    def _overflow(self, target: FixedPoint, counter: Counter) -> None:
        low, high = target.raw_min, target.raw_max
        if target.overflow is Overflow.WRAP:
            self.wrap(target.width, target.signed, counter)
        elif target.overflow is Overflow.SAT_ZERO:
            if self.low < low or self.high > high:
                least, most = min(max(low, self.low), self.high + 1), max(min(high, self.high), self.low - 1)
                self._saw(least, most)
                self.steps.append(Step(StepCode.SAT_ZERO, a=least, b=most, counter=counter))
                self._set(min(0, max(self.low, low)), max(0, min(self.high, high)))
        elif target.overflow is Overflow.SAT_SYM and target.signed:
            # one bit wide, -high and high are both 0
            self.clamp(-high, high, counter)
        else:
            self.clamp(low, high, counter)

    def _wrap_sign_magnitude(self, action: Cast, shift: int, counter: Counter) -> bool:
        source, target = action.source, action.target
        low, high = (round_shift(v, shift, target.rounding) for v in (self.low, self.high))
        if low >= target.raw_min and high <= target.raw_max:
            return False
        self.steps.append(
            Step(
                StepCode.WRAP_SM,
                n=shift,
                mode=RoundMode[target.rounding.name],
                source_width=source.width,
                width=target.width,
                counter=counter,
            )
        )
        self._saw(low, high)
        self._set(target.raw_min, target.raw_max)
        return True

    def multiply_add(self, scale: int, offset: int) -> None:
        """v * scale + offset."""
        if scale != 1:
            self.steps.append(Step(StepCode.MUL_CONST, a=scale))
            ends = (self.low * scale, self.high * scale)
            self._set(min(ends), max(ends))
        if offset:
            self.steps.append(Step(StepCode.ADD_CONST, a=offset))
            self._set(self.low + offset, self.high + offset)

    def param(self, action: Param) -> None:
        """v * p or v + p."""
        code = StepCode.MUL_PARAM if action.multiply else StepCode.ADD_PARAM
        self.steps.append(Step(code, data=action.data.reshape(-1), period=len(action.data)))
        least, most = int(action.data.min()), int(action.data.max())
        self._saw(least, most)
        if action.multiply:
            ends = [a * b for a in (self.low, self.high) for b in (least, most)]
            self._set(min(ends), max(ends))
        else:
            self._set(self.low + least, self.high + most)

    def divide(self, divisor: int) -> None:
        """C's division, towards zero."""
        if divisor != 1:
            self.steps.append(Step(StepCode.DIV_CONST, a=divisor))
            self._saw(divisor)
            ends = [abs(v) // abs(divisor) * (1 if (v < 0) == (divisor < 0) else -1) for v in (self.low, self.high)]
            self._set(min(ends), max(ends))

    def table(self, action: LookupTable) -> None:
        """Look up; the caller has clamped the index into the table."""
        first, last = self.low - action.base, self.high - action.base
        if first < 0 or last >= len(action.table):
            raise AssertionError(f"table of {len(action.table)} entries indexed by {first}..{last}")
        self.steps.append(Step(StepCode.LUT, a=action.base, b=len(action.table) - 1, data=action.table))
        reached = action.table[first : last + 1]
        self._set(int(reached.min()), int(reached.max()))

    def choose(self, action: Choose) -> None:
        """Both branches are computed; the comparison picks."""
        threshold = action.threshold if action.or_equal else action.threshold + 1  # v >= threshold
        low, high = self.low, self.high
        if low >= threshold or high < threshold:
            self.run(action.yes if low >= threshold else action.no)
            return
        for taken in (*action.yes, *action.no):
            if isinstance(taken, Choose):
                raise AssertionError("choices do not nest")
        self.steps.append(Step(StepCode.SAVE))
        self.low = max(low, threshold)
        # the steps see values of the other branch too; they may overflow the word there, harmlessly, since they are
        # discarded, but a table index must stay inside: clamp first
        self.steps.append(Step(StepCode.CLAMP, a=self.low, b=high))
        self.run(action.yes)
        yes = (self.low, self.high)
        self.steps.append(Step(StepCode.SWAP))
        self.low, self.high = low, threshold - 1
        self.steps.append(Step(StepCode.CLAMP, a=low, b=self.high))
        self.run(action.no)
        self.steps.append(Step(StepCode.SELECT, a=threshold))
        self._set(min(yes[0], self.low), max(yes[1], self.high))

    def run(self, actions: tuple[Action, ...]) -> None:
        """Compile the actions in order."""
        for action in actions:
            if isinstance(action, Cast):
                self.cast(action)
            elif isinstance(action, Clamp):
                low = self.low if action.low is None else action.low
                high = self.high if action.high is None else action.high
                self.clamp(low, high)
            elif isinstance(action, Affine):
                self.multiply_add(action.scale, action.offset)
            elif isinstance(action, ShiftLeft):
                self.shift_left(action.bits)
            elif isinstance(action, Param):
                self.param(action)
            elif isinstance(action, DivideTowardsZero):
                self.divide(action.divisor)
            elif isinstance(action, LookupTable):
                self.table(action)
            else:
                self.choose(action)


def compile_recipe(what: Recipe, low: int, high: int) -> Compiler:
    """Machine steps of a recipe for integers in [low, high]."""
    compiler = Compiler(low, high)
    compiler.run(what.actions)
    return compiler
