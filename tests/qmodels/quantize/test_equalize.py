"""Equalized channels: the same function, bit for bit, and weights of one size on the reading side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qmodels.architectures import ModelConfig, build_float
from qmodels.grid import IMAGE_GRID, Values
from qmodels.layers import kernel_of
from qmodels.quantize.equalize import equalize
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.mulaw import MappingConfig, map_weights
from qmodels.runtime import runtime

SHAPE = (8, 8, 1)
CNN = ModelConfig(architecture="cnn4", filters=(4, 6), hidden=(12,))


def uneven(model: Any, rng: np.random.Generator) -> None:
    """Input channels of very different weights, one of them unread; biases too."""
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel, bias = (weight.astype(np.float64) for weight in layer.get_weights())
            kernel *= np.exp(rng.normal(0, 2, kernel.shape[-2]))[:, None]
            if kernel.ndim == 4 and kernel.shape[-2] > 1:
                kernel[:, :, 1] = 0
            layer.set_weights([kernel, rng.normal(0, 0.1, bias.shape)])


def uneven_cnn(seed: int, count: int) -> tuple[Any, Values]:
    """A network and inputs."""
    rng = np.random.default_rng(seed)
    model = build_float(CNN, SHAPE, 10, seed=0)
    uneven(model, rng)
    return model, IMAGE_GRID.to_values(IMAGE_GRID.random(count, SHAPE, rng))


def test_the_outputs_stay_bit_for_bit() -> None:
    model, x = uneven_cnn(0, 32)
    before = model(x).numpy()
    assert equalize(model) == [("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "logits")]
    np.testing.assert_array_equal(model(x).numpy(), before)  # powers of two round nothing


@pytest.mark.parametrize("flat", [False, True])
def test_the_weights_that_read_a_channel_are_of_one_size(flat: bool) -> None:
    layers, keras = runtime().keras.layers, runtime().keras
    inputs = keras.Input(SHAPE)
    x = layers.MaxPooling2D()(layers.ReLU()(layers.Conv2D(4, 3, name="one")(inputs)))
    last = layers.Dense(5, name="two")(layers.Flatten()(x)) if flat else layers.Conv2D(5, 3, name="two")(x)
    model = keras.Model(inputs, last)
    uneven(model, np.random.default_rng(0))
    reader = model.get_layer("two")
    kernel = kernel_of(reader).numpy().reshape(9, 4, 5) * np.array([1.0, 0.0, 40.0, 0.1])[:, None]
    kernel_of(reader).assign(kernel.reshape(kernel_of(reader).shape))
    assert equalize(model) == [("one", "two")]
    largest = np.abs(kernel_of(reader).numpy()).reshape(9, 4, 5).max(axis=(0, 2))
    assert largest[1] == 0 and largest.max() < 2 * largest[[0, 2, 3]].min()
    once = [weight.copy() for weight in model.get_weights()]
    equalize(model)
    assert all(map(np.array_equal, once, model.get_weights()))


def test_three_bits_lose_less() -> None:
    model, x = uneven_cnn(1, 200)
    logits = model(x).numpy()
    lost = {}
    for even in (False, True):
        start = map_weights(model, MappingConfig(equalize=even))[0]
        config = QuantizationConfig(weight_bits=3, granularity="per-channel", activation_bits=8)
        lost[even] = np.linalg.norm(quantize_model(start, config, x).model.predict(x, verbose=0) - logits)
    assert lost[True] < 0.8 * lost[False], lost


@pytest.mark.parametrize("between", ["relu6", "branch", "output", "nothing"])
def test_what_does_not_pass_a_factor_on_is_left_alone(between: str) -> None:
    layers, keras = runtime().keras.layers, runtime().keras
    inputs = keras.Input((5,))
    x = layers.Dense(6, name="one")(inputs)
    if between == "relu6":
        x = layers.ReLU(max_value=6.0)(x)
    y = layers.Dense(3, name="two")(x)
    outputs = y
    if between == "branch":
        outputs = layers.Concatenate()([y, layers.Dense(2, name="three")(x)])
    if between == "output":
        outputs = [y, x]
    found = equalize(keras.Model(inputs, outputs))
    assert found == ([("one", "two")] if between == "nothing" else [])
