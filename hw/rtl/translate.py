"""bitsim's network as one alkaid program: the same integers, every operation unrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.rtl.arithmetic import Number, Place, apply, checked, refuse
from hw.rtl.linear import Numbers, linear, windows
from hw.simulate.bitsim.codes import Merge
from hw.simulate.bitsim.fuse import fuse
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
    Value,
    sources,
)

Values = dict[int, Numbers]  # by the value's index: raw integers (elements,)


@dataclass(frozen=True)
class Traced:
    """alkaid's program (`CombLogic`), and whose numbers go in and come out, one after the other."""

    logic: Any
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def translate(network: Network, seen: Sequence[Value] | None = None) -> Traced:
    """The program that computes `seen` (the network's outputs when None) from the network's inputs.

    Raises:
        UserError: an operation or a number that alkaid cannot say; names the layer.
    """
    from alkaid.trace import trace

    if seen is None:  # what nobody sees is computed in fewer casts
        network = fuse(network)
        seen = network.outputs
    values: Values = {}
    for op in network.ops:
        values[op.out.index] = _operation(op, values)
    inputs = np.concatenate([values[value.index] for value in network.inputs])
    outputs = np.concatenate([values[value.index] for value in seen])
    return Traced(trace(list(inputs), list(outputs), keep_dead_inputs=True), network.inputs, tuple(seen))


def _operation(op: Op, values: Values) -> Numbers:
    """The operation's result, flat."""
    if isinstance(op, Input):
        return _input(op.out)
    if isinstance(op, Softmax):
        refuse(op.out.layer, "softmax; leave it off, the class is that of the largest logit")
    given = [values[source.index] for source in sources(op)]
    if isinstance(op, Alias):
        return given[0]
    if isinstance(op, Linear):
        return linear(op, given[0]).reshape(-1)
    if isinstance(op, Map):
        return _elementwise(op.out, lambda i, place: apply(op.recipe, given[0][i], place))
    if isinstance(op, Binary):
        return _binary(op, *given)
    if isinstance(op, Pool):
        return _pool(op, given[0])
    return _gather(op.gather() if isinstance(op, Pad) else op, given[0], values)


def _input(value: Value) -> Numbers:
    from alkaid.trace import FVariable, HWConfig

    low, high = float(value.format.raw_min), float(value.format.raw_max)
    numbers = np.empty(value.size, dtype=object)
    for i in range(value.size):
        numbers[i] = checked(FVariable(low, high, 1.0, hwconf=HWConfig(1, 1, -1), latency=0.0), value.layer)
    return numbers


def _elementwise(out: Value, compute: Callable[[int, Place], Number]) -> Numbers:
    channels = out.image[2]
    numbers = np.empty(out.size, dtype=object)
    for i in range(out.size):
        numbers[i] = compute(i, Place(out.layer, i // channels, i % channels, (channels + 1) // 2))
    return numbers


def _binary(op: Binary, one: Numbers, two: Numbers) -> Numbers:
    def compute(i: int, place: Place) -> Number:
        merged = _merge(op.merge, apply(op.on_one, one[i], place), apply(op.on_two, two[i], place))
        return apply(op.recipe, checked(merged, place.layer), place)

    return _elementwise(op.out, compute)


def _merge(merge: Merge, a: Number, b: Number) -> Number:
    if merge in (Merge.MAXIMUM, Merge.MINIMUM):
        if not hasattr(a, "qint"):
            a, b = b, a
        if not hasattr(a, "qint"):
            return max(a, b) if merge is Merge.MAXIMUM else min(a, b)
        return a.max_of(b) if merge is Merge.MAXIMUM else a.min_of(b)
    if merge is Merge.ADD:
        return a + b
    return a - b if merge is Merge.SUBTRACT else a * b


def _pool(op: Pool, source: Numbers) -> Numbers:
    rows, columns, _ = op.out.image
    w, layer = op.window, op.out.layer
    seen = windows(source.reshape(op.source.image), w, rows, columns, float(op.pad_value))
    inside = windows(np.ones((*op.source.image[:2], 1), dtype=object), w, rows, columns, 0)

    def compute(i: int, place: Place) -> Number:
        y, x = divmod(place.pixel, columns)
        numbers = [apply(op.on_input, v, place) for v in seen[y, x, :, :, place.channel].reshape(-1)]
        if not op.maximum and not op.tree:  # csim starts from 0 and casts every sum, the first too
            numbers[0] = apply(op.on_sum, numbers[0], place)
        value = _reduce(op, numbers, place)
        if op.divide:
            count = int(inside[y, x].sum())
            value = apply(op.divide[0 if len(op.divide) == 1 else count - 1], value, place)
        return apply(op.recipe, checked(value, layer), place)

    return _elementwise(op.out, compute)


def _reduce(op: Pool, numbers: Sequence[Number], place: Place) -> Number:
    """The largest one, or the sum in csim's order: left to right, or as nnet::reduce's balanced tree."""
    if op.tree and len(numbers) > 2:
        left = 1
        while left * 2 <= len(numbers) - 1:
            left *= 2
        return _combine(op, _reduce(op, numbers[:left], place), _reduce(op, numbers[left:], place), place)
    value = numbers[0]
    for number in numbers[1:]:
        value = _combine(op, value, number, place)
    return value


def _combine(op: Pool, a: Number, b: Number, place: Place) -> Number:
    if op.maximum:
        return _merge(Merge.MAXIMUM, a, b)
    return apply(op.on_sum, checked(a + b, place.layer), place)


def _gather(op: Gather, source: Numbers, values: Values) -> Numbers:
    numbers = values.get(op.out.index, np.full(op.out.size, 0.0, dtype=object)).copy()
    channels = op.out.image[2]
    for at, where in zip(op.from_.tolist(), op.to.tolist(), strict=True):
        place = Place(op.out.layer, where // channels, where % channels, (channels + 1) // 2)
        numbers[where] = apply(op.recipe, source[at], place) if at >= 0 else 0.0
    return numbers
