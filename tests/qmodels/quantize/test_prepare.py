"""A float model of the user's own gets what quantization needs; its outputs stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox, grid_images

from qmodels.errors import UserError
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.prepare import prepare_float
from qmodels.runtime import runtime


def _own(body: Any) -> Any:
    keras = runtime().keras
    image = keras.Input((8, 8, 1), name="picture")
    return keras.Model(image, body(keras.layers, image), name="own")


def _chain(layers: Any, image: Any) -> Any:
    x = layers.Conv2D(2, 3, activation="relu", name="conv")(image)
    return layers.Dense(3, name="last")(layers.Dense(4, activation="relu", name="fc")(layers.Flatten()(x)))


def _branch(layers: Any, image: Any) -> Any:
    one = layers.Conv2D(2, 3, padding="same", activation="relu", name="one")(image)
    two = layers.Conv2D(2, 3, padding="same", name="two")(one)
    x = layers.Activation("relu", name="both_relu")(layers.Add(name="both")([one, two]))
    return layers.Dense(3, name="last")(layers.Flatten()(x))


@pytest.mark.parametrize("body", [_chain, _branch])
def test_the_outputs_stay_and_the_model_can_be_quantized(body: Any) -> None:
    model, x = _own(body), grid_images(20)
    prepared, told = prepare_float(model)
    np.testing.assert_array_equal(prepared(x).numpy(), model(x).numpy())
    assert "the input was given a grid" in told and "became a separate layer" in told
    quantized = quantize_model(prepared, QuantizationConfig(calibration_samples=20), x)
    assert {item.layer for item in quantized.formats} >= {"last"}
    again, nothing = prepare_float(prepared)
    assert again is prepared and nothing == ""


def test_what_needs_nothing_is_left_alone(toolbox: Toolbox) -> None:
    assert prepare_float(toolbox.float_model)[0] is toolbox.float_model


def test_a_layer_that_is_used_twice_is_refused() -> None:
    def body(layers: Any, image: Any) -> Any:
        shared = layers.Conv2D(1, 3, padding="same", name="shared")
        return layers.Flatten()(shared(shared(image)))

    with pytest.raises(UserError, match="'shared' is used 2 times"):
        prepare_float(_own(body))
