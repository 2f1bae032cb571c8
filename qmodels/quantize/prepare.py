"""A float model of the user's own, written as quantization needs it; its outputs stay the same.

The input gets a linear layer that marks where the device's input is rounded, and every ReLU becomes a layer of its own:
there its output will be rounded.
"""

from __future__ import annotations

from typing import Any

from qmodels.architectures import INPUT_GRID
from qmodels.errors import UserError
from qmodels.layers import calls_of
from qmodels.runtime import runtime


def prepare_float(model: Any) -> tuple[Any, str]:
    """The model with an input grid and ReLUs apart, and what was done; the model itself and "" where nothing was.

    Raises:
        UserError: it has several inputs, or uses a layer twice.
    """
    fused = [layer.name for layer in model.layers if _ends_in_relu(layer)]
    marked = any(layer.name == INPUT_GRID for layer in model.layers)
    if marked and not fused:
        return model, ""
    if len(model.inputs) != 1:
        raise UserError(f"model.prepare: the model has {len(model.inputs)} inputs; one is allowed")
    calls = calls_of(model)
    for name, nodes in calls.items():
        if len(nodes) > 1:
            raise UserError(f"model.prepare: layer {name!r} is used {len(nodes)} times; give each place its own layer")
    made: dict[str, Any] = {}
    keras = runtime().keras
    for depth in sorted(model._nodes_by_depth, reverse=True):  # from the input on
        for node in model._nodes_by_depth[depth]:
            inputs = [made[parent.layer.name] for parent in node.parent_nodes]
            if inputs:
                made[node.layer.name] = _apart(node.layer, inputs if len(inputs) > 1 else inputs[0])
            else:
                image = keras.Input(node.layer.output.shape[1:], name=node.layer.name)
                made[node.layer.name] = image if marked else keras.layers.Activation("linear", name=INPUT_GRID)(image)
    outputs = [made[name] for name in model.output_names]
    prepared = keras.Model(image, outputs if len(outputs) > 1 else outputs[0], name=model.name)
    for layer in model.layers:
        if layer.get_weights():
            prepared.get_layer(layer.name).set_weights(layer.get_weights())
    what = [] if marked else ["the input was given a grid"]
    what += [f"the ReLU of {', '.join(fused)} became a separate layer"] if fused else []
    return prepared, "; ".join(what)


def _ends_in_relu(layer: Any) -> bool:
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return activation == "relu" and type(layer).__name__ != "Activation"


def _apart(layer: Any, inputs: Any) -> Any:
    config = layer.get_config()
    if not _ends_in_relu(layer):
        return type(layer).from_config(config)(inputs)
    sums = type(layer).from_config(config | {"activation": "linear"})(inputs)
    return runtime().keras.layers.ReLU(name=f"{layer.name}_relu")(sums)
