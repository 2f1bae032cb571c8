"""Interval bounds of every value of an accelerator, for whole batches of boxes of inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hw.certify.interval import SAFE_BITS, Integers, Interval, bits_of, cast
from hw.certify.kept import Kept
from hw.certify.linear import accumulators
from hw.certify.recipes import image
from hw.simulate.bitsim.codes import Merge
from hw.simulate.bitsim.program import (
    Alias,
    Binary,
    Gather,
    Input,
    Linear,
    Map,
    Network,
    Op,
    Pad,
    Pool,
    Softmax,
)
from hw.simulate.bitsim.recipes import Recipe
from qmodels.formats import FixedPoint

Bounds = dict[int, Interval]  # by the value's index: (N, elements), raw in its format


def propagate(
    network: Network, boxes: Sequence[Interval], codes: FixedPoint | None = None, kept: Kept | None = None
) -> Bounds:
    """Bounds of every value that any input in the boxes leads to.

    Args:
        network: lowered, fused or not.
        boxes: bounds (N, elements) of every input, in the order of the user's arrays.
        codes: format of the numbers in the boxes; None: the input's own.
        kept: what earlier calls have computed of the network.
    """
    bounds: Bounds = {}
    kept = kept or Kept()
    for op in network.ops:
        if isinstance(op, Input):
            bounds[op.out.index] = cast(boxes[op.which], codes or op.out.format, op.out.format)
        else:
            bounds[op.out.index] = step(op, bounds, kept)
    return bounds


def step(op: Op, bounds: Bounds, kept: Kept) -> Interval:
    """Bounds of what one operation makes, from those of what it reads."""
    if isinstance(op, Linear):
        return image(op.recipe, accumulators(kept.sums(op), bounds[op.source.index]), op.out)
    found: Interval = _FAMILIES[type(op)](op, bounds)
    return found


def _map(op: Map, bounds: Bounds) -> Interval:
    return image(op.recipe, bounds[op.source.index], op.out)


def _binary(op: Binary, bounds: Bounds) -> Interval:
    one = image(op.on_one, bounds[op.one.index], op.out)
    two = image(op.on_two, bounds[op.two.index], op.out)
    if bits_of(one) + bits_of(two) >= SAFE_BITS:
        one, two = one.wide(), two.wide()
    return image(op.recipe, merged(op.merge, one, two), op.out)


def merged(merge: Merge, one: Interval, two: Interval) -> Interval:
    """What becomes of two intervals."""
    if merge is Merge.ADD:
        return Interval(one.low + two.low, one.high + two.high)
    if merge is Merge.SUBTRACT:
        return Interval(one.low - two.high, one.high - two.low)
    if merge is Merge.MAXIMUM:
        return Interval(np.maximum(one.low, two.low), np.maximum(one.high, two.high))
    if merge is Merge.MINIMUM:
        return Interval(np.minimum(one.low, two.low), np.minimum(one.high, two.high))
    ends = [a * b for a in one for b in two]
    return Interval(np.minimum.reduce(ends), np.maximum.reduce(ends))


def _pool(op: Pool, bounds: Bounds) -> Interval:
    windows, inside = windows_of(op)
    source = bounds[op.source.index]
    padded = Interval(*(_and_padding(end, op.pad_value) for end in source))
    seen = [image(op.on_input, padded.take(windows[k]), op.out) for k in range(len(windows))]
    if op.maximum:
        best = seen[0]
        for other in seen[1:]:
            best = Interval(np.maximum(best.low, other.low), np.maximum(best.high, other.high))
        return image(op.recipe, best, op.out)
    if not op.tree:  # csim starts from 0 and casts every sum, the first too
        seen[0] = image(op.on_sum, seen[0], op.out)
    return image(op.recipe, _divided(op, _summed(op, seen), inside), op.out)


def windows_of(op: Pool) -> tuple[Any, Any]:
    """Elements of the source (window size, outputs) that each output sees, the source's size beyond the image.

    And how many of them are inside (outputs,).
    """
    height, width, channels = op.source.image
    rows, columns, _ = op.out.image
    w = op.window
    y = np.arange(rows)[:, None] * w.stride_y - w.pad_top + np.arange(w.height)
    x = np.arange(columns)[:, None] * w.stride_x - w.pad_left + np.arange(w.width)
    y, x = y[:, None, :, None], x[None, :, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)  # (rows, columns, kernel rows, kernel columns)
    first = np.where(inside, (y * width + x) * channels, op.source.size)
    element = np.where(inside[..., None], first[..., None] + np.arange(channels), op.source.size)
    size = w.height * w.width
    index = element.reshape(rows * columns, size, channels).transpose(1, 0, 2).reshape(size, -1)
    return index, np.repeat(inside.reshape(rows * columns, size).sum(axis=1), channels)


def _and_padding(end: Integers, value: int) -> Integers:
    return np.concatenate([end, np.full((len(end), 1), value, end.dtype)], axis=1)


def _summed(op: Pool, seen: list[Interval]) -> Interval:
    """Left to right, or as nnet::reduce's balanced tree."""
    if op.tree and len(seen) > 2:
        left = 1
        while left * 2 <= len(seen) - 1:
            left *= 2
        seen = [_summed(op, seen[:left]), _summed(op, seen[left:])]
    total = seen[0]
    for other in seen[1:]:
        if max(bits_of(total), bits_of(other)) >= SAFE_BITS:
            total, other = total.wide(), other.wide()
        total = image(op.on_sum, Interval(total.low + other.low, total.high + other.high), op.out)
    return total


def _divided(op: Pool, total: Interval, inside: Any) -> Interval:
    if len(op.divide) == 1:
        return image(op.divide[0], total, op.out)
    low, high = total.low.copy(), total.high.copy()
    for count in np.unique(inside):
        here = np.flatnonzero(inside == count)
        part = image(op.divide[int(count) - 1], total.take(here), op.out)
        low[:, here], high[:, here] = part
    return Interval(low, high)


def _gather(op: Gather, bounds: Bounds) -> Interval:
    source = bounds[op.source.index]
    before = bounds.get(op.out.index)
    if before is None:
        empty = np.zeros((len(source.low), op.out.size), source.low.dtype)
        before = Interval(empty, empty)
    moved = image(op.recipe, source.take(np.maximum(op.from_, 0)), op.out) if _uniform(op.recipe) else source
    kept = op.from_ >= 0
    ends = []
    for old, new in zip(before, moved, strict=True):
        end = old.astype(object) if new.dtype == object else old.copy()
        end[:, op.to] = np.where(kept, new, 0)
        ends.append(end)
    return Interval(*ends)


def _uniform(recipe: Recipe) -> bool:
    if not recipe.uniform:
        raise AssertionError("a gather's recipe treats every element alike")
    return True


def _pad(op: Pad, bounds: Bounds) -> Interval:
    return _gather(op.gather(), bounds)


def _alias(op: Alias, bounds: Bounds) -> Interval:
    return bounds[op.source.index]


def _softmax(op: Softmax, bounds: Bounds) -> Interval:
    """Anything its format can hold: decisions are bounded by the logits before it."""
    fmt, shape = op.out.format, (len(bounds[op.source.index].low), op.out.size)
    return Interval(np.full(shape, fmt.raw_min, np.int64), np.full(shape, fmt.raw_max, np.int64))


_FAMILIES: dict[type, Callable[..., Interval]] = {
    Map: _map,
    Binary: _binary,
    Pool: _pool,
    Gather: _gather,
    Pad: _pad,
    Alias: _alias,
    Softmax: _softmax,
}
