"""Activations and quantizers.

C++: nnet_activation.h (io_parallel), nnet_activation_stream.h (io_stream).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from hw.simulate.bitsim.lower.linear import parameter_rows
from hw.simulate.bitsim.lower.lowering import Handler, Lowering, from_float, refuse
from hw.simulate.bitsim.program import Ints, Map, Value
from hw.simulate.bitsim.recipes import (
    Action,
    Affine,
    Cast,
    Choose,
    Clamp,
    DivideTowardsZero,
    LookupTable,
    Param,
    Recipe,
    ShiftLeft,
    recipe,
)
from qmodels.formats import FixedPoint

Float = np.float32


@functools.cache
def _libm() -> ctypes.CDLL:
    """The C library csim uses: NumPy's float32 functions may differ in the last bit."""
    lib = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
    for name in ("expf", "tanhf", "logf"):
        getattr(lib, name).restype = ctypes.c_float
        getattr(lib, name).argtypes = [ctypes.c_float]
    return lib


def exp_float(x: float | np.float32) -> np.float32:
    """std::exp(float)."""
    return Float(_libm().expf(float(x)))


def _sigmoid(x: np.float32) -> float:
    return float(Float(1.0 / float(Float(1) + exp_float(-x))))


def _tanh(x: np.float32) -> float:
    return float(_libm().tanhf(float(x)))


def _softplus(x: np.float32) -> float:
    # float + double literal: the sum and the logarithm are double
    return float(Float(np.log(float(exp_float(x)) + 1.0)))


def _softsign(x: np.float32) -> float:
    return float(Float(float(x) / (abs(float(x)) + 1.0)))


def _elu(x: np.float32) -> float:
    return float(Float(float(exp_float(x)) - 1.0))


def _selu(x: np.float32) -> float:
    return float(
        Float(1.0507009873554804934193349852946 * (1.6732632423543772848170429916717 * (float(exp_float(x)) - 1.0)))
    )


def _table(function: Callable[[np.float32], float], size: int, span: float, fmt: FixedPoint) -> Ints:
    """Table over [-span, span)."""
    points = [Float(2 * span * (i - size / 2.0) / size) for i in range(size)]
    return np.array([from_float(function(x), fmt) for x in points], dtype=np.int64)


def _negative_table(function: Callable[[np.float32], float], size: int, fmt: FixedPoint) -> Ints:
    """Table over (-8, 0], most negative last."""
    return np.array([from_float(function(Float(-8.0 * i / size)), fmt) for i in range(size)], dtype=np.int64)


_INT = FixedPoint(32, 32)


def index_actions(x: FixedPoint, size: int, divisor: int) -> tuple[Action, ...]:
    """int(x * size / divisor): C++ divides, and converts to int, towards zero."""
    if x.fraction < 0:
        scaled: tuple[Action, ...] = (ShiftLeft(-x.fraction), Affine(size), DivideTowardsZero(divisor))
    else:
        scaled = (Affine(size), DivideTowardsZero(divisor << x.fraction))
    return (*scaled, Cast(FixedPoint(126, 126), _INT))


_SYMMETRIC: dict[str, tuple[Callable[[np.float32], float], int]] = {
    "sigmoid": (_sigmoid, 8),
    "tanh": (_tanh, 4),
    "softplus": (_softplus, 8),
    "softsign": (_softsign, 8),
}


def _looked_up(low: Lowering, layer: Any, x: FixedPoint, name: str) -> tuple[tuple[Action, ...], FixedPoint]:
    function, span = _SYMMETRIC[name]
    size, fmt = int(layer.get_attr("table_size")), low.type_of(layer, "table_t")
    offset = span * size // (2 * span)
    steps = (
        *index_actions(x, size, 2 * span),
        Affine(1, offset),
        Clamp(0, size - 1),
        LookupTable(_table(function, size, float(span), fmt)),
    )
    return steps, fmt


