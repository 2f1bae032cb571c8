"""Dense layers and convolutions on alkaid's symbolic numbers: shared shifts and adds, every position unrolled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.rtl.arithmetic import MAX_TABLE_BITS, Number, Place, add, apply, bounds, cast, checked, is_known, refuse, times
from hw.simulate.bitsim.encode.plan import product_format
from hw.simulate.bitsim.program import Ints, Linear, Window
from qmodels.formats import FixedPoint, Overflow

Numbers = NDArray[np.object_]
#: Sums of a matrix that was solved, by what they depend on: positions of a convolution share them.
Solved = dict[Any, Any]


def windows(image: Numbers, window: Window, rows: int, columns: int, beyond: Number) -> Numbers:
    """What the kernel sees at every position: (rows, columns, height, width, channels)."""
    height, width, channels = image.shape
    seen = np.full((rows, columns, window.height, window.width, channels), beyond, dtype=object)
    for place in np.ndindex(rows, columns, window.height, window.width):
        y = place[0] * window.stride_y + place[2] - window.pad_top
        x = place[1] * window.stride_x + place[3] - window.pad_left
        if 0 <= y < height and 0 <= x < width:
            seen[place] = image[y, x]
    return seen


def linear(op: Linear, source: Numbers) -> Numbers:
    """The layer's results (rows, columns, filters) for an image of numbers."""
    rows, columns, filters = op.out.image
    seen = windows(source.reshape(op.source.image), op.window, rows, columns, 0.0)
    solved: Solved = {}
    out = np.empty((rows, columns, filters), dtype=object)
    for y, x in np.ndindex(rows, columns):
        sums = _sums(op, seen[y, x], solved)
        for channel, value in enumerate(sums):
            place = Place(op.layer, y * columns + x, channel, (filters + 1) // 2)
            out[y, x, channel] = apply(op.recipe, value, place)
    return out


def _sums(op: Linear, patch: Numbers, solved: Solved) -> list[Number]:
    """The accumulators of one position, one a filter."""
    shift = op.accumulator.fraction - product_format(op).fraction
    if op.depthwise:
        columns = [(patch[..., f].reshape(-1), op.weights[f].reshape(-1)) for f in range(len(op.weights))]
    else:
        columns = [(patch.reshape(-1), kernel.reshape(-1)) for kernel in op.weights]
    if shift < 0 or not all(
        _free_of_order(op, *column, shift, int(b)) for column, b in zip(columns, op.bias, strict=True)
    ):
        return [_one_by_one(op, *column, int(bias)) for column, bias in zip(columns, op.bias, strict=True)]
    if op.depthwise:
        products = [_shared(x, w[:, None], op.layer, solved)[0] for x, w in columns]
    else:
        products = _shared(columns[0][0], np.stack([w for _, w in columns], axis=1), op.layer, solved)
    sums = [add(p * 2.0**shift, int(b), op.layer) for p, b in zip(products, op.bias, strict=True)]
    return [checked(_in_accumulator(s, op.accumulator, op.layer), op.layer) for s in sums]


def _in_accumulator(value: Number, accumulator: FixedPoint, layer: str) -> Number:
    return cast(value, accumulator, accumulator, layer)


def _free_of_order(op: Linear, x: Numbers, weights: Ints, shift: int, bias: int) -> bool:
    """Whether only the whole sum counts: it wraps, or no partial sum leaves the accumulator in any order."""
    accumulator = op.accumulator
    if accumulator.overflow is Overflow.WRAP:
        return True
    ends = [sorted((w * low, w * high)) for w, (low, high) in zip(weights.tolist(), map(bounds, x), strict=True)]
    low = bias + (sum(min(end[0], 0) for end in ends) << shift)
    high = bias + (sum(max(end[1], 0) for end in ends) << shift)
    symmetric = accumulator.overflow is Overflow.SAT_SYM and accumulator.signed
    return bool(accumulator.raw_min + int(symmetric) <= low and high <= accumulator.raw_max)


def _one_by_one(op: Linear, x: Numbers, weights: Ints, bias: int) -> Number:
    """In csim's order, with a cast behind every product and every addition."""
    order = range(len(weights)) if op.order is None or op.depthwise else op.order.tolist()
    total: Number = float(bias)
    for tap in order:
        product = checked(times(x[tap], int(weights[tap]), op.layer), op.layer)
        product = cast(product, product_format(op), op.accumulator, op.layer)
        total = checked(_in_accumulator(total + product, op.accumulator, op.layer), op.layer)
    return total


def _shared(x: Numbers, matrix: Ints, layer: str, solved: Solved) -> list[Number]:
    """x @ matrix, where outputs share what they have in common (alkaid's solver of constant matrices)."""
    if int(np.abs(matrix).max(initial=0)) >> MAX_TABLE_BITS:
        refuse(layer, f"weights of more than {MAX_TABLE_BITS} bits")
    known = np.array([is_known(v) for v in x])
    constants = [int(c) for c in np.array([bounds(v)[0] for v in x[known]], np.int64) @ matrix[known]]
    live, kernel = x[~known], matrix[~known]
    if not kernel.any():
        return [float(c) for c in constants]
    found = _solve(live, kernel, solved)(live)
    return [add(v, c, layer) if hasattr(v, "qint") else float(v) + c for v, c in zip(found, constants, strict=True)]


def _solve(x: Numbers, matrix: Ints, solved: Solved) -> Any:
    """What computes x @ matrix; found once for numbers of the same intervals."""
    from alkaid.cmvm import QInterval, cmvm_solve

    intervals = [QInterval(float(v.low), float(v.high), float(v.step)) for v in x]
    key = tuple(intervals), matrix.tobytes()
    if key not in solved:
        first, second = cmvm_solve(np.ascontiguousarray(matrix, np.float32), qintervals=intervals)
        solved[key] = lambda v: second(first(v, quantize=False), quantize=False)
    return solved[key]
