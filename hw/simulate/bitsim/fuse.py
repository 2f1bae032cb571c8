"""Fewer operations with the same outputs: casts move into what made the value, scales move into the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hw.simulate.bitsim.codes import StepCode
from hw.simulate.bitsim.encode.compiler import compile_recipe
from hw.simulate.bitsim.encode.plan import plan_linear
from hw.simulate.bitsim.program import Alias, Binary, Input, Ints, Linear, Map, Network, Op, Pad, Pool, Value, sources
from hw.simulate.bitsim.recipes import Cast, Param, Recipe, ShiftLeft
from qmodels.formats import FixedPoint

_WIDEST_SCALE = 24  # bits a folded weight may have; more gains nothing, int16 lanes are far below


def fuse(network: Network) -> Network:
    """The network without its invisible intermediate values where that is exact."""
    network = _look_beyond_edges(_without_aliases(network))
    readers: dict[int, int] = {}
    for op in network.ops:
        for value in sources(op):
            readers[value.index] = readers.get(value.index, 0) + 1
    visible = {value.index for value in network.outputs}
    makers: dict[int, int] = {}
    ops: list[Op] = []
    for op in network.ops:
        if isinstance(op, Map) and readers[op.source.index] == 1 and op.source.index not in visible:
            at = makers.get(op.source.index)
            joined = None if at is None else _join(ops[at], op)
            if at is not None and joined is not None:
                ops[at] = joined
                makers[op.out.index] = at
                continue
        makers[op.out.index] = len(ops)
        ops.append(op)
    return replace(network, ops=tuple(ops))


def _reading(op: Op, renamed: dict[int, Value]) -> Op:
    """The operation with some of its sources replaced."""
    if isinstance(op, Input):
        return op
    if isinstance(op, Binary):
        return replace(op, one=renamed.get(op.one.index, op.one), two=renamed.get(op.two.index, op.two))
    return replace(op, source=renamed.get(op.source.index, op.source))


def _without_aliases(network: Network) -> Network:
    """Read the original where the alias has the same shape (clones)."""
    renamed: dict[int, Value] = {}
    ops: list[Op] = []
    for old in network.ops:
        op = _reading(old, renamed)
        if isinstance(op, Alias) and op.source.image == op.out.image:
            renamed[op.out.index] = op.source
        else:
            ops.append(op)
    outputs = tuple(renamed.get(value.index, value) for value in network.outputs)
    return replace(network, ops=tuple(ops), outputs=outputs)


def _look_beyond_edges(network: Network) -> Network:
    """Padding that only linear layers read becomes their own."""
    visible = {value.index for value in network.outputs}
    readers: dict[int, list[Op]] = {}
    for op in network.ops:
        for value in sources(op):
            readers.setdefault(value.index, []).append(op)
    dropped = {
        op.out.index: op
        for op in network.ops
        if isinstance(op, Pad)
        and op.out.index not in visible
        and all(isinstance(reader, Linear) for reader in readers.get(op.out.index, []))
    }
    ops: list[Op] = []
    for op in network.ops:
        if isinstance(op, Pad) and op.out.index in dropped:
            continue
        if isinstance(op, Linear) and op.source.index in dropped:
            pad = dropped[op.source.index]
            window = replace(op.window, pad_top=op.window.pad_top + pad.top, pad_left=op.window.pad_left + pad.left)
            op = replace(op, source=pad.source, window=window)
        ops.append(op)
    return replace(network, ops=tuple(ops))


def _join(first: Op, second: Map) -> Op | None:
    """One operation that does both, or None."""
    if second.recipe.uniform and isinstance(first, (Linear, Map, Binary, Pool)):
        return replace(first, out=second.out, recipe=first.recipe + second.recipe)
    return _absorb(first, second) if isinstance(first, Linear) else None


def _absorb(linear: Linear, scale: Map) -> Linear | None:
    """x * scale + shift after a linear layer, as the layer's own weights and bias.

    Only when the layer's accumulator and result provably change nothing, so that scaling the exact sum is the same.
    """
    actions = scale.recipe.actions
    if len(actions) < 4 or len(linear.recipe.actions) != 1 or linear.depthwise:
        return None
    multiply, align, add, last = actions[:4]
    cast = linear.recipe.actions[0]
    if not (isinstance(multiply, Param) and isinstance(align, ShiftLeft) and isinstance(add, Param)):
        return None
    if not (isinstance(last, Cast) and isinstance(cast, Cast)) or not _changes_nothing(linear, cast):
        return None
    filters = len(linear.weights)
    scales: Ints = multiply.data.reshape(-1)
    shifts: Ints = add.data.reshape(-1)
    if len(scales) - filters not in (0, 1) or len(shifts) != len(scales):
        return None
    scales, shifts = scales[:filters], shifts[:filters]
    accumulator = linear.accumulator
    if int(np.abs(scales).max()).bit_length() + linear.weight_format.width > _WIDEST_SCALE:
        return None
    # grids, in fraction bits: the sum's, the scale's, and that of scale * sum + shift
    sum_grid = cast.target.fraction
    final = last.source.fraction
    scale_fraction = final - align.bits - sum_grid
    grown = final - accumulator.fraction - scale_fraction
    bias = linear.bias * scales
    bias = (bias << grown if grown >= 0 else bias >> -grown) + shifts
    wide = FixedPoint(62, 62 - final)
    weight = linear.weight_format
    weights = linear.weights * scales.reshape(-1, 1, 1, 1)
    weight_format = FixedPoint(weight.width + 40, weight.width + 40 - weight.fraction - scale_fraction)
    return replace(
        linear,
        out=scale.out,
        weights=weights,
        weight_format=weight_format,
        bias=bias,
        accumulator=wide,
        order=None,
        recipe=Recipe((replace(last, source=wide), *actions[4:])),
    )


def _changes_nothing(linear: Linear, cast: Cast) -> bool:
    """No sum overflows accumulator or result, and no bit is rounded away, for any input of the source's format."""
    accumulator, target, source = cast.source, cast.target, linear.source.format
    if cast.target.fraction < accumulator.fraction:
        return False
    plan = plan_linear(linear, source.raw_min, source.raw_max)
    if (plan.low, plan.high) == (0, 0):  # not proved at all
        return False
    grid = plan.accumulator
    compiled = compile_recipe(Recipe((Cast(grid, grid), replace(cast, source=grid))), plan.low, plan.high)
    return target.fraction >= accumulator.fraction and all(step.code is StepCode.SHL for step in compiled.steps)
