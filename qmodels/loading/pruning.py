"""Pruning wrappers of TensorFlow's Model Optimization Toolkit: only what is inside them is kept."""

from __future__ import annotations

import re

from qmodels.loading.tree import Json, levels, name_of, rename_layers

WRAPPER = "PruneLowMagnitude"
#: What a wrapper stores besides the layer's own weights.
_STATE = re.compile(r"(mask|threshold|pruning_step)(_\d+)?(:\d+)?")


def is_wrapper(layer: Json) -> bool:
    """Whether a layer wraps another one for pruning."""
    return layer.get("class_name") == WRAPPER and isinstance(layer["config"].get("layer"), dict)


def strip_pruning(architecture: Json) -> list[str]:
    """Put the inner layer in each wrapper's place, under its own name (in place): what `strip_pruning()` does.

    Outputs stay as they are: a wrapper masks weights only while it trains.

    Returns:
        names of the layers that were wrapped.
    """
    stripped: list[str] = []
    for config in levels(architecture):
        names: dict[str, str] = {}
        for number, layer in enumerate(config["layers"]):
            if is_wrapper(layer):
                inner = layer["config"]["layer"]
                names[name_of(layer)] = name_of(inner)
                config["layers"][number] = _unwrapped(layer, inner)
        # `rename_layers` renames calls; the layers themselves have their names already
        rename_layers(config, names)
        stripped += names.values()
    return stripped


def is_pruning_state(weight: str) -> bool:
    """Whether a wrapped layer's weight, by its name in the file, is the wrapper's own."""
    return _STATE.fullmatch(weight.rsplit("/", 1)[-1]) is not None


def _unwrapped(layer: Json, inner: Json) -> Json:
    kept: Json = {key: layer[key] for key in ("inbound_nodes",) if key in layer}
    if "name" in layer:
        kept["name"] = name_of(inner)
    if "batch_input_shape" in layer["config"]:  # the first layer of a Sequential
        inner["config"].setdefault("batch_input_shape", layer["config"]["batch_input_shape"])
    return inner | kept
