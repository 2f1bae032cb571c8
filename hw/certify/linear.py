"""Bounds of dense layers and convolutions: weights above and below zero apart, in integers.

Sums are computed in float64 where every partial sum is an integer below 2**53, which float64 adds without rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw.certify.interval import SAFE_BITS, Integers, Interval, cast
from hw.simulate.bitsim.encode.plan import product_format
from hw.simulate.bitsim.program import Ints, Linear
from qmodels.formats import FixedPoint, Overflow

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_FLOAT_BITS = 52


@dataclass(frozen=True, eq=False)
class Sums:
    """A linear layer as sums over taps: which elements of its source each position sees, and with which weights.

    Args:
        op: the layer.
    """

    op: Linear

    @cached_property
    def taps(self) -> NDArray[np.int64]:
        """Element of the source (positions, taps) that each tap reads; the source's size where it sees a zero.

        With `depthwise` it is channel 0's element; channel c is c further.
        """
        op = self.op
        height, width, channels = op.source.image
        rows, columns, _ = op.out.image
        _, kernel_rows, kernel_columns, kernel_channels = op.weights.shape
        w = op.window
        y = np.arange(rows)[:, None] * w.stride_y - w.pad_top + np.arange(kernel_rows)
        x = np.arange(columns)[:, None] * w.stride_x - w.pad_left + np.arange(kernel_columns)
        y, x = y[:, None, :, None], x[None, :, None, :]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        first = np.where(inside, (y * width + x) * channels, op.source.size)
        element = np.where(inside[..., None], first[..., None] + np.arange(kernel_channels), op.source.size)
        return element.reshape(rows * columns, -1)

    @cached_property
    def weights(self) -> Ints:
        """Raw weights (filters, taps)."""
        return self.op.weights.reshape(len(self.op.weights), -1)

    @cached_property
    def shift(self) -> int:
        """Bits by which a product is shifted up to lie on the accumulator's grid; below 0: products are rounded."""
        return self.op.accumulator.fraction - product_format(self.op).fraction

    @property
    def bias(self) -> Ints:
        """One an output element, raw in the accumulator's format."""
        return np.tile(self.op.bias, len(self.taps))

    def largest(self, magnitude: int) -> int:
        """No partial sum of exact products of inputs up to `magnitude` is larger."""
        total = int(np.abs(self.weights).astype(object).sum(axis=1).max(initial=0))
        most = int(np.abs(self.op.bias).max(initial=0))
        return ((total * magnitude) << max(self.shift, 0)) + most

    @cached_property
    def matrix(self) -> csr_matrix:
        """Weights on the accumulator's grid as a matrix (outputs, source elements). Needs `shift` >= 0."""
        from scipy.sparse import csr_matrix  # takes a third of a second to load, and only certificates need it

        positions, filters = len(self.taps), len(self.weights)
        n_taps = self.weights.shape[1]
        column = np.broadcast_to(self.taps[:, None, :], (positions, filters, n_taps))
        if self.op.depthwise:
            moved = column + np.arange(filters)[:, None]
            column = np.where(column < self.op.source.size, moved, self.op.source.size)
        data = np.broadcast_to(self.weights << self.shift, column.shape)
        row = np.broadcast_to(np.arange(positions * filters).reshape(positions, filters, 1), column.shape)
        kept = (column < self.op.source.size) & (data != 0)
        shape = (positions * filters, self.op.source.size)
        return csr_matrix((data[kept], (row[kept], column[kept])), shape=shape, dtype=np.int64)


def accumulators(sums: Sums, what: Interval) -> Interval:
    """Bounds (N, outputs) of the accumulators that inputs in an interval (N, source elements) lead to."""
    if exact(sums, what):
        summed = _exact(sums, what)
        accumulator = sums.op.accumulator
        return cast(summed, accumulator, accumulator)
    return _step_by_step(sums, what)


def exact(sums: Sums, what: Interval) -> bool:
    """Whether accumulators are exact sums, perhaps wrapped once at the end: the order of additions does not matter."""
    accumulator = sums.op.accumulator
    low, high = what.span
    most = sums.largest(max(abs(low), abs(high)))
    if sums.shift < 0 or accumulator.overflow is Overflow.WRAP_SM or most.bit_length() > SAFE_BITS:
        return False
    return accumulator.overflow is Overflow.WRAP or most <= min(accumulator.raw_max, abs(accumulator.raw_min) - 1)


def unchanged(sums: Sums, summed: Interval) -> bool:
    """Whether exact sums within these bounds are the accumulators: nothing wraps."""
    low, high = summed.span
    return sums.op.accumulator.raw_min <= low and high <= sums.op.accumulator.raw_max


def exact_sums(sums: Sums, what: Interval) -> Interval:
    """Bounds of the exact sums, before the accumulator wraps. Needs `exact`."""
    return _exact(sums, what)


def _exact(sums: Sums, what: Interval) -> Interval:
    op, shift = sums.op, sums.shift
    up, down = np.maximum(sums.weights, 0), np.minimum(sums.weights, 0)
    low, high = (_with_zero(end) for end in what)
    bits = sums.largest(max(abs(end) for end in what.span)).bit_length()
    dtype = np.float64 if bits <= _FLOAT_BITS else np.int64
    if op.depthwise:
        ends = _depthwise(sums, low, high)
    else:
        one, two = (end[:, sums.taps].astype(dtype) for end in (low, high))
        plus, minus = up.T.astype(dtype), down.T.astype(dtype)
        ends = (one @ plus + two @ minus, two @ plus + one @ minus)
    flat = [end.reshape(len(what.low), -1).astype(np.int64) for end in ends]
    return Interval(*((end << shift) + sums.bias for end in flat))


def _depthwise(sums: Sums, low: Integers, high: Integers) -> tuple[Integers, Integers]:
    filters, size = len(sums.weights), sums.op.source.size
    total = [np.zeros((len(low), len(sums.taps), filters), np.int64) for _ in range(2)]
    for tap in range(sums.weights.shape[1]):
        first = sums.taps[:, tap][:, None]
        index = np.where(first < size, first + np.arange(filters), size)
        product = Interval(low[:, index], high[:, index]).times(sums.weights[:, tap])
        total[0] += product.low
        total[1] += product.high
    return total[0], total[1]


def _with_zero(end: Integers) -> Integers:
    """One more element, 0: what is seen beyond the image."""
    return np.concatenate([end, np.zeros((len(end), 1), end.dtype)], axis=1)


def _step_by_step(sums: Sums, what: Interval) -> Interval:
    """Every product and every sum is cast, in csim's order: each step maps intervals to intervals."""
    op, accumulator = sums.op, sums.op.accumulator
    product = product_format(op)
    inner = FixedPoint(accumulator.width + 2, accumulator.integer + 2)  # of a sum before it is cast
    filters, size = len(sums.weights), op.source.size
    order = np.arange(sums.weights.shape[1]) if op.order is None else op.order
    padded = Interval(*(_with_zero(end.astype(object)) for end in what))
    bias = np.broadcast_to(op.bias.astype(object), (len(what.low), len(sums.taps), filters))
    total = Interval(bias, bias)
    for tap in order:
        first = sums.taps[:, tap][:, None]
        offset = np.arange(filters) if op.depthwise else np.zeros(filters, np.int64)
        index = np.where(first < size, first + offset, size)
        added = padded.take(index).times(sums.weights[:, tap].astype(object))
        added = cast(added, product, accumulator)
        total = cast(Interval(total.low + added.low, total.high + added.high), inner, accumulator)
    return Interval(*(end.reshape(len(what.low), -1) for end in total)).narrow()
