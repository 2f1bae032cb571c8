"""The network as it grows, and what every family of layers asks of hls4ml's graph: types, weights, sources."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.program import Ints, Op, Value
from hw.simulate.bitsim.scalars import ApInt, quantize
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Rounding

Handler = Callable[["Lowering", Any], None]  # adds an hls4ml layer's operations to the network


def refuse(layer: Any, why: str) -> NoReturn:
    """UserError naming layer and class, and the way out."""
    raise UserError(f"layer {layer.name!r} ({layer.class_name}): bitsim cannot simulate {why}. csim can: --engine csim")


_KINDS = ("XnorPrecisionType", "ExponentPrecisionType", "FixedPrecisionType", "IntegerPrecisionType")


def precision_kind(precision: Any) -> str:
    """The hls4ml class a precision descends from (backends subclass them); its own name when unknown."""
    names = [cls.__name__ for cls in type(precision).__mro__]
    return next((kind for kind in _KINDS if kind in names), names[0])


@functools.cache
def _parsed(text: str) -> FixedPoint:
    return FixedPoint.parse(text)


def precision_format(layer: Any, precision: Any) -> FixedPoint:
    """The FixedPoint of an hls4ml precision; UserError for floating point, power-of-two and unknown types."""
    kind = precision_kind(precision)
    if kind == "XnorPrecisionType":
        return FixedPoint(1, 1, False)
    if kind not in ("FixedPrecisionType", "IntegerPrecisionType"):
        refuse(layer, f"numbers of type {type(precision).__name__} ({precision})")
    if getattr(precision, "saturation_bits", 0):
        refuse(layer, f"saturation bits ({precision})")
    if kind == "IntegerPrecisionType":
        return ApInt(*FixedPoint.from_hls4ml(precision))._replace(rounding=Rounding.TRN_ZERO)
    return _parsed(str(precision))


def from_float(x: float, target: FixedPoint) -> int:
    """The raw integer of `ap_fixed(double)`."""
    if np.isnan(x):
        return 0
    # ap_fixed reads infinity's bits as the number 2**1024
    numerator, denominator = (int(np.sign(x)) << 1024, 1) if np.isinf(x) else float(x).as_integer_ratio()
    fraction = denominator.bit_length() - 1
    width = max(numerator.bit_length() + 2, 56)
    return quantize(numerator, FixedPoint(width, width - fraction), target)


def raw_array(data: NDArray[Any], target: FixedPoint, text: str = "{}") -> Ints:
    """Raw integers of an array that csim reads from decimal text formatted with `text`."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.asarray(data, dtype=np.float64) * 2.0**target.fraction
    on_grid = np.rint(scaled)
    if target.width <= 53 and np.array_equal(on_grid, scaled):
        # k / 2**f has at most f decimals, so the text is exact
        if on_grid.min(initial=0) >= target.raw_min and on_grid.max(initial=0) <= target.raw_max:
            return on_grid.astype(np.int64)
    flat = [from_float(float(text.format(x)), target) for x in np.asarray(data, dtype=np.float64).reshape(-1)]
    return np.array(flat, dtype=np.int64).reshape(np.shape(data))


class Lowering:
    """The network as it grows, layer by layer."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.stream = graph.config.get_config_value("IOType") == "io_stream"
        self.ops: list[Op] = []
        self.values: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.count = 0

    def format(self, layer: Any, variable: Any | None = None) -> FixedPoint:
        """Format of the layer's output, or of another of its variables."""
        variable = layer.get_output_variable() if variable is None else variable
        return precision_format(layer, variable.type.precision)

    def type_of(self, layer: Any, attribute: str) -> FixedPoint:
        """Format that an attribute such as accum_t names; refused when the layer has none."""
        named = layer.get_attr(attribute)
        if named is None:
            refuse(layer, f"a layer without {attribute}")
        return precision_format(layer, named.precision)

    def new(self, layer: Any, shape: tuple[int, ...], fmt: FixedPoint) -> Value:
        """A fresh value of the layer, which no name leads to yet."""
        value = Value(self.count, layer.name, shape, fmt)
        self.count += 1
        return value

    def source(self, layer: Any, which: int = 0) -> Value:
        """The value that the layer reads as its input number `which`."""
        return self.values[layer.inputs[which]]

    def result(self, layer: Any, name: str | None = None) -> Value:
        """A fresh value for the layer's output (or the one called `name`), which later layers find by name."""
        variable = layer.get_output_variable(name) if name else layer.get_output_variable()
        shape = tuple(int(n) for n in variable.shape)
        value = self.new(layer, shape, self.format(layer, variable))
        self.values[name or layer.outputs[0]] = value
        return value

    def emit(self, op: Op) -> None:
        """Append an operation to the network."""
        self.ops.append(op)

    def weights(self, layer: Any, name: str) -> tuple[Ints, FixedPoint]:
        """Raw weights in hls4ml's own shape, and their format."""
        variable = layer.weights[name]
        fmt = precision_format(layer, variable.type.precision)
        return raw_array(variable.data, fmt, variable.precision_fmt), fmt
