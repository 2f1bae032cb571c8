"""Batch-norm folding: the same outputs, the same names, and no layer folded that must not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.models import SMALL, Toolbox, grid_images, normalised

from qmodels.errors import UserError
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.runtime import runtime


def same_outputs(model: Any, folded: Any) -> None:
    images = grid_images(20, model.input_shape[1:])
    expected, got = model(images, training=False).numpy(), folded(images, training=False).numpy()
    # float32 rounding through up to 27 layers; a norm folded wrongly is off by whole tenths
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def settled(model: Any) -> Any:
    """Statistics that are not the initial ones."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("architecture", ["resnet8", "mobilenet_v1_025"])
def test_outputs_and_names_stay(architecture: str) -> None:
    model = normalised(SMALL[architecture])
    folded = fold_batch_norm(model)
    same_outputs(model, folded)
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers if type(layer).__name__ != "BatchNormalization"
    ]


def test_a_model_without_is_given_back(toolbox: Toolbox) -> None:
    assert fold_batch_norm(toolbox.float_model) is toolbox.float_model


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"epsilon": 0.5}])
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "Dense"])
def test_every_kind_of_layer_and_normalization(kind: str, settings: dict[str, Any]) -> None:
    keras = runtime().keras
    build: dict[str, Callable[[], Any]] = {
        "Conv2D": lambda: keras.layers.Conv2D(3, 2, name="weighted"),
        "DepthwiseConv2D": lambda: keras.layers.DepthwiseConv2D(2, depth_multiplier=2, use_bias=False, name="weighted"),
        "Dense": lambda: keras.layers.Dense(4, name="weighted"),
    }
    norm = keras.layers.BatchNormalization(**settings)
    model = keras.Sequential([keras.Input((4, 4, 2)), build[kind](), norm, keras.layers.Flatten()])
    same_outputs(settled(model), fold_batch_norm(model))


def behind_relu(x: Any) -> Any:
    layers = runtime().keras.layers
    return layers.BatchNormalization(name="norm")(layers.ReLU(name="act")(layers.Dense(3)(x)))


def behind_activation(x: Any) -> Any:
    layers = runtime().keras.layers
    return layers.BatchNormalization(name="norm")(layers.Dense(3, activation="relu")(x))


def read_twice(x: Any) -> Any:
    layers = runtime().keras.layers
    y = layers.Dense(3, name="shared")(x)
    return layers.Add()([layers.BatchNormalization(name="norm")(y), y])


def at_the_input(x: Any) -> Any:
    return runtime().keras.layers.BatchNormalization(name="norm")(x)


def over_rows(x: Any) -> Any:
    layers = runtime().keras.layers
    y = layers.Conv2D(2, 1)(layers.Reshape((2, 2, 1))(x))
    return layers.BatchNormalization(axis=1, name="norm")(y)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (behind_relu, "it follows ReLU"),
        (behind_activation, "it follows Dense with activation relu"),
        (read_twice, "the output of 'shared' is used elsewhere too"),
        (at_the_input, "it follows the input"),
        (over_rows, "it does not normalise the last axis"),
    ],
)
def test_what_cannot_be_folded_is_told(body: Callable[[Any], Any], said: str) -> None:
    keras = runtime().keras
    image = keras.Input((4,), name="image")
    with pytest.raises(UserError, match=f"layer 'norm' .* cannot be folded: {said}"):
        fold_batch_norm(keras.Model(image, body(image)))
