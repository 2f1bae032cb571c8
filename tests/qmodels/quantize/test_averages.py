"""Average pooling over any number of pixels: every sum is rounded as the exact quotient is, in Keras and in bitsim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import qkeras_model, weight_quantizers

from hw.accelerator import Accelerator
from hw.generate.contract import contract
from hw.generate.hardware import HardwareConfig
from qmodels.architectures import INPUT_GRID
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.quantize.averages import unrounded_averages
from qmodels.quantize.model import check_quantizable
from qmodels.runtime import runtime


def pooled(size: tuple[int, int], bits: int, whole: bool) -> Any:
    """An average, rounded, and read off by a dense layer with weight 1."""
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((*size, 1), name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    pool = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")
    x = pool(x) if whole else keras.layers.AveragePooling2D(size, name="pool")(x)
    x = q.QActivation(f"quantized_relu({bits},0)", name="pool_relu")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    model = keras.Model(image, q.QDense(1, name="logits", **weight_quantizers())(x), name="own")
    model.get_layer("logits").set_weights([np.full((1, 1), 0.5, np.float32), np.zeros(1, np.float32)])
    return model


def images_of_every_sum(size: tuple[int, int]) -> np.ndarray[Any, Any]:
    pixels = size[0] * size[1]
    whole, rest = np.divmod(np.arange(255 * pixels + 1)[:, None], pixels)
    return (whole + (np.arange(pixels) < rest)).astype(np.uint8).reshape(-1, *size, 1)


@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize(("size", "bits", "whole"), [((3, 3), 8, False), ((3, 3), 4, True), ((5, 7), 6, True)])
def test_every_sum_is_rounded_as_the_exact_quotient(
    size: tuple[int, int], bits: int, whole: bool, io_type: Any
) -> None:
    model, images = pooled(size, bits, whole), images_of_every_sum(size)
    assert not contract(model)
    divisor = 256 * size[0] * size[1]
    quotient, rest = np.divmod(np.arange(len(images)) << bits, divisor)
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient % 2 == 1))
    exact = np.minimum(quotient + up, 2**bits - 1) / 2.0 ** (bits + 1)
    np.testing.assert_array_equal(model.predict(IMAGE_GRID.to_values(images), batch_size=4096, verbose=0)[:, 0], exact)
    np.testing.assert_array_equal(Accelerator(model, HardwareConfig(io_type=io_type)).logits(images)[:, 0], exact)


def test_an_average_that_nothing_rounds_is_told() -> None:
    keras = runtime().keras
    body = [
        keras.layers.Reshape((3, 3, 1)),
        keras.layers.AveragePooling2D(3, name="pool"),
        keras.layers.Flatten(name="flat"),
    ]
    (found,) = contract(qkeras_model(*body, shape=(3, 3, 1)))
    assert found.layer == "pool"
    assert "divides by a number that is no power of two, and nothing rounds the quotient" in str(found)
    four = [
        keras.layers.Reshape((4, 4, 1)),
        keras.layers.AveragePooling2D(4, name="pool"),
        keras.layers.Flatten(name="flat"),
    ]
    assert not contract(qkeras_model(*four))


def test_a_padded_border_counts_fewer_pixels() -> None:
    keras = runtime().keras
    image = keras.Input((5, 5, 1))
    model = keras.Model(image, keras.layers.AveragePooling2D(2, padding="same", name="pool")(image))
    assert [layer.name for layer in unrounded_averages(model, bool)] == ["pool"]


def test_a_float_model_needs_a_relu_there() -> None:
    keras = runtime().keras
    image = keras.Input((3, 3, 1))
    x = keras.layers.Activation("linear", name=INPUT_GRID)(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    with pytest.raises(UserError, match=r"layer 'pool' .* divides by no power of two; put a ReLU behind it"):
        check_quantizable(keras.Model(image, keras.layers.Dense(2)(x)))
