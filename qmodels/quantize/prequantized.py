"""The prequantized view of a QKeras model: the same bits and the same gradients, without the waste.

QKeras quantizes every kernel again in every call and spends about ten passes over memory on each activation.
The prequantized view is a plain Keras model that holds the quantized weights as constants and rounds activations in two
passes, with QKeras' straight-through gradients. Convolutions compute their input gradient as a convolution, which
is up to three times faster than TensorFlow's own on a CPU. It is a snapshot: make it again after changing weights.

Why the bits agree: weights are quantized by the layer's own quantizer; all scales are powers of two, so that
multiplying and dividing by them is exact; and in QKeras' `x + (xq - x)` a rounded `xq` differs from `x` by at most
half a step, so that both operations are exact (Sterbenz' lemma).
`tests/qmodels/quantize/test_prequantized.py` checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from qmodels.runtime import runtime

Tensor = Any


class Rounding(NamedTuple):
    """What a rounding activation does: to the nearest multiple of `step`, halves to even, and into a range."""

    step: float
    low: float
    high: float
    clipped: bool  # no gradient below zero or above `high`; else it is one everywhere


#: Times a rounded ReLU's `high`: below it gradients pass.
BEYOND = 1.0 + 2.0**-20
#: The attribute of an activation function that holds its `Rounding`.
ROUNDING = "rounding"
#: QKeras class -> (Keras class, attribute of the kernel, attribute of its quantizer)
PLAIN = {
    "QDense": ("Dense", "kernel", "kernel_quantizer_internal"),
    "QConv1D": ("Conv1D", "kernel", "kernel_quantizer_internal"),
    "QConv2D": ("Conv2D", "kernel", "kernel_quantizer_internal"),
    "QDepthwiseConv2D": ("DepthwiseConv2D", "depthwise_kernel", "depthwise_quantizer_internal"),
}
SIZES = (
    *("units", "filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups"),
    *("depth_multiplier", "use_bias", "name"),
)


def prequantize(model: Any, *, double: bool = False) -> Any:
    """A plain Keras model with the same outputs and input gradients as the QKeras `model`.

    Layers that it does not know are taken over unchanged: still the same bits, only not faster.

    Args:
        model: functional or sequential QKeras model. Plain Keras models come out as a copy.
        double: compute in float64, inputs and outputs stay float32. What QKeras means, without the roundings of
            float32, which holds sums of 24 bits: those of 16-bit activations have some 30. QKeras itself rounds in
            float32 wherever it is run.
    """
    dtype = "float64" if double else None
    prequantized = runtime().keras.models.clone_model(model, clone_function=lambda layer: _plain_layer(layer, dtype))
    for source, target in zip(model.layers, prequantized.layers, strict=True):
        kind = type(source).__name__
        target.set_weights(_quantized_weights(source) if kind in PLAIN else source.get_weights())
    if double:
        narrow = runtime().keras.layers.Activation("linear", dtype="float32", name="float32_outputs")
        prequantized = runtime().keras.Model(prequantized.inputs, narrow(prequantized.output))
    prequantized.trainable = False
    prequantized._name = f"{model.name}_prequantized"
    return prequantized


def _plain_layer(layer: Any, dtype: str | None) -> Any:
    """The plain layer that stands for `layer`, without weights yet."""
    kind, also = type(layer).__name__, {} if dtype is None else {"dtype": dtype}
    if kind == "QActivation":
        return runtime().keras.layers.Activation(_lean_quantizer(layer.quantizer), name=layer.name, **also)
    if kind not in PLAIN:
        return type(layer).from_config(layer.get_config() | ({} if kind == "InputLayer" else also))
    plain = _conv2d() if kind == "QConv2D" else getattr(runtime().keras.layers, PLAIN[kind][0])
    config = {key: getattr(layer, key) for key in SIZES if hasattr(layer, key)}
    if kind == "QDepthwiseConv2D":  # Keras derives these from depth_multiplier
        config = {key: value for key, value in config.items() if key not in ("filters", "groups")}
    activation = layer.activation
    return plain(**config, **also, activation=_lean_quantizer(activation) if activation is not None else None)


@lru_cache(maxsize=1)
def _conv2d() -> Any:
    """Keras' Conv2D by way of `fast_conv2d`."""
    base: Any = runtime().keras.layers.Conv2D

    class FastConv2D(base):  # type: ignore[misc]
        def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
            return fast_conv2d(self, inputs, kernel)

    return FastConv2D


