"""Inputs, element by element: activations, sums of two values, softmax."""

from __future__ import annotations

from hw.simulate.bitsim.codes import Merge, Opcode, OverflowMode, RoundMode, SoftmaxKind, StepCode, Storage
from hw.simulate.bitsim.encode.compiler import Compiler, compile_recipe
from hw.simulate.bitsim.encode.encoder import Encoder, word_for
from hw.simulate.bitsim.encode.linear import finish_numbers
from hw.simulate.bitsim.program import Binary, Input, Map, Softmax
from hw.simulate.bitsim.recipes import Recipe
from qmodels.formats import FixedPoint


def encode_input(enc: Encoder, op: Input) -> None:
    """The user's array, converted to the input's format."""
    f = op.out.format
    low, high = f.raw_min, f.raw_max
    if enc.bytes_in and may_be_bytes(f):
        low, high = 0, 255
    out = enc.make(op.out, low, high)
    # the bounds that a block of samples must keep to; the machine for all numbers takes the blocks that do not
    enc.emit(
        Opcode.INPUT,
        out,
        op.which,
        *enc.wide(low),
        *enc.wide(high),
        f.width,
        f.fraction,
        int(f.signed),
        RoundMode[f.rounding.name],
        OverflowMode[f.overflow.name],
    )


def encode_map(enc: Encoder, op: Map) -> None:
    """A recipe on every element."""
    source = enc.slot(op.source)
    compiled = compile_recipe(op.recipe, source.low, source.high)
    out = enc.make(op.out, compiled.low, compiled.high)
    enc.emit(Opcode.MAP, op.source.index, out, word_for(compiled.peak), *enc.steps(compiled))


def encode_binary(enc: Encoder, op: Binary) -> None:
    """Two values met: as shifts, one round and one clamp where that is all, else step by step."""
    one, two = enc.slot(op.one), enc.slot(op.two)
    first = compile_recipe(op.on_one, one.low, one.high)
    second = compile_recipe(op.on_two, two.low, two.high)
    low, high = merge_interval(op.merge, first, second)
    compiled = compile_recipe(op.recipe, low, high)
    out = enc.make(op.out, compiled.low, compiled.high)
    fast = None if op.merge is not Merge.ADD or enc.counting else _fast_add(enc, op, first, second, compiled)
    if fast is not None:
        enc.emit(Opcode.FAST_ADD, op.one.index, op.two.index, out, *fast)
        return
    enc.emit(
        Opcode.BINARY,
        op.one.index,
        op.two.index,
        out,
        word_for(compiled.peak, first.peak, second.peak),
        int(op.merge),
        *enc.steps(first),
        *enc.steps(second),
        *enc.steps(compiled),
    )


def _fast_add(enc: Encoder, op: Binary, first: Compiler, second: Compiler, compiled: Compiler) -> list[int] | None:
    """[lane bits, shift one, shift two, finish...] when a residual addition is shifts, a round and a clamp."""
    narrow = (Storage.U8, Storage.I16)
    if any(enc.slot(value).storage not in narrow for value in (op.one, op.two, op.out)):
        return None
    shifts = []
    for part in (first, second):
        if any(step.code is not StepCode.SHL for step in part.steps) or len(part.steps) > 1:
            return None
        shifts.append(part.steps[0].n if part.steps else 0)
    lane = 16 if max(first.peak, second.peak, compiled.peak) < 1 << 15 else 32
    low, high = merge_interval(op.merge, first, second)
    finish = finish_numbers(compiled, enc.slot(op.out).storage, lane, low, high)
    return [lane, *shifts, *finish] if finish[0] else None


def encode_softmax(enc: Encoder, op: Softmax) -> None:
    """Softmax, with the range of its numbers followed through every table."""
    source = enc.slot(op.source)
    gap = source.high - source.low
    if op.kind is SoftmaxKind.STABLE:
        spread = compile_recipe(op.on_difference, 0, gap)
    elif op.kind is SoftmaxKind.LEGACY:
        spread = compile_recipe(Recipe(), -gap, gap)
    else:
        spread = compile_recipe(Recipe(), source.low, source.high)
    index = compile_recipe(op.to_index, spread.low, spread.high)
    sums = compile_recipe(op.on_sum, *op.sum_range)
    inverse = compile_recipe(op.to_inverse_index, sums.low, sums.high)
    exponent = (int(op.exp_table.min()), int(op.exp_table.max()))
    inverted = (int(op.inverse_table.min()), int(op.inverse_table.max()))
    if op.kind is SoftmaxKind.ARGMAX:
        results = (0, 1)
    elif op.kind is SoftmaxKind.LEGACY:
        results = inverted
    else:
        ends = [a * b for a in exponent for b in inverted]
        results = (min(ends), max(ends))
    compiled = compile_recipe(op.recipe, *results)
    out = enc.make(op.out, compiled.low, compiled.high)
    word_for(spread.peak, index.peak, sums.peak, inverse.peak, compiled.peak)
    enc.emit(
        Opcode.SOFTMAX,
        op.source.index,
        out,
        op.kind,
        op.diagonal,
        enc.blob(op.exp_table),
        enc.blob(op.inverse_table),
        *enc.steps(spread),
        *enc.steps(index),
        *enc.steps(sums),
        *enc.steps(inverse),
        *enc.steps(compiled),
    )


def merge_interval(merge: Merge, one: Compiler, two: Compiler) -> tuple[int, int]:
    """[low, high] of `merge` for any two numbers of the two ranges."""
    if merge is Merge.ADD:
        return one.low + two.low, one.high + two.high
    if merge is Merge.SUBTRACT:
        return one.low - two.high, one.high - two.low
    if merge is Merge.MULTIPLY:
        ends = [a * b for a in (one.low, one.high) for b in (two.low, two.high)]
        return min(ends), max(ends)
    if merge is Merge.MAXIMUM:
        return max(one.low, two.low), max(one.high, two.high)
    return min(one.low, two.low), min(one.high, two.high)


def may_be_bytes(fmt: FixedPoint) -> bool:
    """A signed type whose numbers are bytes when none is negative: hls4ml's input type for 8-bit pixels."""
    return fmt.signed and fmt.raw_max == 255
