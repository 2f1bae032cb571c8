"""Dense, convolutions, depthwise convolutions, batch normalization.

C++: nnet_dense_latency.h, nnet_dense_resource.h, nnet_conv*_latency.h, nnet_conv*_resource.h, nnet_conv_stream.h,
nnet_depthwise_product.h, nnet_sepconv*_latency.h, nnet_batchnorm.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hw.simulate.bitsim.lower.lowering import Handler, Lowering, precision_kind, refuse
from hw.simulate.bitsim.program import Ints, Linear, Map, Value, Window
from hw.simulate.bitsim.recipes import Cast, Param, Recipe, ShiftLeft, recipe
from hw.simulate.bitsim.scalars import quantize
from qmodels.formats import FixedPoint, Overflow


def _strategy(layer: Any) -> str:
    return str(layer.get_attr("strategy") or "latency").lower()


def _order(layer: Any, accumulator: FixedPoint, n_in: int) -> Ints | None:
    """The order in which csim adds a filter's products; None where it does not matter or is the natural one."""
    strategy = _strategy(layer)
    if strategy == "distributed_arithmetic":
        refuse(layer, "the distributed_arithmetic strategy")
    if accumulator.overflow is Overflow.WRAP or strategy == "latency":
        return None
    reuse = int(layer.get_attr("reuse_factor", 1))
    if strategy != "resource" or (reuse <= n_in and n_in % reuse):
        refuse(layer, f"a saturating accumulator with strategy {strategy} and reuse factor {reuse}")
    if reuse > n_in:
        if reuse % n_in:
            refuse(layer, f"a saturating accumulator with reuse factor {reuse}")
        return None
    natural = np.arange(n_in)
    order: Ints = natural[np.lexsort((natural, natural % reuse))]
    return order


def _weights(low: Lowering, layer: Any) -> tuple[Ints, FixedPoint]:
    """Weights, with what nnet::product::weight_ternary and weight_binary make of them."""
    raw, fmt = low.weights(layer, "weight")
    kind = precision_kind(layer.weights["weight"].type.precision)
    if precision_kind(layer.get_input_variable().type.precision) == "XnorPrecisionType":
        refuse(layer, "XNOR data")
    if kind == "XnorPrecisionType":
        return np.where(raw == 0, -1, 1), FixedPoint(2, 2)
    if kind == "IntegerPrecisionType" and fmt.width == 2 and fmt.signed:
        return np.where(raw == -2, 1, raw), fmt  # the product only asks for 0 and -1
    return raw, fmt


def _bias(low: Lowering, layer: Any, accumulator: FixedPoint) -> Ints:
    raw, fmt = low.weights(layer, "bias")
    return np.array([quantize(int(b), fmt, accumulator) for b in raw.reshape(-1)], dtype=np.int64)


def _emit(
    low: Lowering, layer: Any, source: Value, weights: Ints, fmt: FixedPoint, window: Window, **more: Any
) -> None:
    accumulator = low.type_of(layer, "accum_t")
    out = low.result(layer)
    n_in = weights[0].size
    order = None if more.get("depthwise") else _order(layer, accumulator, n_in)
    cast = recipe(Cast(accumulator, out.format, layer.name))
    bias = _bias(low, layer, accumulator)
    low.emit(Linear(source, out, window, weights, fmt, bias, accumulator, cast, layer.name, order=order, **more))


def _dense(low: Lowering, layer: Any) -> None:
    source = low.source(layer)
    if len(source.shape) != 1:
        refuse(layer, f"a dense layer on an input of shape {source.shape}")
    if type(layer.weights["weight"]).__name__ == "CompressedWeightVariable":
        refuse(layer, "compressed weights")
    raw, fmt = _weights(low, layer)
    if not layer.get_attr("_weights_transposed", False):
        raw = raw.reshape(int(layer.get_attr("n_in")), -1).T
    raw = raw.reshape(int(layer.get_attr("n_out")), 1, 1, -1)
    _emit(low, layer, source, np.ascontiguousarray(raw), fmt, Window())


