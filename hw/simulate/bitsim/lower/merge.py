"""Add, subtract, multiply, average, maximum, minimum of two inputs.

C++: nnet_merge.h, nnet_merge_stream.h. The operation itself is exact; the result is cast once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hw.simulate.bitsim.codes import Merge
from hw.simulate.bitsim.lower.lowering import Handler, Lowering, refuse
from hw.simulate.bitsim.program import Binary, Gather, Value
from hw.simulate.bitsim.recipes import Cast, Recipe, ShiftLeft, recipe
from qmodels.formats import FixedPoint

_MERGES = {
    "add": Merge.ADD,
    "average": Merge.ADD,
    "subtract": Merge.SUBTRACT,
    "multiply": Merge.MULTIPLY,
    "maximum": Merge.MAXIMUM,
    "minimum": Merge.MINIMUM,
}


def _repeated(low: Lowering, layer: Any, value: Value, out: Value) -> Value:
    """csim reads a smaller operand as data[i % n]."""
    if value.size == out.size and value.image == out.image:
        return value
    grown = low.new(layer, out.shape, value.format)
    everything = np.arange(out.size, dtype=np.int32)
    low.emit(Gather(value, grown, everything % value.size, everything, Recipe()))
    return grown


def _merge(low: Lowering, layer: Any) -> None:
    name = str(layer.get_attr("op")).lower()
    if name not in _MERGES or len(layer.inputs) != 2:
        refuse(layer, f"the merge {name!r} of {len(layer.inputs)} inputs")
    merge, out = _MERGES[name], low.result(layer)
    one = _repeated(low, layer, low.source(layer, 0), out)
    two = _repeated(low, layer, low.source(layer, 1), out)
    first, second = one.format.fraction, two.format.fraction
    fraction = max(first, second)
    on_one, on_two = recipe(ShiftLeft(fraction - first)), recipe(ShiftLeft(fraction - second))
    if merge is Merge.MULTIPLY:
        on_one = on_two = Recipe()
        fraction = first + second
    if name == "average":
        fraction += 1  # times ap_ufixed<1,0>(0.5)
    integer = (
        one.format.integer + two.format.integer
        if merge is Merge.MULTIPLY
        else max(one.format.integer, two.format.integer) + 2
    )
    exact = FixedPoint(integer + fraction, integer)
    low.emit(Binary(one, two, out, merge, on_one, on_two, recipe(Cast(exact, out.format, layer.name))))


HANDLERS: dict[str, Handler] = {
    "Merge": _merge,
    "Add": _merge,
    "Subtract": _merge,
    "Multiply": _merge,
    "Average": _merge,
    "Maximum": _merge,
    "Minimum": _merge,
}
