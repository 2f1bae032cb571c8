"""Rules for the kinds of layers: which classes hls4ml reproduces, and which of their settings it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hw.generate.contract.violation import Violation
from qmodels.layers import WEIGHTED
from qmodels.quantize.limits import CALLS, MERGES, NESTED, limits

_POOLING = tuple(f"{scope}{kind}Pooling{n}D" for scope in ("", "Global") for kind in ("Max", "Average") for n in (1, 2))
#: Layers that are exact, if their settings are.
EXACT = (
    *("InputLayer", "QActivation", "Activation", "ReLU", "Dropout", "Flatten", "Reshape", "Permute", *_POOLING),
    *(*MERGES, "QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D", "QSeparableConv1D", "QSeparableConv2D"),
)
#: Layers that other rules refuse, and say what to use instead.
FLOAT_WEIGHTS = (*WEIGHTED, "SeparableConv1D", "SeparableConv2D")
FLOAT_ACTIVATIONS = ("LeakyReLU", "PReLU", "ELU", "ThresholdedReLU")
NORMS = ("BatchNormalization", "QBatchNormalization")
_JUDGED = (*EXACT, *FLOAT_WEIGHTS, *FLOAT_ACTIVATIONS, *NORMS, "Softmax")
_ONLY_IN_TRAINING = "leave it out of the model that is deployed (it does nothing there), or use Dropout"
_FOLDED = "fold the batch normalization into the weights of a QConv2D or QDepthwiseConv2D"
_FIXES = {
    "ZeroPadding": "use padding='same' in the convolution behind it",
    "Cropping": "crop the images beforehand, or let a convolution with padding='valid' do it",
    "UpSampling": "build the model without it",
    "QConv2DBatchnorm": _FOLDED,
    "QDepthwiseConv2DBatchnorm": _FOLDED,
    "QAdaptiveActivation": "use QActivation(quantized_relu(bits, integer)) with the integer bits that it has found",
    "QAveragePooling": "use AveragePooling2D and a QActivation behind it",
    "QGlobalAveragePooling": "use GlobalAveragePooling2D and a QActivation behind it",
    "SpatialDropout": _ONLY_IN_TRAINING,
    "Gaussian": _ONLY_IN_TRAINING,
    "AlphaDropout": _ONLY_IN_TRAINING,
    "ActivityRegularization": _ONLY_IN_TRAINING,
    "DepthwiseConv1D": "use QDepthwiseConv2D on a Reshape, or QConv1D",
    "Rescaling": "scale the images beforehand",
    "Normalization": "scale the images beforehand",
}
_STOPS = "the conversion stops, or outputs differ"


def judged_layers(model: Any) -> list[Any]:
    """The layers that the rules look into: those of a class that is refused as a whole are not among them."""
    return [layer for layer in model.layers if type(layer).__name__ in _JUDGED]


def classes(model: Any, backend: str) -> Iterator[Violation]:
    """Layers of a class that hls4ml does not know or does not reproduce."""
    judged = judged_layers(model)
    for layer in model.layers:
        kind = type(layer).__name__
        if layer not in judged and not hasattr(layer, "layers"):
            fixes = (fix for start, fix in _FIXES.items() if kind.startswith(start))
            fix = next(fixes, f"allowed: {', '.join(EXACT[1:])}")
            yield Violation(layer.name, "class", f"{kind} is not reproduced exactly by hls4ml", fix, _STOPS)


def settings(model: Any, backend: str) -> Iterator[Violation]:
    """What hls4ml leaves out of a layer."""
    for limit in limits(model):
        blocks = limit.setting in (CALLS, NESTED)
        yield Violation(limit.layer, limit.setting, limit.problem, limit.fix, limit.silently, blocks_repair=blocks)