def _window(low: Lowering, layer: Any) -> Window:
    """From a 1D or 2D convolution's attributes."""
    for name in ("dilation", "dilation_height", "dilation_width"):
        if layer.get_attr(name, 1) not in (None, 1):
            refuse(layer, "dilation")
    if layer.get_attr("data_format", "channels_last") != "channels_last":
        refuse(layer, "channels_first data")
    get = layer.get_attr
    one_high = int(get("filt_height", 1)) == 1 and int(get("stride_height", 1)) > 1
    if low.stream and one_high and not layer.class_name.startswith("Pointwise"):
        refuse(layer, "a kernel one high with a vertical stride in io_stream, where hls4ml's C++ ignores that stride")
    return Window(
        int(get("filt_height", 1)),
        int(get("filt_width")),
        int(get("stride_height", 1)),
        int(get("stride_width")),
        int(get("pad_top", 0)),
        int(get("pad_left")),
    )


def _convolution(low: Lowering, layer: Any) -> None:
    window = _window(low, layer)
    raw, fmt = _weights(low, layer)
    filters, channels = int(layer.get_attr("n_filt")), int(layer.get_attr("n_chan"))
    if layer.get_attr("_weights_transposed", False):
        raw = raw.reshape(filters, window.height, window.width, channels)
    else:
        raw = raw.reshape(window.height, window.width, channels, filters).transpose(3, 0, 1, 2)
    _emit(low, layer, low.source(layer), np.ascontiguousarray(raw), fmt, window)


def _depthwise(low: Lowering, layer: Any) -> None:
    window = _window(low, layer)
    raw, fmt = _weights(low, layer)
    channels = int(layer.get_attr("n_chan"))
    if int(layer.get_attr("n_filt")) != channels:
        refuse(layer, "a depth multiplier")
    accumulator = low.type_of(layer, "accum_t")
    if _strategy(layer) != "latency" and accumulator.overflow is not Overflow.WRAP:
        refuse(layer, f"a saturating accumulator with strategy {_strategy(layer)}")
    if raw.size != window.height * window.width * channels:
        refuse(layer, "a depthwise kernel into which hls4ml fused a batch normalization: it has the wrong shape")
    raw = raw.reshape(window.height, window.width, channels).transpose(2, 0, 1)[..., None]
    _emit(low, layer, low.source(layer), np.ascontiguousarray(raw), fmt, window, depthwise=True)


def parameter_rows(value: Value, parameters: Ints) -> Ints:
    """Per-channel or per-element parameters in the kernels' layout: (rows, 2)."""
    channels = value.image[2]
    table: Ints = parameters.reshape(-1, channels)
    if channels % 2:
        table = np.concatenate([table, np.zeros((len(table), 1), np.int64)], axis=1)
    return np.ascontiguousarray(table.reshape(-1, 2))


def _normalize(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    scale, scale_format = low.weights(layer, "scale")
    bias, bias_format = low.weights(layer, "bias")
    if precision_kind(layer.weights["scale"].type.precision) == "IntegerPrecisionType" and scale_format.width == 2:
        refuse(layer, f"a scale of type {scale_format}")
    if "XnorPrecisionType" in (precision_kind(w.type.precision) for w in layer.weights.values()):
        refuse(layer, "XNOR weights")
    fits = source.shape[-1] if int(layer.get_attr("n_filt", -1)) != -1 else source.size
    if scale.size != fits:
        refuse(layer, f"{scale.size} scales for {fits} channels")
    low.emit(
        Map(
            source,
            out,
            scale_and_shift(source, scale, scale_format, bias, bias_format)
            + recipe(Cast(_sum_format(source.format, scale_format, bias_format), out.format, layer.name)),
        )
    )


def _sum_format(x: FixedPoint, scale: FixedPoint, bias: FixedPoint) -> FixedPoint:
    """Type of `x * scale + bias`."""
    integer = max(x.integer + scale.integer, bias.integer) + 2
    fraction = max(x.fraction + scale.fraction, bias.fraction)
    return FixedPoint(integer + fraction, integer)


def scale_and_shift(
    source: Value, scale: Ints, scale_format: FixedPoint, bias: Ints, bias_format: FixedPoint
) -> Recipe:
    """x * scale + bias, exact, on the finer of the two grids."""
    product, target = source.format.fraction + scale_format.fraction, bias_format.fraction
    finest = max(product, target)
    return recipe(
        Param(True, parameter_rows(source, scale.reshape(-1))),
        ShiftLeft(finest - product),
        Param(False, parameter_rows(source, bias.reshape(-1) << (finest - target))),
    )


HANDLERS: dict[str, Handler] = {
    "Dense": _dense,
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "PointwiseConv1D": _convolution,
    "PointwiseConv2D": _convolution,
    "Conv2DBatchnorm": _convolution,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _normalize,
    "ApplyAlpha": _normalize,
}
