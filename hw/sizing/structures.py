"""Designs without a conversion each: one hls4ml graph and one gradient model for every structure.

A structure is a network's layers with what it is generated for; its designs differ in weights and formats. The first
design of a structure is converted as the flow does it, and so is a second one with other bits: swapping the first
one's graph to the second one's weights must give the second graph, or every design of the structure is converted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw.accelerator import Accelerator
from hw.cost import estimate_cost
from hw.experiment.config import RunConfig
from hw.generate.swap import LayerWeights, SwappableGraph
from hw.sizing.gradients import GradientState
from qmodels.data import Dataset
from qmodels.digest import digest_of
from qmodels.errors import UserError
from qmodels.layers import is_quantized
from qmodels.loading import load_model
from qmodels.quantize.many import ManyQuantizations, Rounded
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.mulaw import map_weights

MODEL = "model.keras"  # the training step's file
_KEEP_MODELS = 6  # mapped models a worker keeps


@dataclass(frozen=True, eq=False)
class Mapped:
    """A trained and mapped float model, and its quantizations so far."""

    model: Any
    architecture: str
    many: ManyQuantizations


@dataclass(frozen=True, eq=False)
class Structure:
    """What its designs share."""

    graph: SwappableGraph
    gradients: GradientState

    def put(self, rounded: Rounded) -> None:
        """Make the graph that of one design."""
        weights = {name: LayerWeights(layer.digest, layer.kernel, layer.bias) for name, layer in rounded.layers.items()}
        self.graph.put(weights, rounded.relus)


class Structures:
    """Of one worker."""

    def __init__(self) -> None:
        self._mapped: dict[str, Mapped] = {}
        self._known: dict[str, Structure | None] = {}

    def mapped(self, config: RunConfig, name: str, files: Mapping[str, bytes], data: Dataset) -> Mapped:
        """The float model of a training after the config's mapping; `name` tells trainings apart."""
        key = digest_of([name, config.mapping.model_dump(mode="json")])
        found = self._mapped.pop(key, None)
        if found is None:
            with tempfile.TemporaryDirectory(prefix="robust-hls-size-") as folder:
                path = Path(folder) / MODEL
                path.write_bytes(files[MODEL])
                model = map_weights(load_model(path), config.mapping)[0]
            found = Mapped(model, digest_of(model.to_json()), ManyQuantizations(model, data.train.values))
        self._mapped[key] = found
        while len(self._mapped) > _KEEP_MODELS:
            del self._mapped[next(iter(self._mapped))]
        return found

    def of(self, config: RunConfig, mapped: Mapped, data: Dataset) -> Structure | None:
        """The structure of a design; None where each of its designs must be converted."""
        hardware = config.hardware.model_dump(mode="json")
        key = digest_of([mapped.architecture, hardware, repr(data.grid), list(data.input_shape)])
        if key not in self._known:
            self._known[key] = _structure(config, mapped, data)
        return self._known[key]


def can_share(config: RunConfig, files: Mapping[str, bytes]) -> bool:
    """Whether a design's weights and formats follow from a float model alone, and bitsim stands for it."""
    return (
        MODEL in files
        and "latent.keras" not in files
        and config.quantization.layerwise is None
        and config.simulation.engine == "bitsim"
        and config.exactness in ("auto", "required")
        and not config.hardware.hls4ml_types
    )


def _structure(config: RunConfig, mapped: Mapped, data: Dataset) -> Structure | None:
    """Convert two designs, and hold the first one's graph with the second one's weights against the second graph."""
    if is_quantized(mapped.model):
        return None
    first, second = config.quantization, _other(config.quantization)
    try:
        model, accelerator = _converted(config, mapped, first, data)
        structure = Structure(
            SwappableGraph(accelerator.graph, model, config.hardware), GradientState(model, data.grid)
        )
        for quantization in (first, second):
            structure.put(mapped.many.round(quantization))
    except UserError:
        return None
    differing = differences(structure.graph.graph, _converted(config, mapped, second, data)[1].graph)
    return None if differing or not structure.gradients.swappable else structure


def _other(quantization: QuantizationConfig) -> QuantizationConfig:
    """Other bits everywhere."""
    bits = 5 if quantization.weight_bits != 5 else 3
    activations = 7 if quantization.activation_bits != 7 else 5
    changed = {"method": "uniform", "weight_bits": bits, "activation_bits": activations, "layers": {}}
    return quantization.model_copy(update=changed)


def _converted(
    config: RunConfig, mapped: Mapped, quantization: QuantizationConfig, data: Dataset
) -> tuple[Any, Accelerator]:
    values = data.train.take(quantization.calibration_samples).values
    model = quantize_model(mapped.model, quantization, values, grid=data.grid).model
    return model, Accelerator(model, config.hardware, grid=data.grid, threads=1)


def differences(one: Any, other: Any) -> list[str]:
    """Layers in which two hls4ml graphs of one structure compute or cost something else."""
    pairs = zip(one.get_layers(), other.get_layers(), strict=True)
    found = [a.name for a, b in pairs if _described(a) != _described(b) or not _same_weights(a, b)]
    return found or (["cost"] if estimate_cost(one) != estimate_cost(other) else [])


def _described(node: Any) -> list[str]:
    variables = sorted((name, str(variable.type.precision)) for name, variable in node.variables.items())
    weights = sorted((name, str(weight.type.precision)) for name, weight in node.weights.items())
    accumulator = node.get_attr("accum_t")
    return [node.class_name, repr(variables), repr(weights), str(accumulator and accumulator.precision)]


def _same_weights(one: Any, other: Any) -> bool:
    return all(np.array_equal(weight.data, other.weights[name].data) for name, weight in one.weights.items())
