"""Quantization-aware training: the forward pass sees the mapped, low-bit weights and activations of the accelerator.

The twin keeps float (latent) weights. Each call maps them by the µ-law where the config says so, rounds them to the
layer's code and rounds activations, with straight-through gradients: what trains is the network that is built.
Formats are chosen once, from the float model that training starts with, and kept, so that quantizing the trained
weights gives exactly the weights that were trained.

Sources: Bengio et al. (arXiv:1308.3432) for the straight-through estimator; Jacob et al. (arXiv:1712.05877) for
training through quantizers. Ours: a weight beyond the outer levels gets only gradients that lead it back, so that none
drifts away for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmodels.data import Split
from qmodels.formats import FixedPoint
from qmodels.layers import kernel_of, select_layers
from qmodels.quantize.equalize import equalize
from qmodels.quantize.model import LayerFormats, QuantizationConfig
from qmodels.quantize.mulaw import MappingConfig, map_weights
from qmodels.quantize.prequantized import rounded_relu
from qmodels.quantize.selection import quantize_as_asked
from qmodels.quantize.weights import WeightCode
from qmodels.runtime import copy_model, runtime
from qmodels.training.config import TrainingConfig
from qmodels.training.intervals import PRODUCTS
from qmodels.training.report import TrainingReport, joined
from qmodels.training.session import train

Tensor = Any
Rounder = Callable[[Tensor], Tensor]


def train_aware(
    model: Any,
    config: TrainingConfig,
    quantization: QuantizationConfig,
    mapping: MappingConfig,
    train_split: Split,
    validation: Split,
    *,
    seed: int,
    checkpoint_dir: Path,
    static: Sequence[Any] = (),
) -> tuple[TrainingReport, dict[str, LayerFormats]]:
    """The quantization-aware phase of a training: `model`, trained already, is trained on in place.

    Args:
        model: float Keras model without batch normalization.
        config: its `quantization_aware` says how long; method and everything else are the first phase's.
        quantization: how weights and activations will be rounded.
        mapping: what comes before: equalizing, once, and the µ-law mapping, in every step.
        train_split: trained on, and the source of the calibration images.
        validation: decides which epoch's weights are kept.
        seed: of everything random.
        checkpoint_dir: for resuming; not the one of the first phase.
        static: as for `train`, the same models.

    Returns:
        What happened, and the formats that `quantize_model` must use for the weights trained here.
    """
    own = config.quantization_aware
    if mapping.equalize:
        equalize(model)
    mapping = mapping.without_equalizing
    stages = [quantization.model_copy(update={"weight_bits": bits}) for bits in (own.weight_bits if own else ())]
    reports = []
    for number, stage in enumerate([*stages, quantization]):
        start, _ = map_weights(model, mapping)
        quantized, _ = quantize_as_asked(start, stage, train_split, validation, seed=seed)
        formats = {item.layer: item for item in quantized.formats}
        aware = quantization_aware(model, formats, mapping)
        folder = checkpoint_dir if number == len(stages) else checkpoint_dir / f"{stage.weight_bits}_bits"
        reports.append(
            train(aware, config.aware_phase(), train_split, validation, seed=seed, checkpoint_dir=folder, static=static)
        )
        model.set_weights(aware.get_weights())
    return joined(reports), formats


def quantization_aware(model: Any, formats: Mapping[str, LayerFormats], mapping: MappingConfig) -> Any:
    """A trainable twin of a float model that computes what `quantize_model` with these formats would make of it.

    Args:
        model: float Keras model without batch normalization, functional or sequential.
        formats: of every layer with weights and every ReLU, by layer name.
        mapping: the µ-law mapping that comes before rounding.

    Returns:
        A Keras model with the same weights in the same order: `get_weights()` fits the float model.
    """
    mapped = set(select_layers(model, mapping.layers)) if mapping.mu > 0 else set()

    def twin(layer: Any) -> Any:
        mu = mapping.mu if layer.name in mapped else 0.0
        return _twin(layer, formats.get(layer.name), mu)

    aware = copy_model(model, twin)
    aware._name = f"{model.name}_aware"
    return aware


def _twin(layer: Any, chosen: LayerFormats | None, mu: float) -> Any:
    if chosen is None:
        return type(layer).from_config(layer.get_config())
    if chosen.activation is not None:
        rounder = rounded_relu(chosen.activation.width, chosen.activation.integer)
        return runtime().keras.layers.Activation(rounder, name=layer.name)
    assert chosen.code is not None  # a layer has weights or is a ReLU
    return _rounding_layer(layer, _kernel_rounder(chosen.code, mu), _bias_rounder(chosen.bias))


def _rounding_layer(layer: Any, kernel: Rounder, bias: Rounder) -> Any:
    """A layer like the given one that rounds its weights in every call."""
    kind = type(layer).__name__
    base: Any = getattr(runtime().keras.layers, kind)
    multiply = PRODUCTS[kind]

    class Rounding(base):  # type: ignore[misc]
        round_kernel = staticmethod(kernel)
        round_bias = staticmethod(bias)

        def call(self, inputs: Tensor) -> Tensor:
            outputs = multiply(self, inputs, kernel(kernel_of(self)))
            return runtime().tf.nn.bias_add(outputs, bias(self.bias)) if self.use_bias else outputs

    Rounding.__name__ = kind  # called as what it stands for, so that `weighted_layers` knows it
    return Rounding.from_config(layer.get_config())


def _kernel_rounder(code: WeightCode, mu: float) -> Rounder:
    nearest = _nearest_level(code)
    low, high = code.levels[0] * code.step, code.levels[-1] * code.step
    rounded = straight_through(nearest, low.astype(np.float32), high.astype(np.float32))
    return (lambda kernel: rounded(_mu_law(kernel, mu))) if mu else rounded


def _bias_rounder(fmt: FixedPoint | None) -> Rounder:
    if fmt is None:
        return lambda bias: bias
    tf = runtime().tf

    def nearest(bias: Tensor) -> Tensor:
        return tf.clip_by_value(tf.round(bias / fmt.lsb) * fmt.lsb, fmt.minimum, fmt.maximum)

    return straight_through(nearest, np.float32(fmt.minimum), np.float32(fmt.maximum))


def _nearest_level(code: WeightCode) -> Rounder:
    """`WeightCode.round` for tensors."""
    tf = runtime().tf
    step = tf.constant(code.step, tf.float32)
    if code.contiguous:
        first, last = float(code.levels[0]), float(code.levels[-1])
        return lambda kernel: tf.clip_by_value(tf.round(kernel / step), first, last) * step
    levels = tf.constant(code.levels, tf.float32)
    middles = (levels[1:] + levels[:-1]) / 2

    def nearest(kernel: Tensor) -> Tensor:
        scaled = kernel / step
        index = tf.searchsorted(middles, tf.reshape(scaled, [-1]))
        return tf.reshape(tf.gather(levels, index), tf.shape(scaled)) * step

    return nearest


def _mu_law(kernel: Tensor, mu: float) -> Tensor:
    """s F(W/s), as `mulaw.map_weights`; the scale s takes no gradient."""
    tf = runtime().tf
    scale = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(kernel)), 1e-12))
    return scale * tf.sign(kernel) * tf.math.log1p(mu * tf.abs(kernel) / scale) / np.float32(np.log1p(mu))


def straight_through(nearest: Rounder, low: Any, high: Any) -> Rounder:
    """`nearest` forward; backward the identity, but outside [low, high] only what leads back."""
    tf = runtime().tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def rounded(latent: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def gradient(upstream: Tensor) -> Tensor:
            away = ((latent > high) & (upstream < 0)) | ((latent < low) & (upstream > 0))
            return tf.where(away, tf.zeros_like(upstream), upstream)

        return nearest(latent), gradient

    return rounded  # type: ignore[no-any-return]
