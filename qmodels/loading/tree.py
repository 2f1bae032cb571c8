"""A model's configuration as Keras stores it: JSON of layers, and of models inside models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
MODELS = frozenset({"Functional", "Model", "Sequential"})


def levels(model: Json) -> Iterator[Json]:
    """The config of a model, then of each model inside it: `{"name": ..., "layers": [...]}`."""
    yield model["config"]
    for layer in model["config"]["layers"]:
        if is_model(layer):
            yield from levels(layer)


def is_model(layer: Json) -> bool:
    """Whether a layer is a model of its own."""
    return layer.get("class_name") in MODELS


def name_of(layer: Json) -> str:
    """The name that Keras gives a layer."""
    return str(layer["config"]["name"])


def nodes(value: Any) -> Iterator[Any]:
    """Every value inside a JSON value, itself first."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from nodes(child)


def plain(value: Any) -> Any:
    """The same JSON with lists where a SavedModel writes tuples and shapes as objects."""
    if isinstance(value, dict):
        if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
            return [plain(child) for child in value["items"]]
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list) else value


def rename_layers(config: Json, names: dict[str, str]) -> None:
    """Give layers of one level new names, wherever the config names them (in place).

    Args:
        config: one level of a model.
        names: old name -> new name.
    """
    for layer in config["layers"]:
        old = name_of(layer)
        layer["config"]["name"] = names.get(old, old)
        if "name" in layer:
            layer["name"] = names.get(old, old)
        layer["inbound_nodes"] = _rename_calls(layer.get("inbound_nodes", []), names)
    for end in ("input_layers", "output_layers"):
        if end in config:
            config[end] = _rename_calls(config[end], names)


def _rename_calls(value: Any, names: dict[str, str]) -> Any:
    """`[name, node, tensor, ...]` is how Keras names a tensor."""
    if isinstance(value, dict):
        return {key: _rename_calls(child, names) for key, child in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
        return [names.get(value[0], value[0]), *(_rename_calls(child, names) for child in value[1:])]
    return [_rename_calls(child, names) for child in value]
