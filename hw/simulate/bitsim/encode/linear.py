"""Dense layers and convolutions: the fast tile where the plan proves it right, else every cast where csim has it."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import LinearKernel, Opcode, RoundMode, StepCode, Storage
from hw.simulate.bitsim.encode.compiler import Compiler, compile_recipe
from hw.simulate.bitsim.encode.encoder import Encoder, word_for
from hw.simulate.bitsim.encode.memory import Slot
from hw.simulate.bitsim.encode.plan import LinearPlan, channel_pairs, plan_linear, product_format, start_recipe
from hw.simulate.bitsim.program import Ints, Linear
from hw.simulate.bitsim.recipes import Cast, recipe
from hw.simulate.bitsim.scalars import round_shift
from qmodels.formats import Rounding

#: What the tile can write, and what its numbers are clamped to.
_CLAMPED = {Storage.U8: (0, 255), Storage.I16: (-(1 << 15), (1 << 15) - 1), Storage.U16: (0, (1 << 16) - 1)}


def encode_linear(enc: Encoder, op: Linear) -> None:
    """A dense layer or a convolution, for the kernel that its plan names."""
    source = enc.slot(op.source)
    plan = _plan(enc, op)
    enc.kernels[op.layer] = plan.kernel
    if plan.kernel is LinearKernel.EXACT:
        _exact_linear(enc, op, plan, source)
        return
    compiled = compile_recipe(start_recipe(op, plan), plan.low, plan.high)
    out = enc.make(op.out, compiled.low, compiled.high)
    weights, bias = pack_weights(plan)
    lane = 16 if plan.kernel is LinearKernel.INT8 else 32
    finish = finish_numbers(compiled, enc.slots[out].storage, lane, plan.low, plan.high)
    enc.emit(
        Opcode.FAST_LINEAR,
        int(plan.kernel),
        op.source.index,
        out,
        *astuple(op.window),
        len(bias),
        plan.chunk,
        word_for(compiled.peak),
        enc.blob(weights),
        enc.blob(bias),
        *finish,
        *enc.steps(compiled),
    )


def _plan(enc: Encoder, op: Linear) -> LinearPlan:
    """The fastest kernel that is exact; only the exact one counts overflows."""
    source = enc.slot(op.source)
    if enc.counting:
        return LinearPlan(LinearKernel.EXACT, op.weights, op.bias, op.accumulator, 0, 0)
    plan = plan_linear(op, source.low, source.high, source.storage is Storage.U8, enc.quads)
    enc.plans[op.out.index] = plan
    return plan


def _exact_linear(enc: Encoder, op: Linear, plan: LinearPlan, source: Slot) -> None:
    """For the kernel that adds in csim's order; it casts every product and sum unless the plan needs no cast there."""
    accumulator = plan.accumulator
    layer = op.layer
    taps, parity, weights = window_taps(op, plan.weights, source)
    low, high = min(source.low, 0), max(source.high, 0)
    extremes = [int(w) * x for w in (weights.min(), weights.max()) for x in (low, high)]
    if (plan.low, plan.high) != (0, 0):  # proved: no cast before the last product
        on_product, on_sum = None, None
        compiled = compile_recipe(start_recipe(op, plan), plan.low, plan.high)
        peak = max(compiled.peak, *map(abs, extremes))
    else:
        on_product = compile_recipe(
            recipe(Cast(product_format(op), accumulator, layer, "accumulator")), min(extremes), max(extremes)
        )
        least = accumulator.raw_min + on_product.low
        most = accumulator.raw_max + on_product.high
        on_sum = compile_recipe(recipe(Cast(accumulator, accumulator, layer, "accumulator")), least, most)
        compiled = compile_recipe(op.recipe, accumulator.raw_min, accumulator.raw_max)
        peak = max(compiled.peak, on_product.peak, on_sum.peak)
    out = enc.make(op.out, compiled.low, compiled.high)
    enc.emit(
        Opcode.EXACT_LINEAR,
        op.source.index,
        out,
        *astuple(op.window)[2:],
        len(weights),
        weights.shape[1],
        word_for(peak),
        int(op.depthwise),
        enc.blob(taps),
        enc.blob(parity),
        enc.blob(weights),
        enc.blob(plan.bias),
        *enc.steps(on_product),
        *enc.steps(on_sum),
        *enc.steps(compiled),
    )