def fast_conv2d(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    """A Conv2D layer's convolution with a faster input gradient where it has stride 1 and keeps the size.

    Args:
        layer: the Keras layer, for its strides, padding, dilation and groups.
        inputs: images (N, H, W, in).
        kernel: (kh, kw, in, out), as it multiplies.
    """
    tf = runtime().tf
    odd = all(size % 2 == 1 for size in layer.kernel_size)
    simple = layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    if not (odd and simple and layer.padding == "same" and layer.data_format == "channels_last"):
        base: Any = runtime().keras.layers.Conv2D
        return base.convolution_op(layer, inputs, kernel)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(x: Tensor, weights: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            turned = tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])
            # Inside a tf.function the one of the two that nobody asks for is never computed.
            to_weights = tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=tf.shape(weights),
                out_backprop=upstream,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return tf.nn.conv2d(upstream, turned, 1, "SAME"), to_weights

        return tf.nn.conv2d(x, weights, 1, "SAME"), gradient

    return convolve(inputs, tf.convert_to_tensor(kernel))


def _quantized_weights(layer: Any) -> list[Any]:
    """Kernel and bias as the layer's own quantizers make them."""
    _, kernel, quantizer = PLAIN[type(layer).__name__]
    weights = [(getattr(layer, kernel), getattr(layer, quantizer))]
    if layer.use_bias:
        weights.append((layer.bias, layer.bias_quantizer_internal))
    return [(quantize(weight) if quantize else weight).numpy() for weight, quantize in weights]


def _lean_quantizer(quantizer: Any) -> Callable[[Tensor], Tensor]:
    """A lean equal of an activation quantizer; the quantizer itself where none is known."""
    if (relu := relu_format(quantizer)) is not None:
        return rounded_relu(*relu)
    kind = type(quantizer).__name__
    if kind == "quantized_bits" and quantizer.alpha == 1 and _is_deterministic(quantizer) and quantizer.bits > 1:
        low = -(2.0 ** int(quantizer.integer)) if quantizer.keep_negative else 0.0
        step = 2.0 ** (int(quantizer.integer) - int(quantizer.bits - quantizer.keep_negative))
        low += step * bool(quantizer.symmetric) * bool(quantizer.keep_negative)
        return _rounded_linear(step, low, 2.0 ** int(quantizer.integer) - step)
    return quantizer  # type: ignore[no-any-return]


def _is_deterministic(quantizer: Any) -> bool:
    return not quantizer.use_stochastic_rounding and float(quantizer.qnoise_factor) == 1.0 and bool(quantizer.use_ste)


def relu_format(quantizer: Any) -> tuple[int, int] | None:
    """(bits, integer bits) of a quantized_relu that `rounded_relu` equals; None for any other quantizer."""
    if type(quantizer).__name__ != "quantized_relu" or not _is_deterministic(quantizer):
        return None
    if not quantizer.is_quantized_clip or quantizer.use_sigmoid or quantizer.negative_slope != 0.0:
        return None
    return int(quantizer.bits), int(quantizer.integer)


def relu_grid(bits: int, integer: int) -> tuple[float, float, float]:
    """(step, 1/step, top) of quantized_relu(bits, integer)."""
    step = 2.0 ** (integer - bits)
    return step, 1.0 / step, 2.0**integer - step


def rounded_relu(bits: int, integer: int) -> Callable[[Tensor], Tensor]:
    """QKeras' quantized_relu(bits, integer) for tensors: gradient one inside the range, zero outside."""
    grid = relu_grid(bits, integer)

    def rounded(x: Tensor) -> Tensor:
        return relu_on_grid(x, *grid)

    setattr(rounded, ROUNDING, Rounding(grid[0], 0.0, grid[2], clipped=True))
    return rounded


def relu_on_grid(x: Tensor, step: Any, inverse: Any, top: Any) -> Tensor:
    """What `rounded_relu` computes, on a grid of numbers or scalar tensors; these take no gradient.

    Numbers above `top` by less than a millionth of it still have gradient one.
    """
    tf = runtime().tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def rounded(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def gradient(upstream: Tensor) -> Tensor:
            # One where 0 < x <= top: ReLU6's gradient, one where 0 < x < 6, is several times as fast as
            # comparisons and a selection.
            return tf.raw_ops.Relu6Grad(gradients=upstream, features=x * (6.0 / (top * BEYOND)))

        return tf.clip_by_value(tf.round(x * inverse) * step, 0.0, top), gradient

    return rounded(x)


def _rounded_linear(step: float, low: float, high: float) -> Callable[[Tensor], Tensor]:
    """quantized_bits: rounds and clips, gradient one everywhere."""
    tf = runtime().tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def rounded_linear(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        rounded = tf.clip_by_value(tf.round(x * (1.0 / step)) * step, low, high)
        # As QKeras adds it up: far outside the range this is not exact, and it must not be exact here either.
        return x + (rounded - x), lambda upstream: upstream

    setattr(rounded_linear, ROUNDING, Rounding(step, low, high, clipped=False))
    return rounded_linear  # type: ignore[no-any-return]
