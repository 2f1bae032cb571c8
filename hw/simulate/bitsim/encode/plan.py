"""Which kernel computes each linear layer, proved from the formats and the weights.

Fast paths accumulate without a cast a product, so they need: an accumulator with at least the product's fraction
bits, that wraps (order-free) or provably never saturates; and machine lanes that hold the sum, or at least all the
bits that survive the accumulator's own wrap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hw.simulate.bitsim.codes import LinearKernel
from hw.simulate.bitsim.program import Ints, Linear
from hw.simulate.bitsim.recipes import Cast, Recipe
from qmodels.formats import FixedPoint, Overflow

_INT16, _UINT16, _INT32 = (-(1 << 15), (1 << 15) - 1), (0, (1 << 16) - 1), (-(1 << 31), (1 << 31) - 1)
_SHORTEST_CHUNK = 8


@dataclass(frozen=True)
class LinearPlan:
    """A linear layer on one grid: `weights` and `bias` are multiples of the accumulator's LSB * 2**dropped.

    `low`, `high` bound every sum; `accumulator` is the format the sums have when the recipe starts.
    """

    kernel: LinearKernel
    weights: Ints
    bias: Ints
    accumulator: FixedPoint
    low: int
    high: int
    chunk: int = 0


def product_format(op: Linear) -> FixedPoint:
    """Type of `x * w` in C++: every bit is kept."""
    x, w = op.source.format, op.weight_format
    return FixedPoint(x.width + w.width, x.integer + w.integer, x.signed or w.signed)


def _bounds(op: Linear, weights: Ints, bias: Ints, low: int, high: int) -> tuple[int, int]:
    """Bounds of every partial sum, in any order (the padding's zeros included)."""
    low, high = min(low, 0), max(high, 0)
    flat = weights.reshape(len(weights), -1)
    positive = np.maximum(flat, 0).sum(axis=1).tolist()  # below 2**62: weights are shifted to at most 30 bits
    negative = np.minimum(flat, 0).sum(axis=1).tolist()
    sums = zip(positive, negative, bias.tolist(), strict=True)
    bounds = [(p * low + n * high + b, p * high + n * low + b) for p, n, b in sums]
    return min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)


