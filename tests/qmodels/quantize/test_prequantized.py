"""The prequantized view gives QKeras' bits, and its gradients up to the rounding of a sum in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import outputs_and_gradient

from qmodels.quantize.prequantized import prequantize
from qmodels.runtime import runtime, set_seed


def kernel(bits: int) -> Any:
    return runtime().qkeras.quantized_bits(bits, 0, alpha=1)


def bias() -> Any:
    return runtime().qkeras.quantized_bits(8, 2, alpha=1)


def residual_model() -> Any:
    """Convolutions with and without stride, depthwise, Add, pooling, batch normalisation, a QDense with activation."""
    q, keras = runtime().qkeras, runtime().keras
    set_seed(1)
    image = keras.Input((8, 8, 2))
    x = q.QActivation("quantized_bits(9,0,alpha=1)")(image)
    x = q.QConv2D(6, 3, padding="same", kernel_quantizer=kernel(3), bias_quantizer=bias())(x)
    x = q.QActivation("quantized_relu(6,2)")(x)
    branch = q.QDepthwiseConv2D(3, padding="same", depthwise_quantizer=kernel(4), bias_quantizer=bias())(x)
    x = keras.layers.Add()([x, branch])
    x = q.QActivation("quantized_bits(7,2,1,alpha=1)")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.MaxPooling2D()(x)
    x = q.QConv2D(5, 3, strides=2, kernel_quantizer=kernel(3), use_bias=False)(x)
    x = q.QDense(
        8, kernel_quantizer=kernel(2), bias_quantizer=bias(), activation=q.quantized_relu(5, 1), name="hidden"
    )(keras.layers.Flatten()(x))
    return keras.Model(image, q.QDense(4, kernel_quantizer=kernel(3), bias_quantizer=bias())(x))


def unusual_model() -> Any:
    """Quantizers that prequantize() leaves to QKeras: power-of-two scales, a leaky and a ternary one; even kernels."""
    q, keras = runtime().qkeras, runtime().keras
    set_seed(2)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            q.QConv2D(4, 2, padding="same", kernel_quantizer=q.quantized_bits(4, 0, alpha=0.5), bias_quantizer=bias()),
            q.QActivation(q.quantized_relu(6, 2, negative_slope=0.25)),
            keras.layers.Flatten(),
            q.QDense(6, kernel_quantizer=q.quantized_bits(3, 0, alpha="auto_po2"), bias_quantizer=bias()),
            q.QActivation("quantized_bits(5,1,alpha=2)"),
            q.QDense(3, kernel_quantizer=q.ternary(alpha=1), bias_quantizer=None),
        ]
    )
    return model


@pytest.mark.parametrize("build", [residual_model, unusual_model])
def test_same_bits_same_gradients(build: Any) -> None:
    model = build()
    rng = np.random.default_rng(0)
    for layer in model.layers:  # initial biases are zero, initial kernels small
        layer.set_weights([w + rng.normal(0, 0.3, w.shape).astype(np.float32) ** 2 for w in layer.get_weights()])
    shape = (64, *model.input_shape[1:])
    x = (rng.integers(0, 256, shape) / 256).astype(np.float32)
    logits, gradient = outputs_and_gradient(model, x)
    prequantized_logits, prequantized_gradient = outputs_and_gradient(prequantize(model), x)
    np.testing.assert_array_equal(prequantized_logits, logits)
    assert np.abs(gradient).max() > 0
    np.testing.assert_allclose(prequantized_gradient, gradient, atol=1e-5 * np.abs(gradient).max())


def test_inputs_far_outside_the_range_give_the_same_bits() -> None:
    q, keras = runtime().qkeras, runtime().keras
    model = keras.Sequential([keras.Input((6,)), q.QActivation("quantized_bits(6,1,alpha=1)")])
    x = np.random.default_rng(0).normal(0, 100, (500, 6)).astype(np.float32)
    np.testing.assert_array_equal(prequantize(model)(x).numpy(), model(x).numpy())


def test_the_prequantized_view_is_a_snapshot_of_plain_layers() -> None:
    model = residual_model()
    prequantized = prequantize(model)
    assert not any(type(layer).__name__.startswith("Q") for layer in prequantized.layers)
    before = prequantized(np.ones((1, 8, 8, 2), np.float32)).numpy()
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_array_equal(prequantized(np.ones((1, 8, 8, 2), np.float32)).numpy(), before)
