"""Pooling: largest values, and averages with their sums and divisions."""

from __future__ import annotations

from dataclasses import astuple

from hw.simulate.bitsim.codes import Opcode, Storage
from hw.simulate.bitsim.encode.compiler import Compiler, compile_recipe
from hw.simulate.bitsim.encode.encoder import Encoder, word_for
from hw.simulate.bitsim.program import Pool
from hw.simulate.bitsim.recipes import Cast, ShiftLeft


def encode_pool(enc: Encoder, op: Pool) -> None:
    """Pooling: whole vectors for a maximum without a cast, else step by step."""
    source, w = enc.slot(op.source), op.window
    low, high = source.low, source.high
    padded = not _window_inside(op)
    if padded:
        low, high = min(low, op.pad_value), max(high, op.pad_value)
    first = compile_recipe(op.on_input, low, high)
    if op.maximum:
        sums, low, high = None, first.low, first.high
    else:
        sums = _sums(op, first)
        low, high = _average_bounds(op, first, sums)
    divided = [compile_recipe(what, low, high) for what in op.divide]
    after = (min(d.low for d in divided), max(d.high for d in divided)) if divided else (low, high)
    compiled = compile_recipe(op.recipe, *after)
    out = enc.make(op.out, compiled.low, compiled.high)
    if (
        op.maximum
        and not padded
        and not first.steps
        and not compiled.steps
        and source.storage in (Storage.U8, Storage.I16)
        and enc.slots[out].storage == source.storage
    ):
        enc.emit(Opcode.FAST_MAX_POOL, op.source.index, out, *astuple(w)[:4])
        return
    peaks = [first.peak, compiled.peak, *(d.peak for d in divided), *([sums.peak] if sums else [])]
    numbers = [
        op.source.index,
        out,
        word_for(*peaks),
        *astuple(w),
        int(op.maximum),
        int(op.tree),
        *enc.wide(op.pad_value),
    ]
    numbers += [*enc.steps(first), *enc.steps(sums), len(divided)]
    for d in divided:
        numbers += enc.steps(d)
    enc.emit(Opcode.POOL, *numbers, *enc.steps(compiled))


def _sums(op: Pool, first: Compiler) -> Compiler:
    """The steps after every addition."""
    low, high = accumulated(op)
    if op.tree:
        return compile_recipe(op.on_sum, 2 * low, 2 * high)
    return compile_recipe(op.on_sum, low + min(first.low, 0), high + max(first.high, 0))


def _average_bounds(op: Pool, first: Compiler, sums: Compiler) -> tuple[int, int]:
    count = op.window.height * op.window.width
    coarse = sum(action.bits for action in op.on_sum.actions[1:] if isinstance(action, ShiftLeft))
    moved = count << coarse if coarse else 0  # every sum is rounded, by less than one step of the accumulator's grid
    low, high = min(count * first.low, 0) - moved, max(count * first.high, 0) + moved
    fits = accumulated(op)
    return (low, high) if fits[0] <= low and high <= fits[1] else (sums.low, sums.high)


def _window_inside(op: Pool) -> bool:
    height, width, _ = op.source.image
    rows, columns, _ = op.out.image
    w = op.window
    return (
        (w.pad_top, w.pad_left) == (0, 0)
        and (rows - 1) * w.stride_y + w.height <= height
        and (columns - 1) * w.stride_x + w.width <= width
    )


def accumulated(op: Pool) -> tuple[int, int]:
    """Range of an average's running sum, on the grid it is kept on."""
    cast = op.on_sum.actions[0]
    assert isinstance(cast, Cast)
    shift = sum(action.bits for action in op.on_sum.actions[1:] if isinstance(action, ShiftLeft))
    return cast.target.raw_min << shift, cast.target.raw_max << shift
