"""How an adversarial change travels through a network: quantization shift, amplification, gradient agreement.

Definitions: quantization shift ||Q(h(x')) - Q(h(x))|| / ||h(x') - h(x)|| and gradient agreement after "David and
Goliath" (Costa and Pinto, arXiv:2404.05688); amplification ||h(x) - h(x')|| / ||h(x)|| after Lin 2019,
arXiv:1904.08444.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.gradient import compiled_gradient
from qmodels.criteria import MISCLASSIFICATION, Criterion, Truth
from qmodels.grid import Codes, Values
from qmodels.losses import LossName
from qmodels.runtime import runtime
from qmodels.victims import GradientModel

BATCH = 500
Feed = Callable[[Values], Any]
_TINY = 1e-12


@dataclass(frozen=True)
class LayerShift:
    """What one activation quantizer does to the change: below 1 it absorbs, above 1 it amplifies."""

    layer: str
    mean: float
    median: float
    absorbed_share: float  # of the samples whose change it removes altogether


@dataclass(frozen=True)
class LayerAmplification:
    """Relative size of the change at one layer, in two networks."""

    layer: str
    reference: float
    quantized: float


@dataclass(frozen=True)
class GradientAgreement:
    """Input gradients of a float model and the straight-through ones of its quantized twin, averaged over samples."""

    cosine: float
    sign: float  # share of the inputs whose two gradients have the same sign, where either is not zero
    zero_share_reference: float  # samples whose gradient is exactly zero
    zero_share_quantized: float


def quantization_shift(model: Any, clean: Values, attacked: Values, feed: Feed = lambda x: x) -> list[LayerShift]:
    """The shift at every `QActivation` of a QKeras model, its ReLU taken out: what rounding and clipping alone do.

    A sample whose change has vanished before the layer says nothing about it and is left out (NaN if all are).
    `feed` makes of values (N, ...) what the model takes: `InputGrid.feed`, for several inputs.
    """
    layers = [layer for layer in model.layers if type(layer).__name__ == "QActivation"]
    values = [_unquantized(layer) for layer in layers] + [layer.output for layer in layers]
    changes = [change for change, _ in _changes(model, values, clean, attacked, feed)]
    count = len(layers)
    return [_shift(layer.name, changes[i], changes[i + count]) for i, layer in enumerate(layers)]


def _unquantized(layer: Any) -> Any:
    """The tensor that a QActivation rounds."""
    is_relu = type(layer.quantizer).__name__ == "quantized_relu"
    return runtime().keras.layers.ReLU()(layer.input) if is_relu else layer.input


def _shift(name: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> LayerShift:
    ratios = after[before > 0] / before[before > 0]
    if not len(ratios):
        return LayerShift(name, float("nan"), float("nan"), float("nan"))
    return LayerShift(name, float(ratios.mean()), float(np.median(ratios)), float(np.mean(ratios == 0)))


def amplification(reference: Any, quantized: Any, clean: Values, attacked: Values) -> list[LayerAmplification]:
    """||h(x') - h(x)|| / ||h(x)|| at every layer that both networks have by name, in order from the input."""
    shared = {layer.name for layer in quantized.layers if type(layer).__name__ != "InputLayer"}
    names = [layer.name for layer in reference.layers if layer.name in shared]
    sizes = [_relative(model, names, clean, attacked) for model in (reference, quantized)]
    return [LayerAmplification(name, *values) for name, *values in zip(names, *sizes, strict=True)]


def _relative(model: Any, names: Sequence[str], clean: Values, attacked: Values) -> list[float]:
    values = [model.get_layer(name).output for name in names]
    sizes = _changes(model, values, clean, attacked)
    return [float(np.mean(change / np.maximum(size, _TINY))) for change, size in sizes]


def gradient_agreement(
    reference: GradientModel,
    quantized: GradientModel,
    x: Codes,
    y: Truth,
    loss: LossName = "ce",
    criterion: Criterion = MISCLASSIFICATION,
) -> GradientAgreement:
    """Cosine and sign agreement of two models' input gradients of the loss on their logits."""
    a, b = (input_gradients(model, x, y, loss, criterion).reshape(len(x), -1) for model in (reference, quantized))
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    both = (lengths[0] > 0) & (lengths[1] > 0)
    cosine = np.sum(a[both] * b[both], axis=1) / (lengths[0][both] * lengths[1][both])
    either = (a != 0) | (b != 0)
    same = np.sum((np.sign(a) == np.sign(b)) & either, axis=1) / np.maximum(either.sum(axis=1), 1)
    return GradientAgreement(
        float(cosine.mean()) if both.any() else 0.0,
        float(same[either.any(axis=1)].mean()) if either.any() else 0.0,
        float(np.mean(lengths[0] == 0)),
        float(np.mean(lengths[1] == 0)),
    )


def input_gradients(
    model: GradientModel, x: Codes, y: Truth, loss: LossName = "ce", criterion: Criterion = MISCLASSIFICATION
) -> NDArray[np.float64]:
    """Gradient of the loss with respect to the input, in units of the loss per grid step."""
    gradient = compiled_gradient(model, loss, criterion)
    parts = [gradient(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return np.concatenate([np.zeros((0, *x.shape[1:])), *parts])


def zero_gradient_share(
    model: GradientModel, x: Codes, y: Truth, loss: LossName = "ce", criterion: Criterion = MISCLASSIFICATION
) -> float:
    """Share of samples whose input gradient is exactly zero: an attack that follows it cannot move."""
    gradients = input_gradients(model, x, y, loss, criterion).reshape(len(x), -1)
    return float(np.mean(~gradients.any(axis=1)))


def _changes(
    model: Any, values: list[Any], clean: Values, attacked: Values, feed: Feed = lambda x: x
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Per inner tensor: length of its change (N,) and its length on the clean images (N,), batch by batch."""
    if not values:
        return []
    inner = runtime().keras.Model(model.input, values)
    sizes = np.empty((len(values), 2, len(clean)))
    for start in range(0, len(clean), BATCH):
        rows = slice(start, start + BATCH)
        both = (_flat(inner, values, feed(x[rows]), len(x[rows])) for x in (clean, attacked))
        for index, (a, b) in enumerate(zip(*both, strict=True)):
            sizes[index, :, rows] = _norms(b - a), _norms(a)
    return [(change, size) for change, size in sizes]


def _flat(inner: Any, values: list[Any], x: Any, count: int) -> list[NDArray[np.float64]]:
    found = inner(x, training=False)  # `predict` would compile it first
    outputs = found if len(values) > 1 else [found]
    return [np.asarray(output, np.float64).reshape(count, -1) for output in outputs]


def _norms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(x, axis=1))
