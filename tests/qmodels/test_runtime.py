"""Layers of QKeras are built without their quantizers' operations, and nobody sees a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qmodels.runtime import runtime

KERNEL = {"kernel_quantizer": "quantized_bits(4, 0, alpha=1)", "bias_quantizer": "quantized_bits(4, 0, alpha=1)"}
DEPTHWISE = {"depthwise_quantizer": KERNEL["kernel_quantizer"], "bias_quantizer": KERNEL["bias_quantizer"]}
SEPARABLE = {**DEPTHWISE, "pointwise_quantizer": KERNEL["kernel_quantizer"]}
IMAGE, SEQUENCE, FEATURES = (8, 9, 4), (9, 4), (5,)

LAYERS: list[tuple[str, dict[str, Any], tuple[int | None, ...]]] = [
    ("QActivation", {"activation": "quantized_relu(4, 1)"}, IMAGE),
    ("QActivation", {"activation": "quantized_tanh(5)"}, FEATURES),
    ("QDense", {"units": 3, **KERNEL}, FEATURES),
    ("QDense", {"units": 3, "activation": "quantized_relu(4)", **KERNEL}, SEQUENCE),
    ("QConv1D", {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", **KERNEL}, SEQUENCE),
    ("QConv1D", {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "padding": "causal", **KERNEL}, SEQUENCE),
    ("QConv2D", {"filters": 6, "kernel_size": 3, "strides": (1, 2), **KERNEL}, IMAGE),
    ("QConv2D", {"filters": 6, "kernel_size": 3, "padding": "same", **KERNEL}, (None, None, 4)),
    ("QDepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2, **DEPTHWISE}, IMAGE),
    ("QSeparableConv1D", {"filters": 6, "kernel_size": 3, **SEPARABLE}, SEQUENCE),
    ("QSeparableConv2D", {"filters": 6, "kernel_size": 3, "strides": 2, **SEPARABLE}, IMAGE),
    ("QBatchNormalization", {}, IMAGE),
    ("QConv2DBatchnorm", {"filters": 6, "kernel_size": 3, **KERNEL}, IMAGE),
    ("QDepthwiseConv2DBatchnorm", {"kernel_size": 3, **DEPTHWISE}, IMAGE),
    ("QAveragePooling2D", {"pool_size": 2}, IMAGE),
    ("QGlobalAveragePooling2D", {}, IMAGE),
]


@pytest.mark.parametrize(("kind", "settings", "shape"), LAYERS, ids=lambda part: part if isinstance(part, str) else "")
def test_the_shape_told_is_the_shape_that_comes(
    kind: str, settings: dict[str, Any], shape: tuple[int | None, ...]
) -> None:
    keras = runtime().keras
    inputs = keras.Input(shape)
    layer = getattr(runtime().qkeras, kind)(**settings)
    told = layer(inputs)
    built = len(layer.weights)
    x = np.random.default_rng(0).random((2, *(size or 7 for size in shape)), np.float32)
    made = keras.Model(inputs, told)(x)
    assert (told.dtype, told.shape.rank) == (made.dtype, made.shape.rank)
    assert all(size in (None, real) for size, real in zip(told.shape, made.shape, strict=True))
    assert None not in told.shape[1:] or None in shape
    np.testing.assert_array_equal(made, layer(x))
    assert built == len(layer.weights)  # all were there before anything was computed


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("QConv2D", {"filters": 2, "kernel_size": 5, **KERNEL}),
        ("QDepthwiseConv2D", {"kernel_size": 5, **DEPTHWISE}),
        ("QAveragePooling2D", {"pool_size": 5}),
    ],
)
def test_what_is_too_small_is_refused_when_the_model_is_built(kind: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Negative dimension size|output is <= 0"):
        getattr(runtime().qkeras, kind)(**settings)(runtime().keras.Input((3, 3, 1)))


def test_a_model_is_built_without_its_quantizers_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    quantizer = runtime().qkeras.quantized_relu
    rounded = quantizer.__call__
    monkeypatch.setattr(quantizer, "__call__", lambda self, x: [asked.append(x), rounded(self, x)][1])
    inputs = runtime().keras.Input(FEATURES)
    model = runtime().keras.Model(inputs, runtime().qkeras.QActivation("quantized_relu(4, 1)")(inputs))
    assert not asked
    np.testing.assert_array_equal(model(np.full((1, *FEATURES), 0.3, np.float32)), np.full((1, *FEATURES), 0.25))
    assert asked
