"""Which layers carry weights, and how a config names them: `last-1`, `last-2`, or layer names."""

from __future__ import annotations

import re
from typing import Any

from qmodels.errors import UserError, allowed_names
from qmodels.formats import FixedPoint

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


def readers_of(model: Any, value: Any) -> list[Any]:
    """The layers of a model that take a symbolic tensor; one that is called with it twice is there twice."""
    calls = calls_of(model)
    return [
        layer
        for layer in model.layers
        for call in calls[layer.name]
        if type(layer).__name__ != "InputLayer" and any(taken is value for taken in call.keras_inputs)
    ]


def input_format(model: Any, place: int = 0) -> FixedPoint | None:
    """The format to which a QKeras model rounds an input first; None where nothing does, or several formats.

    `QActivation(quantized_bits(b, i, alpha=1))` is fixed<b, i+1>: QKeras does not count the sign.
    """
    formats = {_activation_format(layer) for layer in readers_of(model, model.inputs[place])}
    return formats.pop() if len(formats) == 1 else None


def _activation_format(layer: Any) -> FixedPoint | None:
    quantizer: Any = getattr(layer, "quantizer", None)
    kind = type(quantizer).__name__
    if type(layer).__name__ != "QActivation" or kind not in ("quantized_bits", "quantized_relu"):
        return None
    if kind == "quantized_bits" and quantizer.alpha not in (None, 1, 1.0):
        return None
    bits, integer = int(quantizer.bits), int(quantizer.integer)
    signed = kind == "quantized_bits" and bool(quantizer.keep_negative)
    return FixedPoint(bits, integer + signed, signed)


def input_shape_of(model: Any, place: int = 0) -> tuple[int, ...] | None:
    """Shape of one of a model's inputs without the batch; None for sizes that are not fixed."""
    shape = tuple(model.inputs[place].shape[1:])
    return tuple(int(size) for size in shape) if shape and None not in shape else None
