"""One gradient model for every design of a structure: weights and activation formats are swapped, nothing retraced.

Tracing the attacks' loops costs seconds a model, running them a fraction of one. Designs of one network differ in
weights and in the formats of their activations; here both are variables of one Keras model with the prequantized
model's bits (`qmodels/quantize/prequantized.py`) and gradients. Every design is held against its
accelerator before it is attacked.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.quantize.many import Rounded
from qmodels.quantize.prequantized import prequantize, relu_format, relu_grid, relu_on_grid
from qmodels.runtime import runtime
from qmodels.victims import GradientModel

Tensor = Any


class GradientModels:
    """The models of a worker, one a structure."""

    def __init__(self) -> None:
        self._models: dict[str, GradientModel] = {}

    def load(self, state: GradientState) -> GradientModel:
        """The model of the state's structure, with the state's weights and formats in it."""
        if not state.swappable:
            return GradientModel(state.prequantized, state.grid)
        if state.structure not in self._models:
            self._models[state.structure] = GradientModel(_build(state), state.grid)
        source = self._models[state.structure]
        for layer, weights in zip(source.model.layers, state.weights, strict=True):
            layer.set_weights(weights)
        state.prequantized = None  # arrays are all that is needed from now on
        return source


class GradientState:
    """What makes one design's gradient model: the structure's name, weights layer by layer, formats of ReLUs."""

    def __init__(self, quantized: Any, grid: InputGrid = IMAGE_GRID) -> None:
        """From the QKeras model."""
        self.grid = grid
        self.prequantized: Any | None = prequantize(quantized)
        self._relus = {layer.name: _relu_format(layer) for layer in quantized.layers}
        grids = {layer.name: str(layer.quantizer) for layer in quantized.layers if hasattr(layer, "quantizer")}
        kept = [self._describe(layer) for layer in self.prequantized.layers]
        self.swappable = all(item is not None for item in kept)
        named = [
            kept,
            [grids[name] for name in grids if self._relus[name] is None],
            list(self.prequantized.input_shape),
        ]
        self.structure = json.dumps(named, sort_keys=True, default=str)
        self._names = [str(layer.name) for layer in self.prequantized.layers]
        self.weights = [self._weights_of(layer) for layer in self.prequantized.layers]

    def swapped(self, rounded: Rounded) -> GradientState:
        """The state of another quantization of the same float model."""
        assert self.swappable
        other = copy.copy(self)
        other.prequantized = self.prequantized
        other._relus = self._relus | {name: (fmt.width, fmt.integer) for name, fmt in rounded.relus.items()}
        other.weights = [
            _new_weights(name, before, rounded, other._relus)
            for name, before in zip(self._names, self.weights, strict=True)
        ]
        return other

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(int(array.nbytes) for layer in self.weights for array in layer)

    def relu_format(self, name: str) -> tuple[int, int] | None:
        """(bits, integer bits) of a rounded ReLU."""
        return self._relus[name]

    def _describe(self, layer: Any) -> Any:
        """What must agree between designs; None: this layer cannot be swapped."""
        if type(layer).__name__ == "Activation":  # its function has no config
            return ["Activation", layer.name, self._relus[layer.name] is not None]
        activation = getattr(layer, "activation", None)
        if callable(activation) and getattr(activation, "__name__", "") != "linear":
            return None
        shapes = [list(weights.shape) for weights in layer.get_weights()]
        config = {key: value for key, value in layer.get_config().items() if key not in ("dtype", "activation")}
        return [type(layer).__name__, config, shapes]

    def _weights_of(self, layer: Any) -> list[Any]:
        found = self._relus[layer.name]
        if found is None:
            return list(layer.get_weights())
        return [np.array(relu_grid(*found), np.float32)]


def _new_weights(
    name: str, before: list[Any], rounded: Rounded, relus: Mapping[str, tuple[int, int] | None]
) -> list[Any]:
    if name in rounded.layers:
        layer = rounded.layers[name]
        return [layer.kernel, *([] if layer.bias is None else [layer.bias])]
    found = relus[name]
    return before if found is None else [np.array(relu_grid(*found), np.float32)]


def _relu_format(layer: Any) -> tuple[int, int] | None:
    """(bits, integer bits) of a layer that is nothing but a rounded ReLU."""
    return relu_format(layer.quantizer) if type(layer).__name__ == "QActivation" else None


def _build(state: GradientState) -> Any:
    """A model of the structure, weights to come."""
    assert state.prequantized is not None
    keras = runtime().keras

    def twin(layer: Any) -> Any:
        if state.relu_format(layer.name) is not None:
            return _swappable_relu()(name=layer.name)
        if type(layer).__name__ == "Activation":
            return keras.layers.Activation(layer.activation, name=layer.name)
        return type(layer).from_config(layer.get_config())

    model = keras.models.clone_model(state.prequantized, clone_function=twin)
    model.trainable = False
    return model


@lru_cache(maxsize=1)
def _swappable_relu() -> Any:
    """A rounded ReLU whose step, 1/step and top are variables."""
    tf, keras = runtime().tf, runtime().keras

    class SwappableReLU(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def build(self, input_shape: Any) -> None:
            self.grid = self.add_weight(name="grid", shape=(3,), initializer="ones", trainable=False)
            super().build(input_shape)

        def call(self, inputs: Tensor) -> Tensor:
            grid = tf.convert_to_tensor(self.grid)
            return relu_on_grid(inputs, grid[0], grid[1], grid[2])

    return SwappableReLU
