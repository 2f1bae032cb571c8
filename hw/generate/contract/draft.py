"""A Keras model as a text that can be edited: layers taken out, put in, renamed; then built again."""

from __future__ import annotations

import json
from typing import Any

from numpy.typing import NDArray

from hw.generate.contract.names import free_name
from qmodels.errors import UserError
from qmodels.runtime import runtime

Weights = list[NDArray[Any]]


class Draft:
    """One model's architecture (tf_keras' functional notation) and weights. Every layer is called once."""

    def __init__(self, model: Any) -> None:
        """`model`: functional or sequential; it is not changed."""
        self.layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
        functional = runtime().keras.Model(model.inputs, model.outputs, name=model.name)
        self._architecture: dict[str, Any] = json.loads(functional.to_json())
        for entry in self._config["layers"]:
            if entry["class_name"] == "QActivation":
                entry["config"]["activation"] = _text(self.layers[entry["name"]])
        self.weights: dict[str, Weights] = {layer.name: layer.get_weights() for layer in model.layers}

    @property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = self._architecture["config"]
        return config

    @property
    def names(self) -> list[str]:
        """Names of all layers."""
        return [entry["name"] for entry in self._config["layers"]]

    def entry(self, name: str) -> dict[str, Any]:
        """One layer: its class_name, config and inbound_nodes."""
        return next(entry for entry in self._config["layers"] if entry["name"] == name)

    def config(self, name: str) -> dict[str, Any]:
        """One layer's settings."""
        config: dict[str, Any] = self.entry(name)["config"]
        return config

    def sources(self, name: str) -> list[str]:
        """The layers whose outputs a layer takes."""
        return [tensor[0] for tensor in self._tensors(name)]

    def rename(self, old: str, new: str) -> None:
        """Give a layer another name, here and where it is read."""
        entry = self.entry(old)
        self._redirect(old, new, [*self.names])
        entry["name"] = entry["config"]["name"] = new
        for ends in (self._config["input_layers"], self._config["output_layers"]):
            _replace(ends, old, new)
        self.weights[new] = self.weights.pop(old, [])

    def become(self, name: str, kind: str) -> None:
        """Make a layer one of another class."""
        entry = self.entry(name)
        for where in ("module", "registered_name", "build_config"):  # of the old class
            entry.pop(where, None)
        entry["class_name"] = kind

    def remove(self, name: str) -> None:
        """Take out a layer with one input; who read it reads what it read."""
        (source,) = self.sources(name)
        self._redirect(name, source, self.names)
        _replace(self._config["output_layers"], name, source)
        self._config["layers"].remove(self.entry(name))
        self.weights.pop(name, None)

    def insert_behind(self, source: str, name: str, kind: str, **config: Any) -> str:
        """A new layer behind `source`, read by all who read `source`; its name, as near to `name` as is free."""
        name = free_name(name, self.names)
        readers = self.names
        self._add(name, kind, [source], config)
        self._redirect(source, name, readers)
        _replace(self._config["output_layers"], source, name)
        return name

    def insert_before(self, reader: str, name: str, kind: str, sources: list[str], **config: Any) -> str:
        """A new layer that takes `sources` and that `reader` takes in their place; its name."""
        name = free_name(name, self.names)
        self._add(name, kind, sources, config)
        (node,) = self.entry(reader)["inbound_nodes"]
        first = next(place for place, tensor in enumerate(node) if tensor[0] == sources[0])
        node[first : first + len(sources)] = [[name, 0, 0, {}]]
        return name

    def build(self) -> Any:
        """The edited model, with the weights."""
        custom: dict[str, Any] = {}
        runtime().qkeras.utils._add_supported_quantized_objects(custom)
        model = runtime().keras.models.model_from_json(json.dumps(self._architecture), custom_objects=custom)
        for layer in model.layers:
            if layer.name in self.weights:
                layer.set_weights(self.weights[layer.name])
        return model

    def _add(self, name: str, kind: str, sources: list[str], config: dict[str, Any]) -> None:
        inbound = [[[source, 0, 0, {}] for source in sources]]
        entry = {"class_name": kind, "config": {"name": name, **config}, "name": name, "inbound_nodes": inbound}
        self._config["layers"].insert(self.names.index(sources[-1]) + 1, entry)

    def _tensors(self, name: str) -> list[list[Any]]:
        """The tensors a layer takes, in tf_keras' notation: [layer, node, tensor, arguments]."""
        return [tensor for node in self.entry(name).get("inbound_nodes", []) for tensor in node]

    def _redirect(self, old: str, new: str, readers: list[str]) -> None:
        for reader in readers:
            for tensor in self._tensors(reader):
                if tensor[0] == old:
                    tensor[0] = new


def _text(layer: Any) -> str:
    """A QActivation's quantizer as text: tf_keras writes an object down, and cannot read it again."""
    return layer.activation if isinstance(layer.activation, str) else quantizer_text(layer.quantizer, layer.name)


def quantizer_text(quantizer: Any, layer: str) -> str:
    """A quantizer as text, which QKeras reads back.

    Raises:
        UserError: the text would not tell all its settings; `layer` is named.
    """
    text = str(quantizer)
    again = runtime().qkeras.get_quantizer(text)
    if not hasattr(quantizer, "get_config") or again.get_config() != quantizer.get_config():
        raise UserError(
            f"layer {layer!r}: it has a quantizer object, {text}, and this text does not have all its "
            "settings, so no repair can keep it; build the layer from the quantizer's text"
        )
    return text


def _replace(ends: list[Any], old: str, new: str) -> None:
    """The model's own inputs or outputs: [name, node, tensor], or a list of such."""
    for end in ends if ends and isinstance(ends[0], list) else [ends]:
        if end[0] == old:
            end[0] = new
