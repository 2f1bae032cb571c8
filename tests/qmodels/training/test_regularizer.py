"""The defensive-quantization regularizer: its definition, its gradient, and what it does to a layer's norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qmodels.layers import kernel_of, weighted_layers
from qmodels.runtime import runtime
from qmodels.training.regularizer import DefensiveConfig, defensive_penalty


@pytest.fixture(scope="module")
def model() -> Any:
    """A convolution, a depthwise one and a dense layer wider than deep."""
    keras = runtime().keras
    keras.utils.set_random_seed(0)
    layers = keras.layers
    body = [layers.Conv2D(3, 2), layers.DepthwiseConv2D(2, depth_multiplier=2), layers.Flatten(), layers.Dense(40)]
    return keras.Sequential([layers.Input((4, 4, 2)), *body])


def by_definition(model: Any, beta: float) -> tuple[Any, float]:
    """β/2 Σ ||W^T W - I||² with W^T W written out, and the constant by which the smaller Gram matrix' sum is less."""
    tf = runtime().tf
    total, constant = tf.constant(0.0), 0.0
    for layer in weighted_layers(model):
        kernel = kernel_of(layer)
        matrices = [tf.reshape(kernel, [-1, kernel.shape[-1]])]
        if type(layer).__name__ == "DepthwiseConv2D":
            matrices = [tf.reshape(kernel[:, :, channel], [-1, kernel.shape[-1]]) for channel in range(kernel.shape[2])]
        for patch_by_out in matrices:
            patch, out = patch_by_out.shape
            gram = tf.matmul(patch_by_out, patch_by_out, transpose_b=True)  # W = its transpose: W^T W is patch x patch
            total += tf.reduce_sum((gram - tf.eye(patch)) ** 2)
            constant += max(patch - out, 0)
    return beta / 2 * total, beta / 2 * constant


def test_it_is_the_definition_up_to_a_constant_and_has_its_gradient(model: Any) -> None:
    tf = runtime().tf
    kernels = [kernel_of(layer) for layer in weighted_layers(model)]
    with tf.GradientTape(persistent=True) as tape:
        got = defensive_penalty(model, DefensiveConfig(beta=3e-2))
        expected, constant = by_definition(model, 3e-2)
    assert float(got) == pytest.approx(float(expected) - constant, rel=1e-5)
    for mine, theirs in zip(tape.gradient(got, kernels), tape.gradient(expected, kernels), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-6)


def test_descending_it_brings_the_norm_to_one() -> None:
    tf, keras = runtime().tf, runtime().keras
    model = keras.Sequential([keras.layers.Input((12,)), keras.layers.Dense(5)])
    kernel = kernel_of(model.layers[0])
    kernel.assign(3 * kernel)
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = defensive_penalty(model, DefensiveConfig(beta=1.0))
        kernel.assign_sub(0.01 * tape.gradient(loss, kernel))
    np.testing.assert_allclose(np.linalg.svd(kernel.numpy())[1], 1, atol=1e-2)