def pack_weights(plan: LinearPlan) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Weights as the tile reads them: [filter block of 4 (the last may be 2)][row][step][filter] pairs in 32 bits."""
    pairs = channel_pairs(plan.weights)
    filters = len(pairs)
    padded = filters + filters % 2
    words = plan.kernel in (LinearKernel.INT16, LinearKernel.UINT16)
    kind = np.int16 if words else np.int8
    grown = np.zeros((padded, *pairs.shape[1:]), kind)
    grown[:filters] = pairs
    if words:
        packed = grown.view(np.int32)[..., 0]
    else:  # bytes: the pair, twice
        half = grown.view(np.uint16)[..., 0].astype(np.uint32)
        packed = (half | half << 16).view(np.int32)
    blocks = []
    at = 0
    while at < padded:
        size = 4 if padded - at > 2 else 2
        blocks.append(packed[at : at + size].transpose(1, 2, 0).reshape(-1))
        at += size
    bias = np.zeros(padded, np.int64)
    bias[:filters] = plan.bias
    if plan.kernel is LinearKernel.UINT16:
        bias[:filters] += (1 << 15) * plan.weights.reshape(filters, -1).sum(axis=1)
    low = bias & 0xFFFFFFFF  # the sum is right modulo the lane
    return np.concatenate(blocks), low.astype(np.uint32).view(np.int32)


def finish_numbers(compiled: Compiler, storage: Storage, lane: int, low_in: int, high_in: int) -> list[int]:
    """[use, wrap shift, shift, constant, mask, low, high] when the whole recipe is wrap, round, clamp; use = 0 else."""
    no = [0] * 7
    if storage not in _CLAMPED or (storage is Storage.U16 and lane < 32):
        return no
    steps = list(compiled.steps)
    drop = shift = constant = mask = 0
    low, high = _CLAMPED[storage]
    if steps and steps[0].code is StepCode.WRAP and steps[0].mode and steps[0].n <= lane:
        wrap = steps.pop(0)
        drop, high_in = lane - wrap.n, (1 << (wrap.n - 1)) - 1
    elif low_in < -(1 << (lane - 1)) or high_in >= 1 << (lane - 1):
        return no
    first: tuple[int, int] | None = None
    if len(steps) > 1 and steps[0].code is StepCode.CLAMP and steps[1].code is StepCode.SHR:
        # rounding keeps order: clamping (a ReLU) before it is clamping after it, at the rounded bounds
        step, mode = steps.pop(0), Rounding[RoundMode(steps[0].mode).name]
        first = round_shift(step.a, steps[0].n, mode), round_shift(step.b, steps[0].n, mode)
    if steps and steps[0].code is StepCode.SHR:
        step = steps.pop(0)
        half = 1 << (step.n - 1)
        forms: dict[int, tuple[int, int]] = {
            RoundMode.TRN: (0, 0),
            RoundMode.RND: (half, 0),
            RoundMode.RND_MIN_INF: (half - 1, 0),
            RoundMode.RND_CONV: (half - 1, 1),
        }
        if step.mode not in forms or step.n >= lane or high_in + half >= 1 << (lane - 1):
            return no
        shift = step.n
        constant, mask = forms[step.mode]
    if steps and steps[0].code is StepCode.CLAMP:
        step = steps.pop(0)
        low, high = step.a, step.b
    if first is not None:
        low, high = min(max(first[0], low), high), min(max(first[1], low), high)
    return no if steps else [1, drop, shift, constant, mask, low, high]


def window_taps(op: Linear, weights: Ints, source: Slot) -> tuple[NDArray[np.int32], NDArray[np.int32], Ints]:
    """For the exact kernel: row within the window and channel parity of every product, and weights, in csim's order."""
    filters, rows, columns, channels = weights.shape
    in_channels = source.value.image[2]
    pairs = (in_channels + 1) // 2
    # the source's border is laid out after this operation is encoded: ask for the same answer
    left, right = source.pads[1], source.pads[3]
    line = (left + source.value.image[1] + right) * pairs
    y, x, c = (axis.reshape(-1) for axis in np.meshgrid(range(rows), range(columns), range(channels), indexing="ij"))
    flat = weights.reshape(filters, -1)
    if op.depthwise:
        channel = np.arange(filters)[:, None] + 0 * y[None, :]
        row = y[None, :] * line + x[None, :] * pairs + channel // 2
        return row.astype(np.int32), (channel % 2).astype(np.int32), flat
    order = np.arange(flat.shape[1]) if op.order is None else op.order
    row = (y * line + x * pairs + c // 2)[order]
    return row.astype(np.int32), (c % 2)[order].astype(np.int32), flat[:, order]
