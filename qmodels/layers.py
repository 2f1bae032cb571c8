"""Which layers carry weights, and how a config names them: `last-1`, `last-2`, or layer names."""

from __future__ import annotations

import re
from typing import Any

from qmodels.errors import UserError, allowed_names

#: Layers whose kernel multiplies activations, by class name (the QKeras twins carry a leading Q).
WEIGHTED = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv2D")
#: QKeras layers with quantized weights.
QUANTIZED = (
    *(f"Q{name}" for name in WEIGHTED),
    *("QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm", "QDenseBatchnorm", "QConv2DTranspose", "QSeparableConv1D"),
    *("QSeparableConv2D", "QSimpleRNN", "QLSTM", "QGRU", "QBidirectional"),
)
#: Layers that hand numbers on as they are and leave nothing in hls4ml's arithmetic.
MOVING = ("Flatten", "Reshape", "Dropout")
_LAST = re.compile(r"last-(\d+)")


def weighted_layers(model: Any) -> list[Any]:
    """The layers with a kernel, in order from input to output."""
    return [layer for layer in model.layers if type(layer).__name__.removeprefix("Q") in WEIGHTED]


def select_layers(model: Any, selection: tuple[str, ...]) -> list[str]:
    """Names of the weighted layers that `selection` means.

    Args:
        model: a Keras model.
        selection: layer names, or `last-N` for the last N layers with weights.

    Raises:
        UserError: a name does not exist in the model; the nearest one is named.
    """
    names = [layer.name for layer in weighted_layers(model)]
    chosen: list[str] = []
    for item in selection:
        last = _LAST.fullmatch(item)
        if last and 1 <= int(last[1]) <= len(names):
            chosen += names[-int(last[1]) :]
        elif item in names:
            chosen.append(item)
        else:
            end = allowed_names(item, names, f"last-1 .. last-{len(names)}")
            raise UserError(f"mapping.layers: {item!r} is no layer with weights{end}")
    return [name for name in names if name in chosen]


def kernel_of(layer: Any) -> Any:
    """The kernel variable of a weighted layer."""
    return layer.depthwise_kernel if is_depthwise(layer) else layer.kernel


def is_depthwise(layer: Any) -> bool:
    """Whether a weighted layer's output channels are the last two axes of its kernel."""
    return hasattr(layer, "depthwise_kernel")


def reads_input(call: Any, model: Any) -> bool:
    """Whether a layer's call takes an input of the model."""
    return any(taken is image for taken in call.keras_inputs for image in model.inputs)


def is_quantized(model: Any) -> bool:
    """Whether a model is QKeras already: it then goes to the accelerator as it is.

    One layer whose weights QKeras quantizes is enough, also inside a wrapper or a model in the model.
    """
    layers = [part for layer in model.layers for part in layer._flatten_layers()]
    return any(type(layer).__name__ in QUANTIZED for layer in layers)


def calls_of(model: Any) -> dict[str, list[Any]]:
    """Every layer's calls (Keras' nodes) in this model by layer name; those in other models do not count."""
    calls: dict[str, list[Any]] = {layer.name: [] for layer in model.layers}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            calls.setdefault(node.layer.name, []).append(node)
    return calls
