"""Batch-norm folding: y = gamma (Wx + b - mean) / sqrt(variance + epsilon) + beta is one layer W'x + b'.

Source: Jacob et al. (arXiv:1712.05877), section 3.2. A factor that is no fixed-point number would never be exact in
hardware, so it goes into the weights before they are rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.layers import WEIGHTED, weighted_layers
from qmodels.runtime import runtime

Array = NDArray[np.float64]


def fold_batch_norm(model: Any) -> Any:
    """A model without batch normalization that computes the same, up to float32 rounding.

    Every layer but the batch normalizations keeps its name; the layers that took one in now have a bias.

    Args:
        model: float Keras model, functional or sequential. Without batch normalization it is given back as it is.

    Raises:
        UserError: a batch normalization does not directly follow a layer of its own with weights.
    """
    partners = foldable_norms(model)
    if not partners:
        return model
    folded = _rebuild(model, partners)
    norms = {weighted: model.get_layer(norm) for norm, weighted in partners.items()}
    for layer in weighted_layers(model):
        weights = layer.get_weights()
        if layer.name in norms:
            weights = _folded_weights(layer, norms[layer.name])
        folded.get_layer(layer.name).set_weights(weights)
    return folded


def foldable_norms(model: Any) -> dict[str, str]:
    """Name of every batch normalization -> name of the layer that takes it in.

    Raises:
        UserError: one cannot be taken in, or the model uses a layer twice.
    """
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    return {norm.name: _partner(model, norm) for norm in norms}


def _partner(model: Any, norm: Any) -> str:
    computing = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    before = next((layer for layer in computing if layer.output is norm.input), None)
    reason = _obstacle(computing, norm, before)
    if before is None or reason:
        raise UserError(
            f"model {model.name}: layer {norm.name!r} (BatchNormalization) cannot be folded: {reason}; put it directly "
            f"behind one of {', '.join(WEIGHTED)} without activation"
        )
    return str(before.name)


def _obstacle(layers: list[Any], norm: Any, before: Any | None) -> str:
    """Why a batch normalization cannot go into the layer before it; empty: it can."""
    if before is None:
        return "it follows the input"
    kind = type(before).__name__
    activation = getattr(getattr(before, "activation", None), "__name__", "linear")
    if kind not in WEIGHTED or activation != "linear":
        return f"it follows {kind}" + (f" with activation {activation}" if activation != "linear" else "")
    if list(norm.axis) != [len(norm.input.shape) - 1]:
        return "it does not normalise the last axis"
    readers = [layer for layer in layers if any(norm.input is source for source in _sources(layer))]
    return "" if len(readers) == 1 else f"the output of {before.name!r} is used elsewhere too"


def _rebuild(model: Any, partners: dict[str, str]) -> Any:
    """The same graph without the batch normalizations, not trained yet."""
    keras = runtime().keras
    images = [
        keras.Input(image.shape[1:], name=name) for name, image in zip(model.input_names, model.inputs, strict=True)
    ]
    made: dict[int, Any] = {id(image): fresh for image, fresh in zip(model.inputs, images, strict=True)}
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        sources = [made[id(source)] for source in _sources(layer)]
        if layer.name in partners:
            made[id(layer.output)] = sources[0]
            continue
        config = layer.get_config() | ({"use_bias": True} if layer.name in partners.values() else {})
        made[id(layer.output)] = type(layer).from_config(config)(sources if len(sources) > 1 else sources[0])
    return keras.Model(images, made[id(model.output)], name=model.name)


def _sources(layer: Any) -> list[Any]:
    try:
        return layer.input if isinstance(layer.input, list) else [layer.input]
    except AttributeError:  # several inbound nodes
        raise UserError(f"layer {layer.name!r} is used more than once; use a separate layer each time") from None


def _folded_weights(layer: Any, norm: Any) -> list[NDArray[np.float32]]:
    """W' and b', in the layer's own shapes."""
    kernel: Array = layer.get_weights()[0].astype(np.float64)
    channels = int(layer.output.shape[-1])
    values = dict(zip((weight.name.rpartition("/")[2] for weight in norm.weights), norm.get_weights(), strict=True))
    values = {name.partition(":")[0]: value.astype(np.float64) for name, value in values.items()}
    scale = values.get("gamma", np.ones(channels)) / np.sqrt(values["moving_variance"] + norm.epsilon)
    bias = layer.get_weights()[1].astype(np.float64) if layer.use_bias else np.zeros(channels)
    bias = (bias - values["moving_mean"]) * scale + values.get("beta", np.zeros(channels))
    # a depthwise kernel is (height, width, channels, multiplier): its outputs are the last two axes
    outputs = kernel.shape[2:] if type(layer).__name__ == "DepthwiseConv2D" else kernel.shape[-1:]
    return [(kernel * scale.reshape(outputs)).astype(np.float32), bias.astype(np.float32)]
