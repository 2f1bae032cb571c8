"""Rules for the kinds of layers: which classes hls4ml reproduces, and which of their settings it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from hw.generate.contract.violation import RepairKind, Severity, Violation
from qmodels.layers import WEIGHTED
from qmodels.quantize.limits import CALLS, MERGES, NESTED, limits
from qmodels.scaling import SCALING, scaling_layers, scalings_of

_POOLING = tuple(f"{scope}{kind}Pooling{n}D" for scope in ("", "Global") for kind in ("Max", "Average") for n in (1, 2))
#: Layers that are exact, if their settings are.
EXACT = (
    *("InputLayer", "QActivation", "Activation", "ReLU", "Dropout", "Flatten", "Reshape", "Permute", *_POOLING),
    *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D"),
    *(*MERGES, "QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D", "QSeparableConv1D", "QSeparableConv2D"),
)
_POOLS = ("QAveragePooling2D", "QGlobalAveragePooling2D")
#: Layers that other rules refuse, and say what to use instead.
FLOAT_WEIGHTS = (*WEIGHTED, "SeparableConv1D", "SeparableConv2D")
FLOAT_ACTIVATIONS = ("LeakyReLU", "PReLU", "ELU", "ThresholdedReLU")
#: `norms.py` looks into these.
NORMS = ("BatchNormalization", "QBatchNormalization", "QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm")
_JUDGED = (*EXACT, *FLOAT_WEIGHTS, *FLOAT_ACTIVATIONS, "Softmax")
#: Layers that hls4ml converts, though not with bit_exact; recurrent ones are simulated by csim alone.
_PLAIN = ("UpSampling2D", "DepthwiseConv1D", "LSTM", "GRU", "QLSTM", "QGRU", "Bidirectional")
_ONLY_IN_TRAINING = "leave it out of the model that is deployed (it does nothing there), or use Dropout"
_FIXES = {
    "UpSampling": "build the model without it",
    "QAdaptiveActivation": "use QActivation(quantized_relu(bits, integer)) with the integer bits that it has found",
    "QAveragePooling": "use AveragePooling2D and a QActivation behind it",
    "QGlobalAveragePooling": "use GlobalAveragePooling2D and a QActivation behind it",
    "SpatialDropout": _ONLY_IN_TRAINING,
    "Gaussian": _ONLY_IN_TRAINING,
    "AlphaDropout": _ONLY_IN_TRAINING,
    "ActivityRegularization": _ONLY_IN_TRAINING,
    "TimeDistributed": "use a layer that works on all steps: Dense, or Conv1D with kernel_size=1",
    "DepthwiseConv1D": "use QDepthwiseConv2D on a Reshape, or QConv1D",
    "Rescaling": "scale the numbers before the model",
    "Normalization": "standardize the numbers before the model: data.input.scale: standard",
}
_STOPS = "the conversion stops, or outputs differ"
#: Limits with which there is an accelerator all the same, and it differs.
_REPORTED = ("ReLU.max_value", "ReLU.negative_slope", "ReLU.threshold", "input_rank", "padding", "Concatenate.axis")


def judged_layers(model: Any) -> list[Any]:
    """The layers that the rules look into: those of a class that is refused as a whole are not among them."""
    return [layer for layer in model.layers if type(layer).__name__ in _JUDGED]


def classes(model: Any, backend: str) -> Iterator[Violation]:
    """Layers of a class that hls4ml does not know or does not reproduce."""
    judged = judged_layers(model)
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in _POOLS and (pool := _pool(layer)):
            yield pool
        elif kind in SCALING and kind not in NORMS and (scaling := _scaling(model, layer)):
            yield scaling
        elif layer not in judged and kind not in NORMS and not hasattr(layer, "layers"):
            fixes = (fix for start, fix in _FIXES.items() if kind.startswith(start))
            fix = next(fixes, f"allowed: {', '.join(EXACT[1:])}")
            problem, plain = f"{kind} is not reproduced exactly by hls4ml", kind in _PLAIN
            severity: Severity = "reported" if plain else "refused"
            yield Violation(layer.name, "class", problem, fix, _STOPS, severity=severity, stops_bit_exact=plain)


def _scaling(model: Any, layer: Any) -> Violation | None:
    """A layer that scales the input: that is done before the device."""
    if not any(layer in layers for layers in scaling_layers(model).values()):
        return None
    kind = type(layer).__name__
    scaling = scalings_of(model)[0] if len(model.inputs) == 1 else None
    number = scaling.number if scaling is not None else None
    setting = f", and set data.input.scale: {number:g}" if number is not None else ""
    problem = f"{kind} of the input is no layer of an accelerator: numbers are scaled before the device"
    return Violation(layer.name, "class", problem, f"build the model without it{setting}", _STOPS, "scaling")


def _pool(layer: Any) -> Violation | None:
    """QKeras' average pooling with a factor that is 1 / area: Keras' own, and an activation."""
    pixels = layer.pool_size if hasattr(layer, "pool_size") else layer.input_shape[1:-1]
    area = prod(pixels)
    quantizer = layer.average_quantizer_internal
    if quantizer is not None and float(quantizer(1.0 / area)) != 1.0 / area:
        return None
    kind = type(layer).__name__
    problem, fix = f"{kind} is not known to hls4ml", f"use {kind.removeprefix('Q')} and a QActivation behind it"
    return Violation(layer.name, "class", problem, fix, _STOPS, "pool")


def settings(model: Any, backend: str) -> Iterator[Violation]:
    """What hls4ml leaves out of a layer."""
    layers = {layer.name: layer for layer in model.layers}
    for limit in limits(model):
        blocks = limit.setting in (CALLS, NESTED)
        yield Violation(
            limit.layer,
            limit.setting,
            limit.problem,
            limit.fix,
            limit.silently,
            _repair_of(layers[limit.layer], limit.setting),
            blocks_repair=blocks,
            severity="reported" if limit.setting in _REPORTED else "refused",
            stops_bit_exact=limit.setting == "Concatenate.axis",
        )


def _repair_of(layer: Any, setting: str) -> RepairKind | None:
    if setting == "inputs":  # of an average, the average of two at a time is another one
        return "merge" if type(layer).__name__ != "Average" else None
    if setting == "Concatenate.axis":
        return "axis" if layer.axis == len(layer.output_shape) - 1 else None
    if setting == "input_rank":
        return "pointwise" if type(layer).__name__ == "QDense" and len(layer.input_shape) in (3, 4) else None
    return "reshape" if setting == "target_shape" else None


def causal(model: Any, backend: str) -> Iterator[Violation]:
    """hls4ml 1.3.0 pads max(kernel - stride, 0) zeros in front, Keras kernel - 1."""
    for layer in judged_layers(model):
        if getattr(layer, "padding", None) == "causal" and layer.strides[0] != 1:
            problem = f"padding='causal' with strides={layer.strides[0]} is placed differently by hls4ml"
            fix = "use strides=1, or ZeroPadding1D((kernel_size - 1, 0)) and padding='valid'"
            silently = "most outputs differ"
            yield Violation(layer.name, "padding", problem, fix, silently, "causal", severity="reported")
