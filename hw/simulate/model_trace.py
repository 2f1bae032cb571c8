"""A Keras model's layers, held against those of hls4ml's graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from qmodels.runtime import runtime


def model_trace(model: Any, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Every layer's output of a Keras model, by layer name, in order."""
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    outputs = runtime().keras.Model(model.input, [layer.output for layer in layers])(x, training=False)
    return {layer.name: output.numpy() for layer, output in zip(layers, outputs, strict=True)}


def layers_of(model_layers: Iterable[str], graph_layers: Sequence[str]) -> dict[str, str]:
    """For each layer of a Keras model the layer of hls4ml's graph that gives its output.

    hls4ml makes several of one: `fc` with a ReLU inside becomes `fc` and `fc_relu`, a separable convolution
    `sep_depthwise` and `sep_pointwise`. The last of them has the output.

    Args:
        model_layers: names in the Keras model.
        graph_layers: names in hls4ml's graph, in its order.
    """
    longest_first = sorted(model_layers, key=len, reverse=True)
    found: dict[str, str] = {}
    for name in graph_layers:
        owner = next((own for own in longest_first if name == own or name.startswith(f"{own}_")), None)
        if owner is not None:
            found[owner] = name
    return found