def _fits(low: int, high: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= low and high <= bounds[1]


def _trailing_zeros(values: Ints) -> int:
    merged: int = int(np.bitwise_or.reduce(np.abs(values.reshape(-1)), initial=0))
    return (merged & -merged).bit_length() - 1 if merged else 62


def plan_linear(op: Linear, low: int, high: int, may_use_bytes: bool = True, quads: bool = False) -> LinearPlan:
    """The fastest path that is exact for inputs in [low, high]. `quads`: the machine multiplies four bytes at once."""
    accumulator, product = op.accumulator, product_format(op)
    shift = accumulator.fraction - product.fraction
    exact = LinearPlan(LinearKernel.EXACT, op.weights, op.bias, accumulator, 0, 0)
    largest = int(np.abs(op.weights).max(initial=0)).bit_length()
    if op.depthwise or shift < 0 or shift + largest > 30 or accumulator.overflow is Overflow.WRAP_SM:
        return exact
    weights = op.weights << shift
    sums = _bounds(op, weights, op.bias, low, high)
    if accumulator.overflow is not Overflow.WRAP and not _fits(*sums, (accumulator.raw_min, accumulator.raw_max)):
        return exact
    if accumulator.overflow is Overflow.SAT_SYM and accumulator.signed and sums[0] <= accumulator.raw_min:
        return exact
    # the sums often live on a coarser grid than the accumulator: fewer bits a lane
    dropped = min(_trailing_zeros(weights), _trailing_zeros(op.bias), accumulator.width - 1)
    weights, bias = weights >> dropped, op.bias >> dropped
    grid = replace_width(accumulator, dropped)
    low_sum, high_sum = sums[0] >> dropped, sums[1] >> dropped
    plan = LinearPlan(LinearKernel.EXACT, weights, bias, grid, low_sum, high_sum)
    return _choose(plan, low, high, may_use_bytes, quads)


def replace_width(accumulator: FixedPoint, dropped: int) -> FixedPoint:
    """The accumulator without its lowest bits, which are zero."""
    return accumulator._replace(width=accumulator.width - dropped)


def _choose(plan: LinearPlan, low: int, high: int, may_use_bytes: bool, quads: bool) -> LinearPlan:
    wraps = plan.accumulator.overflow is Overflow.WRAP
    in_bytes = may_use_bytes and low >= 0 and high <= 255 and -128 <= plan.weights.min() <= plan.weights.max() <= 127
    if in_bytes and _pairs_fit(plan.weights, high):
        if _fits(plan.low, plan.high, _INT16) or (wraps and plan.accumulator.width <= 16):
            return replace(plan, kernel=LinearKernel.INT8)
        chunk = _longest_chunk(plan.weights, high)
        if chunk >= _SHORTEST_CHUNK and _fits(plan.low, plan.high, _INT32):
            return replace(plan, kernel=LinearKernel.INT8_CHUNKED, chunk=chunk)
    if int(np.abs(plan.weights).max(initial=0)) >= 1 << 15:
        return plan
    if _fits(plan.low, plan.high, _INT32) or (wraps and plan.accumulator.width <= 32):
        if in_bytes and quads:  # without them, widening bytes costs more than reading int16
            return replace(plan, kernel=LinearKernel.INT8_WIDE)
        if _fits(low, high, _INT16):
            return replace(plan, kernel=LinearKernel.INT16)
        if _fits(low, high, _UINT16):
            return replace(plan, kernel=LinearKernel.UINT16)
    return plan


def channel_pairs(weights: Ints) -> Ints:
    """(filters, rows, columns, channels) -> (filters, rows, columns * ceil(channels / 2), 2)."""
    filters, rows, columns, channels = weights.shape
    if channels % 2:
        weights = np.concatenate([weights, np.zeros((filters, rows, columns, 1), weights.dtype)], axis=3)
    return weights.reshape(filters, rows, -1, 2)


def _pairs_fit(weights: Ints, high: int) -> bool:
    """vpmaddubsw saturates a pair's sum: no pair may get there."""
    if 2 * high * int(np.abs(weights).max()) <= _INT16[1]:
        return True
    pairs = channel_pairs(weights)
    first, second = pairs[..., 0], pairs[..., 1]
    most = (np.maximum(first, 0) + np.maximum(second, 0)).max() * high
    least = (np.minimum(first, 0) + np.minimum(second, 0)).min() * high
    return bool(most <= _INT16[1] and least >= _INT16[0])


def _longest_chunk(weights: Ints, high: int) -> int:
    """Steps (channel pairs of a kernel line) whose sums always fit int16, whichever stretch of the line they are."""
    pairs = channel_pairs(weights)
    run = int(pairs.shape[2])
    positive = np.maximum(pairs, 0).sum(axis=3) * high
    negative = np.minimum(pairs, 0).sum(axis=3) * high
    chunk = run
    while chunk >= _SHORTEST_CHUNK:
        starts = range(0, run, chunk)
        most = max(int(positive[:, :, s : s + chunk].sum(axis=2).max()) for s in starts)
        least = min(int(negative[:, :, s : s + chunk].sum(axis=2).min()) for s in starts)
        if most <= _INT16[1] and least >= _INT16[0]:
            return chunk
        chunk = (chunk + 1) // 2 if chunk > _SHORTEST_CHUNK else 0
    return 0


def start_recipe(op: Linear, plan: LinearPlan) -> Recipe:
    """The accumulator's own overflow on the plan's grid, then the layer's recipe read from that grid."""
    grid = plan.accumulator
    actions = list(op.recipe.actions)
    if actions and isinstance(actions[0], Cast) and actions[0].source == op.accumulator:
        actions[0] = replace(actions[0], source=grid)
        return Recipe((Cast(grid, grid, op.layer, "accumulator"), *actions))
    raise AssertionError("a linear layer's recipe starts with a cast from its accumulator")
