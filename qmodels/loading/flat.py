"""A model as a list of layers that are each called once: models inside it are opened, shared layers written out.

An accelerator has every layer once, so that two branches with common weights are two sets of multipliers there. Layers
that act in training only (noise, augmentation) are left out, and so is `TimeDistributed` around a layer that works on
the last axis anyway. Outputs stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qmodels.loading.limits import MAX_LAYERS, MAX_NUMBERS
from qmodels.runtime import runtime

#: Layers that give what they get once a model is trained. (Dropout does too; hls4ml knows it.)
TRAINING_ONLY = (
    *("GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout1D", "SpatialDropout2D"),
    *("ActivityRegularization", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
)
#: Layers that do the same for every step without `TimeDistributed` around them.
_OF_THE_LAST_AXIS = ("Dense", "QDense", "Activation", "QActivation", "ReLU", "LeakyReLU", "Dropout")


def write_out(model: Any) -> tuple[Any, tuple[str, ...]]:
    """The model with a layer of its own for every call, and what was done, a sentence each; itself where nothing was.

    A model inside it that stands on no input of its own, and one that would grow too large, are left as they are.
    """
    writer = _Writer()
    if not writer.is_needed(model) or _weights(model) > MAX_NUMBERS or _calls(model) > MAX_LAYERS:
        return model, ()
    return _written(writer, model), writer.told()


def leave_out(model: Any, names: Sequence[str]) -> Any:
    """A copy of a model without some of its layers; who read one of them reads what it read."""
    writer = _Writer()
    writer.unwanted = frozenset(names)
    return _written(writer, model)


def _written(writer: _Writer, model: Any) -> Any:
    keras = runtime().keras
    inputs = [
        keras.Input(image.shape[1:], name=name) for name, image in zip(model.input_names, model.inputs, strict=True)
    ]
    custom: dict[str, Any] = {}
    runtime().qkeras.utils._add_supported_quantized_objects(custom)
    with keras.utils.custom_object_scope(custom):
        outputs = writer.call(model, inputs)
    flat = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs[0] if len(outputs) == 1 else outputs)
    flat._name = model.name
    return flat


class _Writer:
    """Calls layers anew, one after the other, and remembers what it did."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.unwanted: frozenset[str] = frozenset()
        self.opened: dict[str, None] = {}
        self.left_out: dict[str, None] = {}
        self.shared: dict[str, None] = {}
        self.steps: dict[str, None] = {}

    def is_needed(self, model: Any) -> bool:
        """Whether there is anything to write out."""
        return any(
            _is_open(layer) or type(layer).__name__ in TRAINING_ONLY or len(calls) > 1 or _for_every_step(layer)
            for layer, calls in _layers_and_calls(model)
            if not hasattr(layer, "layers") or _is_open(layer)
        )

    def told(self) -> tuple[str, ...]:
        """What was done."""
        parts = (
            ("models inside the model are replaced by their layers", self.opened),
            ("called several times, so a layer with the same weights for every call", self.shared),
            ("left out, they act in training only", self.left_out),
            ("written without TimeDistributed, which does nothing around such a layer", self.steps),
        )
        return tuple(f"{what}: {', '.join(names)}" for what, names in parts if names)

    def call(self, model: Any, inputs: list[Any], prefix: str = "") -> list[Any]:
        """The outputs of a model's layers, called anew on `inputs`."""
        tf = runtime().tf
        made = {id(image): tensor for image, tensor in zip(model.inputs, inputs, strict=True)}

        def now(value: Any) -> Any:
            return tf.nest.map_structure(lambda item: made.get(id(item), item), value)

        shared = {layer.name for layer, calls in _layers_and_calls(model) if len(calls) > 1}
        for depth in sorted(model._nodes_by_depth, reverse=True):  # from the input on
            for node in model._nodes_by_depth[depth]:
                if node.is_input or not node.keras_inputs:
                    continue
                given, options = now(node.call_args), now(node.call_kwargs)
                results = self._layer(node.layer, given, options, prefix, node.layer.name in shared)
                for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(results), strict=True):
                    made[id(old)] = new
        return [made[id(output)] for output in model.outputs]

    def _layer(self, layer: Any, given: Any, options: Any, prefix: str, shared: bool) -> Any:
        if type(layer).__name__ in TRAINING_ONLY:
            self.left_out[layer.name] = None
            return given[0]
        if layer.name in self.unwanted:
            return given[0]
        if _is_open(layer):
            self.opened[layer.name] = None
            return self.call(layer, runtime().tf.nest.flatten(given), f"{prefix}{layer.name}_")
        if _for_every_step(layer):
            self.steps[layer.name] = None
            return self._layer(layer.layer, given, options, prefix, shared)
        if shared:
            self.shared[layer.name] = None
        config = layer.get_config() | {"name": self._name(layer.name, prefix)}
        own = type(layer).from_config(config)
        results = own(*given, **options)
        own.set_weights(layer.get_weights())
        if hasattr(own, "finalize_state"):  # Normalization: its weights alone do nothing
            own.finalize_state()
        return results

    def _name(self, wanted: str, prefix: str) -> str:
        """A layer's own name; of layers inside others that of the model before it, a number where it is taken."""
        name = wanted if wanted not in self.names else f"{prefix}{wanted}"
        stem, number = name, 1
        while name in self.names:
            number += 1
            name = f"{stem}_{number}"
        self.names.add(name)
        return name


def _is_open(layer: Any) -> bool:
    """Whether a layer is a model of layers that can be called one by one."""
    return hasattr(layer, "_nodes_by_depth") and bool(getattr(layer, "inputs", None))


def _for_every_step(layer: Any) -> bool:
    """Whether a layer is a `TimeDistributed` that can be left out."""
    return type(layer).__name__ == "TimeDistributed" and type(layer.layer).__name__ in _OF_THE_LAST_AXIS


def _layers_and_calls(model: Any) -> list[tuple[Any, list[Any]]]:
    calls: dict[str, list[Any]] = {}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            calls.setdefault(node.layer.name, []).append(node)
    return [(layer, calls.get(layer.name, [])) for layer in model.layers]


def _total(model: Any, count: Callable[[Any], int]) -> int:
    return sum(
        (_total(layer, count) if _is_open(layer) else count(layer)) * max(1, len(calls))
        for layer, calls in _layers_and_calls(model)
    )


def _weights(model: Any) -> int:
    """Of the model when it is written out."""
    return _total(model, lambda layer: int(layer.count_params()))


def _calls(model: Any) -> int:
    """Layers of the model when it is written out."""
    return _total(model, lambda layer: 1)
