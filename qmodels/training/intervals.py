"""Interval bound propagation through a Keras model, differentiable: what certified training minimises.

A box of inputs goes in; bounds of every value come out, with tensors of the model's own precision. They are for
training: what an accelerator is certified for is computed in exact integers (`hw/certify`).

Sources: Gowal et al. 2018 (arXiv:1810.12715) for the method and the elided last layer; Lechner et al. 2022
(arXiv:2211.16187) for quantizers, which are monotone, so that the ends of an interval pass through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from qmodels.errors import UserError
from qmodels.layers import kernel_of
from qmodels.quantize.prequantized import fast_conv2d
from qmodels.runtime import runtime

Tensor = Any


class Interval(NamedTuple):
    """Bounds of a tensor, element by element."""

    lower: Tensor
    upper: Tensor


#: Layers that never turn an order round: both ends go through them.
MONOTONE = (
    *("Activation", "QActivation", "ReLU", "Flatten", "Reshape", "Permute", "Dropout", "Add", "Average", "Maximum"),
    *("Minimum", "Concatenate", "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D"),
)
#: Of an `Activation`: functions that do turn an order round.
_NOT_MONOTONE = ("softmax", "log_softmax", "swish", "silu", "gelu", "mish")


def check_bounded(model: Any) -> None:
    """Raise UserError if bounds cannot be propagated through a layer, or the model does not end in a dense one."""
    for layer in model.layers:
        kind = type(layer).__name__
        known = kind in MONOTONE or kind in PRODUCTS or kind in ("InputLayer", "BatchNormalization")
        turns = str(getattr(getattr(layer, "activation", None), "__name__", "")) in _NOT_MONOTONE
        if not known or turns:
            what = f"activation {layer.activation.__name__}" if turns else f"layer {kind}"
            allowed = ", ".join([*PRODUCTS, "BatchNormalization", *MONOTONE])
            raise UserError(
                f"training.method: it trains through bounds, and {what} ({layer.name!r}) has none; allowed: {allowed}; "
                "or use training.method adversarial"
            )
    if type(model.layers[-1]).__name__ != "Dense":
        raise UserError(
            f"training.method: it trains through bounds, so the model must end in a Dense layer of logits; it ends in "
            f"{type(model.layers[-1]).__name__} ({model.layers[-1].name!r})"
        )


def margin_bounds(model: Any, box: Interval, y: Tensor) -> Tensor:
    """Lower bounds (N, classes) of the true class's logit minus every class's; 0 for the true class itself.

    The last layer is elided: the bound is of the difference of two of its rows, not the difference of two bounds.

    Args:
        model: functional or sequential, ending in a dense layer of logits.
        box: values (N, ...) of the inputs' lower and upper corners.
        y: true classes (N,).
    """
    tf, last = runtime().tf, model.layers[-1]
    hidden = _bounds(model, box, last)
    center, radius = (hidden.upper + hidden.lower) / 2, (hidden.upper - hidden.lower) / 2
    kernel = effective_kernel(last)
    rows = tf.transpose(kernel)[None] - tf.gather(tf.transpose(kernel), y)[:, None]  # (N, classes, features): w_j - w_y
    bias = effective_bias(last)
    shift = 0.0 if bias is None else bias[None] - tf.gather(bias, y)[:, None]
    worst = tf.einsum("ncf,nf->nc", rows, center) + tf.einsum("ncf,nf->nc", tf.abs(rows), radius) + shift
    return -worst


def _bounds(model: Any, box: Interval, last: Any) -> Interval:
    """Bounds of what the layer `last` reads."""
    known: dict[int, Interval] = {id(model.inputs[0]): box}
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        given = [known[id(source)] for source in sources]
        if layer is last:
            return given[0]
        known[id(layer.output)] = _through(layer, given)
    raise ValueError("the layer is not in the model")


def _through(layer: Any, given: list[Interval]) -> Interval:
    kind = type(layer).__name__
    if kind in PRODUCTS:
        return _activated(layer, _product(layer, given[0], PRODUCTS[kind]))
    if kind == "BatchNormalization":
        return _normalized(layer, given[0])
    ends = ([part.lower for part in given], [part.upper for part in given])
    lower, upper = (layer(end if len(end) > 1 else end[0], training=False) for end in ends)
    return Interval(lower, upper)


def _product(layer: Any, given: Interval, multiply: Callable[[Any, Tensor, Tensor], Tensor]) -> Interval:
    """Centre and radius: the kernel's absolute values carry the radius."""
    kernel, bias = effective_kernel(layer), effective_bias(layer)
    center = multiply(layer, (given.upper + given.lower) / 2, kernel)
    radius = multiply(layer, (given.upper - given.lower) / 2, _magnitude(layer, kernel))
    center = center if bias is None else runtime().tf.nn.bias_add(center, bias)
    return Interval(center - radius, center + radius)


def _magnitude(layer: Any, kernel: Tensor) -> Tensor:
    """The kernel's absolute values; a weight that was rounded to zero gets the gradient of its latent weight's.

    |Q(w)| has no slope where Q(w) is zero. So nothing would hold the latent weight there: it would wander to half a
    step, widen every interval by a whole one, and be sent back. With few bits most weights are zero.
    """
    tf, magnitude = runtime().tf, runtime().tf.abs(kernel)
    if not hasattr(layer, "round_kernel"):
        return magnitude
    latent = tf.abs(tf.convert_to_tensor(kernel_of(layer)))
    return magnitude + tf.where(tf.equal(kernel, 0), latent - tf.stop_gradient(latent), tf.zeros_like(latent))


def _activated(layer: Any, found: Interval) -> Interval:
    function = getattr(layer, "activation", None)
    return found if function is None else Interval(function(found.lower), function(found.upper))


def _normalized(layer: Any, given: Interval) -> Interval:
    """The affine map of the moving statistics."""
    tf = runtime().tf
    scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon) * (1.0 if layer.gamma is None else layer.gamma)
    shift = (0.0 if layer.beta is None else layer.beta) - layer.moving_mean * scale
    center, radius = (given.upper + given.lower) / 2, (given.upper - given.lower) / 2
    center, radius = center * scale + shift, radius * tf.abs(scale)
    return Interval(center - radius, center + radius)


def effective_kernel(layer: Any) -> Tensor:
    """The kernel as it multiplies: rounded where the layer rounds."""
    kernel = runtime().tf.convert_to_tensor(kernel_of(layer))
    return layer.round_kernel(kernel) if hasattr(layer, "round_kernel") else kernel


def effective_bias(layer: Any) -> Tensor | None:
    """The bias as it is added; None where there is none."""
    if not layer.use_bias:
        return None
    bias = runtime().tf.convert_to_tensor(layer.bias)
    return layer.round_bias(bias) if hasattr(layer, "round_bias") else bias


def _dense(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    return runtime().tf.linalg.matmul(inputs, kernel)


def _depthwise(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    return runtime().tf.nn.depthwise_conv2d(inputs, kernel, (1, *layer.strides, 1), layer.padding.upper())


#: Keras class -> how its inputs meet its kernel.
PRODUCTS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "Dense": _dense,
    "Conv2D": fast_conv2d,
    "DepthwiseConv2D": _depthwise,
}
