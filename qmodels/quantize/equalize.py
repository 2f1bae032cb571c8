"""Channels that reach the next layer with weights of one size: what a few levels need.

ReLU and pooling pass a positive factor on. So a channel's weights can be divided by a factor, and the weights that read
it multiplied by the same one, and the network computes what it did. An output channel has a step of its own; the
weights of one output channel that read different inputs share it. So it is the inputs that must be of one size.

Source: Nagel et al. 2019 (arXiv:1906.04721), section 4.1. Ours: factors are powers of two, so that nothing is rounded,
and only the reading side is evened out, since the other side has steps per channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.layers import calls_of, kernel_of, readers_of, weighted_layers

#: Layers that pass a positive factor of a channel on, and keep channels apart.
_PASSING = (
    *("ReLU", "Flatten", "Dropout", "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D"),
)
_MIXING = ("Dense", "Conv1D", "Conv2D")


def equalize(model: Any) -> list[tuple[str, str]]:
    """Rescale a float model's channels in place; its outputs stay the same, but for numbers too small for float32.

    The weights that read a channel are measured as they come in: what a layer's own output channels are divided by
    afterwards goes into their steps.

    Args:
        model: float Keras model without batch normalization.

    Returns:
        The names of the layers that were rescaled, each with the layer that reads it.
    """
    pairs = list(_pairs(model))
    factors = [_factors(np.abs(_reads(source, reader)).max(axis=(0, 2))) for source, reader in pairs]
    for (source, reader), factor in zip(pairs, factors, strict=True):
        kernel_of(source).assign(kernel_of(source).numpy() * factor)
        if source.use_bias:
            source.bias.assign(source.bias.numpy() * factor)
        kernel_of(reader).assign((_reads(source, reader) / factor[:, None]).reshape(kernel_of(reader).shape))
    return [(source.name, reader.name) for source, reader in pairs]


def _reads(source: Any, reader: Any) -> NDArray[np.float32]:
    """The reader's kernel (places, channels of the source, outputs); a flattened picture has its channels last."""
    kernel: NDArray[np.float32] = kernel_of(reader).numpy()
    return kernel.reshape(-1, int(kernel_of(source).shape[-1]), kernel.shape[-1])


def _factors(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Powers of two that bring every entry between the largest one's power of two and twice that; 1 for zero."""
    exponents = np.frexp(largest)[1]
    if not largest.any():
        return np.ones_like(largest)
    apart = np.where(largest > 0, exponents - exponents[largest > 0].max(), 0)
    return np.ldexp(np.float32(1), apart)


def _pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Layers with weights, and the one layer with weights that alone reads what they give."""
    calls = calls_of(model)
    for source in weighted_layers(model):
        if (
            type(source).__name__ in _MIXING
            and _is_passing(source, ("linear", "relu"))
            and len(calls[source.name]) == 1
        ):
            reader = _reader(model, calls, source)
            if reader is not None and reader is not source:
                yield source, reader


def _reader(model: Any, calls: dict[str, list[Any]], source: Any) -> Any | None:
    """Behind any number of layers that pass factors on; None where something else comes."""
    now = source
    while True:
        value = calls[now.name][0].output_tensors
        readers = readers_of(model, value)
        if len(readers) != 1 or any(value is output for output in model.outputs) or len(calls[readers[0].name]) != 1:
            return None
        now = readers[0]
        kind = type(now).__name__
        if kind in _MIXING:
            return now if getattr(now, "groups", 1) == 1 else None
        if kind not in _PASSING and not (kind == "Activation" and _is_passing(now, ("relu", "linear"))):
            return None
        if kind == "ReLU" and (now.max_value is not None or now.threshold):
            return None


def _is_passing(layer: Any, allowed: tuple[str, ...]) -> bool:
    return getattr(layer.activation, "__name__", "") in allowed
