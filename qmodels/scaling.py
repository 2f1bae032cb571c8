"""Layers of a model that only scale its inputs: Rescaling, Normalization, batch normalization of the input.

They are no business of the accelerator: what they do to a number is done before the device reads it. What is left of
the model takes (number - offset) / divisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import frexp, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.affine import Affine
from qmodels.layers import calls_of
from qmodels.loading.flat import leave_out

FloatArray = NDArray[np.float64]
NORMS = ("BatchNormalization", "QBatchNormalization")
#: Layers that scale their input, feature by feature.
SCALING = ("Rescaling", "Normalization", *NORMS)
#: Behind the input these give what they get, or zeros; a factor goes through them.
_PASSING = (
    *("Flatten", "Reshape", "Permute", "Dropout", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D"),
    *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
)
#: Float layers whose first weight multiplies what they read.
_LINEAR = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")


@dataclass(frozen=True)
class Unscaled:
    """A model without the layers that scale its inputs, what they did to each input, and the same in words."""

    model: Any
    scalings: tuple[Affine | None, ...] = ()
    told: str = ""


def take_off_scaling(model: Any) -> Unscaled:
    """Take off the layers that scale a model's inputs; the model itself where there are none.

    Of a float model a factor is split: the power of two next to it stays one, the rest goes into the first weights.
    So that pixels k / 255 are read as k / 256, and the first kernel is 256/255 as large.

    Args:
        model: Keras or QKeras, functional or sequential; every layer is called once.
    """
    found, scalings = scaling_layers(model), scalings_of(model)
    if not any(found.values()):
        return Unscaled(model)
    rest = leave_out(model, [layer.name for layers in found.values() for layer in layers])
    told = []
    for place, (name, layers) in enumerate(found.items()):
        scaling = scalings[place]
        if scaling is None:
            continue
        split = _split(rest, place, scaling)
        what = ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in layers)
        told.append(f"input {name!r}: {what} taken off, your numbers are {split or scaling} before the device")
        if split is not None:
            told[-1] += f", and the first weights by {float(scaling.divisor[0] / split.divisor[0]):g}"
            scalings[place] = split
    return Unscaled(rest, tuple(scalings), "; ".join(told))


def scalings_of(model: Any) -> list[Affine | None]:
    """What the layers that scale an input do to it, for every input."""
    found = scaling_layers(model)
    return [_of_layers(layers, image) for layers, image in zip(found.values(), model.inputs, strict=True)]


def scaling_layers(model: Any) -> dict[str, list[Any]]:
    """The layers that only scale an input, from it on, by the input's name."""
    calls = calls_of(model)
    found: dict[str, list[Any]] = {}
    for name, image in zip(model.input_names, model.inputs, strict=True):
        tensor, layers = image, list[Any]()
        while (layer := _only_reader(model, calls, tensor)) is not None and _is_scaling(layer, image):
            layers.append(layer)
            tensor = layer.output
        found[name] = layers
    return found


def _only_reader(model: Any, calls: Mapping[str, list[Any]], tensor: Any) -> Any | None:
    """The one layer that takes a tensor, and nothing else; None where several do, or the model ends there."""
    readers = [
        layer
        for layer in model.layers
        if any(taken is tensor for call in calls[layer.name] for taken in call.keras_inputs)
        and type(layer).__name__ != "InputLayer"
    ]
    if len(readers) != 1 or len(calls[readers[0].name]) != 1:
        return None
    ends = any(end is output for end in (tensor, readers[0].output) for output in model.outputs)
    return None if ends else readers[0]


def _is_scaling(layer: Any, image: Any) -> bool:
    return type(layer).__name__ in SCALING and _of_layer(layer, int(image.shape[-1] or 0)) is not None


def _of_layers(layers: list[Any], image: Any) -> Affine | None:
    """What a chain of layers does to an input; None where there is none."""
    result: Affine | None = None
    for layer in layers:
        own = _of_layer(layer, int(image.shape[-1]))
        assert own is not None  # else it would not be in the chain
        result = own if result is None else own.behind(result)
    return result


def _of_layer(layer: Any, features: int) -> Affine | None:
    """What one layer does; None where that differs within a feature, or turns it round, or loses it."""
    kind = type(layer).__name__
    factor: Any
    if kind == "Rescaling":
        factor, added = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    elif kind == "Normalization":
        mean, variance = _normalization(layer)
        deviation = np.maximum(np.sqrt(variance), 1e-7)
        factor, added = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    else:
        if list(layer.axis) != [len(layer.input_shape) - 1]:
            return None
        factor, added = batch_norm_of(layer)
    try:
        factor, added = (np.broadcast_to(np.squeeze(part), (features,)) for part in (factor, added))
    except ValueError:  # other axes than the last
        return None
    if not (np.isfinite(factor).all() and np.isfinite(added).all() and np.all(factor > 0)):
        return None
    return Affine(-added / factor, 1 / factor)


def _normalization(layer: Any) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of a Normalization: given, or adapted to data."""
    given = layer.input_mean is not None
    parts = (layer.mean, layer.variance) if given else (layer.adapt_mean, layer.adapt_variance)
    mean, variance = (np.asarray(part, np.float64) for part in parts)
    return mean, variance


def batch_norm_of(norm: Any) -> tuple[FloatArray, FloatArray]:
    """Factor and summand of every channel of a trained (Q)BatchNormalization."""
    gamma, beta, mean, variance = (
        _rounded(norm, name, default)
        for name, default in (("gamma", 1.0), ("beta", 0.0), ("moving_mean", 0.0), ("moving_variance", 1.0))
    )
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return factor, beta - mean * factor


def _rounded(norm: Any, name: str, default: float) -> FloatArray:
    """One of its weights, as its quantizer in QKeras leaves it."""
    variable = getattr(norm, name, None)
    if variable is None:
        return np.full(norm.input_shape[-1], default)
    quantizer = getattr(norm, f"{name.removeprefix('moving_')}_quantizer_internal", None)
    return np.asarray(variable if quantizer is None else quantizer(variable), np.float64)


def _split(model: Any, place: int, scaling: Affine) -> Affine | None:
    """Only a power of two of a factor, the rest multiplied into `model`'s first weights; None where that cannot be."""
    number = scaling.number
    if number is None or frexp(number)[0] == 0.5:
        return None
    first = _first_weights(model, model.inputs[place])
    if not first or None in first:
        return None
    power = 2.0 ** round(log2(number))
    assert power / sqrt(2) <= number <= power * sqrt(2)
    for layer in first:
        kernel, *others = layer.get_weights()
        layer.set_weights([(kernel * (power / number)).astype(np.float32), *others])
    return Affine(scaling.offset, np.full_like(scaling.divisor, power))


def _first_weights(model: Any, tensor: Any) -> list[Any]:
    """The float layers whose weights multiply an input; None among them where something else reads it."""
    calls, found = calls_of(model), list[Any]()
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer" or not any(t is tensor for call in calls[layer.name] for t in call.keras_inputs):
            continue
        through = kind in _PASSING or (kind == "Activation" and layer.activation.__name__ == "linear")
        found += _first_weights(model, layer.output) if through else [layer if kind in _LINEAR else None]
    return found
