"""Layers that a model calls several times, written out: one layer with the same weights for every call.

An accelerator has every layer once, so that two branches with common weights are two sets of multipliers there.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from qmodels.loading.limits import MAX_LAYERS, MAX_NUMBERS
from qmodels.loading.tree import Json, is_model, name_of
from qmodels.runtime import runtime


def write_out_shared(model: Any) -> tuple[Any, tuple[str, ...]]:
    """The model with a layer of its own for every call, and the names of the layers that had several.

    The same model where there are none, where what is shared is a model in the model, or where it would be too large.
    """
    architecture: Json = json.loads(model.to_json())
    config = architecture["config"]
    shared = [layer for layer in config["layers"] if len(layer.get("inbound_nodes", [])) > 1 and not is_model(layer)]
    calls_of = {name_of(layer): len(layer["inbound_nodes"]) for layer in shared}
    weights = sum(layer.count_params() * calls_of.get(layer.name, 1) for layer in model.layers)
    if not shared or weights > MAX_NUMBERS or sum(calls_of.values()) > MAX_LAYERS:
        return model, ()
    origin: dict[str, str] = {}
    moved: dict[tuple[str, int], str] = {}
    names = {name_of(layer) for layer in config["layers"]}
    for layer in shared:
        calls, place = layer["inbound_nodes"], config["layers"].index(layer) + 1
        layer["inbound_nodes"] = calls[:1]
        for number, call in enumerate(calls[1:], start=1):
            name = f"{name_of(layer)}_{number + 1}"
            while name in names:
                name += "_"
            names.add(name)
            own = copy.deepcopy(layer) | {"name": name, "inbound_nodes": [call]}
            own["config"]["name"] = name
            config["layers"].insert(place + number - 1, own)
            origin[name], moved[name_of(layer), number] = name_of(layer), name
    for node in [*(layer.get("inbound_nodes", []) for layer in config["layers"]), config["output_layers"]]:
        _redirect(node, moved)
    custom: dict[str, Any] = {}
    runtime().qkeras.utils._add_supported_quantized_objects(custom)
    written = runtime().keras.models.model_from_config(architecture, custom_objects=custom)
    for layer in written.layers:
        layer.set_weights(model.get_layer(origin.get(layer.name, layer.name)).get_weights())
    return written, tuple(name_of(layer) for layer in shared)


def _redirect(node: Any, moved: dict[tuple[str, int], str]) -> None:
    """Point every tensor `[layer, call, tensor, ...]` to the layer that makes it now."""
    if isinstance(node, dict):
        for child in node.values():
            _redirect(child, moved)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and (node[0], node[1]) in moved:
            node[:2] = moved[node[0], node[1]], 0
        for child in node:
            _redirect(child, moved)