def _emit(low: Lowering, layer: Any, source: Value, out: Value, *actions: Action) -> None:
    low.emit(Map(source, out, recipe(*actions)))


def _bounded(x: FixedPoint, top: int) -> tuple[tuple[Action, ...], FixedPoint]:
    """relu_max: 0 below 0, `top` above `top`."""
    if x.fraction >= 0:
        return (Clamp(0, top << x.fraction),), x
    grid = x._replace(width=x.integer)
    return (ShiftLeft(-x.fraction), Clamp(0, top)), grid


def _activation(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    x, y, name = source.format, out.format, str(layer.get_attr("activation")).lower()
    if name == "linear":
        _emit(low, layer, source, out, Cast(x, y, layer.name))
    elif name == "relu":
        _emit(low, layer, source, out, Clamp(low=0), Cast(x, y, layer.name))
    elif name in ("relu6", "relu1"):
        steps, grid = _bounded(x, int(name[4:]))
        _emit(low, layer, source, out, *steps, Cast(grid, y, layer.name))
    elif name in _SYMMETRIC:
        steps, table = _looked_up(low, layer, x, name)
        _emit(low, layer, source, out, *steps, Cast(table, y, layer.name))
    elif name in ("binary_tanh", "ternary_tanh"):
        _signs(low, layer, source, out, name)
    elif name == "elu":
        _elu_like(low, layer, source, out, FixedPoint(1, 1, False), 1)
    elif name == "selu":
        _selu_layer(low, layer, source, out)
    else:
        refuse(layer, f"the activation {name!r}")


def _signs(low: Lowering, layer: Any, source: Value, out: Value, name: str) -> None:
    x, y = source.format, out.format
    if name == "binary_tanh":
        no = 0 if (y.width, y.integer, y.signed) == (1, 1, False) else -1  # binary_cast<ap_uint<1>>
        _emit(
            low,
            layer,
            source,
            out,
            Choose(0, (Affine(0, 1),), (Affine(0, no),), or_equal=True),
            Cast(FixedPoint(2, 2), y, layer.name),
        )
        return
    one = 1 << x.fraction if x.fraction >= 0 else 1
    steps: tuple[Action, ...] = () if x.fraction >= 0 else (ShiftLeft(-x.fraction),)
    if not low.stream:  # data_T datareg = 2 * x, in x's own type
        steps = (ShiftLeft(1), Cast(x._replace(width=x.width + 1, integer=x.integer + 1), x), *steps)
    # 1 above one, -1 at minus one and below: as a table on the value clamped to {-one, ..., one + 1}
    table = np.zeros(2 * one + 2, np.int64)
    table[0], table[-1] = -1, 1
    _emit(
        low,
        layer,
        source,
        out,
        *steps,
        Clamp(-one, one + 1),
        LookupTable(table, -one),
        Cast(FixedPoint(2, 2), y, layer.name),
    )


def _parametrized(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    x, y = source.format, out.format
    name = str(layer._get_act_function_name())
    fmt = low.type_of(layer, "param_t")
    parameter = from_float(float(layer.get_attr("activ_param", 1.0)), fmt)
    if name == "leaky_relu":
        scaled = FixedPoint(x.width + fmt.width, x.integer + fmt.integer, x.signed or fmt.signed)
        no = (Affine(parameter), Cast(scaled, y, layer.name))
        _emit(low, layer, source, out, Choose(0, (Cast(x, y, layer.name),), no))
    elif name == "thresholded_relu":
        # x > theta, on x's grid: x > floor(theta)
        shift = x.fraction - fmt.fraction
        threshold = parameter << shift if shift >= 0 else parameter >> -shift
        _emit(low, layer, source, out, Choose(threshold, (Cast(x, y, layer.name),), (Affine(0),)))
    elif name == "elu":
        _elu_like(low, layer, source, out, fmt, parameter)
    else:
        refuse(layer, f"the activation {name!r}")


def _negative_index(x: FixedPoint, size: int) -> tuple[Action, ...]:
    """int(x * size / -8), at most size - 1."""
    return (*index_actions(x, size, -8), Clamp(0, size - 1))


def _elu_like(low: Lowering, layer: Any, source: Value, out: Value, fmt: FixedPoint, alpha: int) -> None:
    x, y = source.format, out.format
    size, table_format = int(layer.get_attr("table_size")), low.type_of(layer, "table_t")
    scaled = FixedPoint(fmt.width + table_format.width, fmt.integer + table_format.integer, True)
    no = (
        *_negative_index(x, size),
        LookupTable(_negative_table(_elu, size, table_format)),
        Affine(alpha),
        Cast(scaled, y, layer.name),
    )
    _emit(low, layer, source, out, Choose(0, (Cast(x, y, layer.name),), no, or_equal=True))


def _selu_layer(low: Lowering, layer: Any, source: Value, out: Value) -> None:
    x, y = source.format, out.format
    size, table_format = int(layer.get_attr("table_size")), low.type_of(layer, "table_t")
    # io_stream multiplies by a constant of the data's own type
    constant = x if low.stream else FixedPoint(16, 1, False)
    scale = from_float(1.0507009873554805, constant)
    scaled = FixedPoint(x.width + constant.width, x.integer + constant.integer, True)
    no = (
        *_negative_index(x, size),
        LookupTable(_negative_table(_selu, size, table_format)),
        Cast(table_format, y, layer.name),
    )
    _emit(low, layer, source, out, Choose(0, (Affine(scale), Cast(scaled, y, layer.name)), no, or_equal=True))


def _hard(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    x = source.format
    slope_t, shift_t = low.type_of(layer, "slope_t"), low.type_of(layer, "shift_t")
    slope = from_float(float(layer.get_attr("slope")), slope_t)
    shift = from_float(float(layer.get_attr("shift")), shift_t)
    product = x.fraction + slope_t.fraction
    fraction = max(product, shift_t.fraction)
    if fraction < 0:
        refuse(layer, "a hard activation on numbers without units")
    steps: tuple[Action, ...] = (
        Affine(slope),
        ShiftLeft(fraction - product),
        Affine(1, shift << (fraction - shift_t.fraction)),
        Clamp(0, 1 << fraction),
    )
    if str(layer.get_attr("activation")).lower() == "hard_tanh":
        steps = (*steps, Affine(2, -(1 << fraction)))
    exact = FixedPoint(fraction + 40, 40)
    _emit(low, layer, source, out, *steps, Cast(exact, out.format, layer.name))


def _prelu(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    x, y = source.format, out.format
    alpha, fmt = low.weights(layer, "param")
    scaled = FixedPoint(x.width + fmt.width, x.integer + fmt.integer, x.signed or fmt.signed)
    if alpha.size != source.size:
        refuse(layer, f"{alpha.size} slopes for {source.size} elements")
    no = (Param(True, parameter_rows(source, alpha.reshape(-1))), Cast(scaled, y, layer.name))
    low.emit(Map(source, out, Recipe((Choose(0, (Cast(x, y, layer.name),), no),))))


def _unary(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    table, fmt = low.weights(layer, "table")
    bits = source.format.width
    if table.size < 1 << bits:
        refuse(layer, f"a table of {table.size} entries for {bits} bits")
    pattern = Cast(FixedPoint(bits, bits, source.format.signed), FixedPoint(bits, bits, False))
    _emit(low, layer, source, out, pattern, LookupTable(table.reshape(-1)), Cast(fmt, out.format, layer.name))


HANDLERS: dict[str, Handler] = {
    "Activation": _activation,
    "LeakyReLU": _parametrized,
    "ThresholdedReLU": _parametrized,
    "ELU": _parametrized,
    "ParametrizedActivation": _parametrized,
    "HardActivation": _hard,
    "PReLU": _prelu,
    "UnaryLUT": _unary,
}
