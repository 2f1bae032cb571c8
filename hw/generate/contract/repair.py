"""Repairs that keep what a model computes: an input quantizer, power-of-two scales folded, logits for softmax."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.generate.contract.quantizers import weight_quantizers
from hw.generate.contract.rules import contract
from hw.generate.contract.violation import Violation
from hw.generate.contract.weight_values import EXACT_WEIGHTS, WEIGHT_OF, folded_weights
from qmodels.errors import UserError
from qmodels.runtime import runtime
from qmodels.victims import Images

INPUT_QUANTIZER = "quantized_bits(9,0,alpha=1)"


@dataclass(frozen=True)
class Repaired:
    """A model after its repairs, and what was done to it."""

    model: Any
    repairs: tuple[str, ...]
    softmax_stripped: bool


@dataclass(frozen=True)
class OutputChange:
    """How a repaired model's outputs compare with the original's on the same images."""

    images: int
    largest_difference: float
    changed_predictions: int
    compared: str  # outputs, or softmax of the new logits against the old outputs

    def __str__(self) -> str:
        return (
            f"{self.compared}: largest difference {self.largest_difference:g}, {self.changed_predictions} of "
            f"{self.images} predictions changed"
        )


def repair_model(model: Any, backend: str = "Vitis") -> Repaired:
    """A copy of the model with the safe repairs applied; violations without one are left for `check_contract`.

    Raises:
        UserError: the model has several inputs or outputs, a model in it, or a layer that is called twice.
    """
    told = contract(model, backend)
    blocking = [violation for violation in told if violation.blocks_repair]
    if blocking:
        raise UserError("no repair for such a model: " + "\n  - ".join(map(str, blocking)))
    found = [violation for violation in told if violation.repair is not None]
    architecture = json.loads(model.to_json())
    layers = {layer.name: layer for layer in model.layers}
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    done = []
    for violation in found:
        if violation.repair == "fold":
            done.append(_fold(architecture, weights, layers[violation.layer], violation))
        elif violation.repair == "softmax":
            done.append(_strip_softmax(architecture, violation.layer))
        else:
            done.append(_insert_input(architecture, set(layers)))
    custom: dict[str, Any] = {}
    runtime().qkeras.utils._add_supported_quantized_objects(custom)
    repaired = runtime().keras.models.model_from_json(json.dumps(architecture), custom_objects=custom)
    for layer in repaired.layers:
        if layer.name in weights:
            layer.set_weights(weights[layer.name])
    return Repaired(repaired, tuple(done), any(violation.repair == "softmax" for violation in found))


def output_change(original: Any, repaired: Repaired, images: Images) -> OutputChange:
    """Compare outputs; where a softmax was stripped, the softmax of the new logits with the old probabilities."""
    before = original.predict(images, batch_size=500, verbose=0)
    after = repaired.model.predict(images, batch_size=500, verbose=0)
    compared = "outputs"
    changed = int(np.sum(before.argmax(axis=1) != after.argmax(axis=1)))
    if repaired.softmax_stripped:
        exponentials = np.exp(after.astype(np.float64) - after.max(axis=1, keepdims=True))
        after, compared = exponentials / exponentials.sum(axis=1, keepdims=True), "softmax of the new logits"
    return OutputChange(len(images), float(np.max(np.abs(before - after), initial=0.0)), changed, compared)


def _fold(architecture: dict[str, Any], weights: dict[str, list[Any]], layer: Any, violation: Violation) -> str:
    setting = violation.setting.partition(".")[0]
    quantizer = weight_quantizers(layer)[setting]
    folded = folded_weights(layer, setting, quantizer)
    assert folded is not None  # else it would not be marked as repairable
    values, grid = folded
    text = f"quantized_bits({grid.width},{grid.integer - 1},alpha=1)"
    _layer_config(architecture, layer.name)["config"][setting] = text
    variable = getattr(layer, WEIGHT_OF[setting])
    place = next(i for i, weight in enumerate(layer.weights) if weight is variable)
    weights[layer.name][place] = values
    kind = type(quantizer).__name__
    how = f"alpha={quantizer.alpha!r}" if kind in EXACT_WEIGHTS else kind
    return f"layer {layer.name!r}: {setting} {how} folded into the weights, now {text}"


def _strip_softmax(architecture: dict[str, Any], name: str) -> str:
    entry, config = _layer_config(architecture, name), architecture["config"]
    if entry["class_name"] not in ("Softmax", "Activation", "QActivation"):
        entry["config"]["activation"] = "linear"
        return f"layer {name!r}: softmax stripped, the model ends in logits"
    if "output_layers" in config:
        (source, node, tensor, *_), *_ = _inbound(entry)
        config["output_layers"] = [[source, node, tensor]]
    config["layers"].remove(entry)
    return f"layer {name!r}: removed, the model ends in logits"


def _insert_input(architecture: dict[str, Any], taken: set[str]) -> str:
    config = architecture["config"]
    name = next(candidate for candidate in ("input_grid", "input_grid_2", "input_grid_3") if candidate not in taken)
    layer: dict[str, Any] = {
        "class_name": "QActivation",
        "config": {"name": name, "activation": INPUT_QUANTIZER},
        "name": name,
    }
    first = next(i for i, entry in enumerate(config["layers"]) if entry["class_name"] == "InputLayer")
    if "input_layers" in config:
        source = config["input_layers"][0][0]
        for entry in config["layers"]:
            for inbound in _inbound(entry):
                if inbound[0] == source:
                    inbound[0] = name
        first = next(i for i, entry in enumerate(config["layers"]) if entry["config"]["name"] == source)
        layer["inbound_nodes"] = [[[source, 0, 0, {}]]]
    config["layers"].insert(first + 1, layer)
    return f"layer {name!r}: inserted, QActivation({INPUT_QUANTIZER}) rounds the input"


def _layer_config(architecture: dict[str, Any], name: str) -> dict[str, Any]:
    entry: dict[str, Any] = next(e for e in architecture["config"]["layers"] if e["config"]["name"] == name)
    return entry


def _inbound(entry: dict[str, Any]) -> Sequence[list[Any]]:
    """The tensors a layer takes, in tf_keras' notation: [layer, node, tensor, arguments]."""
    return [tensor for node in entry.get("inbound_nodes", []) for tensor in node]
