"""Which layer is called on which: Keras waits for ever for a call that never comes, so it is looked for first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmodels.errors import UserError
from qmodels.loading.tree import Json, is_model, levels, name_of


def check_calls(architecture: Json, path: Path) -> None:
    """See that every tensor a layer is called on is made by an earlier call.

    Raises:
        UserError: a layer is called on one that is not there, or layers call each other in a circle.
    """
    for config in levels(architecture):
        made = {name_of(layer): first_call(layer) for layer in config["layers"]}
        inputs = {name_of(layer) for layer in config["layers"] if layer["class_name"] == "InputLayer"}
        waiting = {name_of(layer): list(layer.get("inbound_nodes", [])) for layer in config["layers"]}
        before = -1
        while any(waiting.values()) and (left := sum(map(len, waiting.values()))) != before:
            before = left
            for name, nodes in waiting.items():
                while nodes and all(on in inputs or call < made.get(on, 0) for on, call in _tensors(nodes[0])):
                    nodes.pop(0)
                    made[name] += 1
        if stuck := [name for name, nodes in waiting.items() if nodes]:
            raise UserError(
                f"{path}: cannot be loaded as a Keras 2 / QKeras model: layers {', '.join(stuck[:5])} are called on "
                f"layers that are not there, or on each other in a circle; save it again with model.save()"
            )


def first_call(layer: Json) -> int:
    """The number of a layer's first call in a model: a model inside it that has an input counts its own as call 0."""
    if not is_model(layer):
        return 0
    if layer["class_name"] != "Sequential":
        return 1
    inner = layer["config"]["layers"]
    starts = bool(inner) and (inner[0]["class_name"] == "InputLayer" or "batch_input_shape" in inner[0]["config"])
    return int(starts)


def _tensors(node: Any) -> Iterator[tuple[str, int]]:
    """Layer and number of the call that made each tensor of a call: `[name, call, tensor, ...]`."""
    if isinstance(node, dict):
        for child in node.values():
            yield from _tensors(child)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0], node[1]
        for child in node:
            yield from _tensors(child)
