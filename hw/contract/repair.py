"""Repairs that keep what a model computes: an input quantizer, power-of-two scales folded, logits for softmax."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.contract.rules import EXACT_WEIGHTS, FOLDABLE, Violation, violations, weight_quantizers
from qmodels.formats import FixedPoint
from qmodels.runtime import runtime
from qmodels.victims import Images

#: float32's mantissa: TensorFlow computes wider weights with rounding.
MAX_BITS = 24
INPUT_QUANTIZER = "quantized_bits(9,0,alpha=1)"
_WEIGHT_OF = {
    "kernel_quantizer": "kernel",
    "depthwise_quantizer": "depthwise_kernel",
    "pointwise_quantizer": "pointwise_kernel",
    "bias_quantizer": "bias",
}


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
    """A copy of the model with the safe repairs applied; violations without one are left for `check_contract`."""
    found = [violation for violation in violations(model, backend) if violation.repair is not None]
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


def folded_weights(layer: Any, setting: str, quantizer: Any) -> tuple[NDArray[Any], FixedPoint] | None:
    """The values a weight has after its quantizer, and the narrowest grid that holds them all.

    None when the quantizer is not known, or the values lie on no grid of at most 24 bits (a float scale).
    """
    if type(quantizer).__name__ not in FOLDABLE or getattr(quantizer, "use_stochastic_rounding", False):
        return None
    values = np.asarray(quantizer(getattr(layer, _WEIGHT_OF[setting])).numpy(), np.float64)
    grid = covering_grid(values)
    return (values.astype(np.float32), grid) if grid is not None else None


def covering_grid(values: NDArray[Any], limit: int = MAX_BITS) -> FixedPoint | None:
    """The narrowest signed grid with at least one integer bit on which all values lie; None beyond `limit` bits."""
    if not np.isfinite(values).all():
        return None
    fraction = 0
    while np.any(np.rint(values * 2.0**fraction) != values * 2.0**fraction):
        fraction += 1
        if fraction > limit:
            return None
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    integer = max(_integer_bits(high + 2.0**-fraction), _integer_bits(-low), 0)
    width = max(integer + fraction + 1, 2)
    return FixedPoint(width, integer + 1) if width <= limit else None


def _integer_bits(magnitude: float) -> int:
    """Smallest i with magnitude <= 2**i; 0 for what is not positive."""
    if magnitude <= 0:
        return 0
    mantissa, exponent = frexp(magnitude)
    return ceil(exponent - 1 if mantissa == 0.5 else exponent)


def _fold(architecture: dict[str, Any], weights: dict[str, list[Any]], layer: Any, violation: Violation) -> str:
    setting = violation.setting.partition(".")[0]
    quantizer = weight_quantizers(layer)[setting]
    folded = folded_weights(layer, setting, quantizer)
    assert folded is not None  # else it would not be marked as repairable
    values, grid = folded
    text = f"quantized_bits({grid.width},{grid.integer - 1},alpha=1)"
    _layer_config(architecture, layer.name)["config"][setting] = text
    variable = getattr(layer, _WEIGHT_OF[setting])
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
