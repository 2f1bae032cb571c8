"""Many quantizations of one float model, without a QKeras model for each: rounded weights and formats only.

The same functions as `quantize_model`, on layers and on one calibration model that are kept. A layer's weights depend
on its own settings alone; a ReLU's format on the layers before it: what two quantizations share is computed once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.digest import digest
from qmodels.formats import FixedPoint
from qmodels.grid import Values
from qmodels.layers import kernel_of, weighted_layers
from qmodels.metrics.lipschitz import reshaped_norms
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.quantize.model import (
    LayerFormats,
    Probe,
    QuantizationConfig,
    check_layers,
    check_quantizable,
    relu_formats,
    relu_probes,
    round_layer,
)
from qmodels.runtime import copy_model


@dataclass(frozen=True, eq=False)
class RoundedLayer:
    """One layer's weights after rounding."""

    key: Hashable  # the settings that decide
    digest: str  # of kernel and bias
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    formats: LayerFormats
    delta_w: float  # reshaped ||Q(W) - W||_2


@dataclass(frozen=True, eq=False)
class Rounded:
    """One quantization: weights by layer, formats by ReLU."""

    layers: dict[str, RoundedLayer]
    relus: dict[str, FixedPoint]


class ManyQuantizations:
    """Quantizations of one float model."""

    def __init__(self, float_model: Any, calibration: Values) -> None:
        """Take a model.

        Args:
            float_model: as for `quantize_model`; it is left as it is.
            calibration: values (N, ...) of training inputs.

        Raises:
            UserError: a layer has no quantized twin.
        """
        check_quantizable(float_model)
        self._float = fold_batch_norm(float_model)
        self._rounded = copy_model(self._float)
        self._calibration = calibration
        self._layers: dict[Hashable, RoundedLayer] = {}
        self._formats: dict[Hashable, FixedPoint] = {}
        self._probes: dict[int, list[tuple[tuple[str, ...], Probe]]] = {}
        self._weighted = {layer.name: layer for layer in weighted_layers(self._float)}
        self._before = {name: _upstream(self._float, name) for names, _ in self._probe(1) for name in names}

    def round(self, config: QuantizationConfig) -> Rounded:
        """Weights and formats of one quantization.

        Raises:
            UserError: the config names a layer that is not there.
        """
        check_layers(self._float, config)
        layers = {name: self._round(name, config) for name in self._weighted}
        keys = {name: self._relu_key(name, layers, config) for name in self._before}
        if any(key not in self._formats for key in keys.values()):
            self._calibrate(layers, keys, config)
        return Rounded(layers, {name: self._formats[key] for name, key in keys.items()})

    def _round(self, name: str, config: QuantizationConfig) -> RoundedLayer:
        key = config.of_layer(name), config.bias_bits
        if (name, key) not in self._layers:
            own, twin = self._weighted[name], self._rounded.get_layer(name)
            twin.set_weights(own.get_weights())
            formats = round_layer(twin, config)
            kernel, bias = kernel_of(twin).numpy(), twin.bias.numpy() if own.use_bias else None
            difference = kernel.astype(np.float64) - kernel_of(own).numpy().astype(np.float64)
            norm = reshaped_norms(own, difference).two
            told = digest(kernel, *([] if bias is None else [bias]))
            self._layers[name, key] = RoundedLayer(key, told, kernel, bias, formats, norm)
        return self._layers[name, key]

    def _relu_key(self, name: str, layers: dict[str, RoundedLayer], config: QuantizationConfig) -> Hashable:
        before = tuple(layers[layer].key for layer in self._before[name])
        return name, before, config.of_activation(name), config.clip, config.calibration_samples

    def _calibrate(
        self, layers: dict[str, RoundedLayer], keys: dict[str, Hashable], config: QuantizationConfig
    ) -> None:
        for name, layer in layers.items():
            self._rounded.get_layer(name).set_weights([layer.kernel, *([] if layer.bias is None else [layer.bias])])
        images = self._calibration[: config.calibration_samples]
        for names, probe in self._probe(len(images)):
            if all(keys[name] in self._formats for name in names):
                continue
            for name, values in zip(names, probe(images), strict=True):
                if keys[name] not in self._formats:
                    fmt = relu_formats(name, values, config).activation
                    assert fmt is not None
                    self._formats[keys[name]] = fmt

    def _probe(self, count: int) -> list[tuple[tuple[str, ...], Probe]]:
        if count not in self._probes:
            self._probes[count] = list(relu_probes(self._rounded, count))
        return self._probes[count]


def _upstream(model: Any, name: str) -> tuple[str, ...]:
    """The layers with weights that a layer's value depends on, in the model's order."""
    found, waiting = set(), [model.get_layer(name)]
    while waiting:
        layer = waiting.pop()
        if layer.name not in found:
            found.add(layer.name)
            for node in layer.inbound_nodes:
                waiting += [parent.layer for parent in node.parent_nodes]
    return tuple(layer.name for layer in weighted_layers(model) if layer.name in found)
