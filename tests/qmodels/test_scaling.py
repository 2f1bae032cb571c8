"""Layers that scale a model's inputs are taken off; what is left gives the same outputs for scaled numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.conversion import spread
from helpers.own_models import act, both, chain

from qmodels.runtime import runtime
from qmodels.scaling import scaling_layers, take_off_scaling

MEAN, VARIANCE = np.linspace(-2, 2, 6), np.linspace(0.2, 3, 6)


def layers() -> Any:
    return runtime().keras.layers


def norm() -> Any:
    return layers().BatchNormalization(name="norm_input")


FIRST = {
    "a factor": lambda: [layers().Rescaling(1 / 8)],
    "moved": lambda: [layers().Rescaling(1 / 127.5, offset=-1.0)],
    "standardized": lambda: [layers().Normalization(mean=MEAN, variance=VARIANCE)],
    "turned back": lambda: [layers().Normalization(mean=MEAN, variance=VARIANCE, invert=True)],
    "batch normalization": lambda: [norm()],
    "two of them": lambda: [layers().Rescaling(0.5, offset=0.25), layers().Normalization(mean=MEAN, variance=VARIANCE)],
}


@pytest.mark.parametrize("first", FIRST)
def test_the_rest_takes_scaled_numbers(first: str) -> None:
    model = spread(chain((6,), *FIRST[first](), layers().Dense(4, activation="relu"), layers().Dense(3)))
    x = np.random.default_rng(0).normal(size=(50, 6)) * 3
    expected = model(x.astype(np.float32))
    unscaled = take_off_scaling(model)
    (scaling,) = unscaled.scalings
    assert scaling is not None and [type(layer).__name__ for layer in unscaled.model.layers][1:] == ["Dense", "Dense"]
    found = unscaled.model(((x - scaling.offset) / scaling.divisor).astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert all(layer.name in unscaled.told for layer in model.layers[1 : 1 + len(FIRST[first]())])


def test_the_power_of_two_stays_and_the_rest_goes_into_the_first_weights() -> None:
    body = layers().ZeroPadding2D(1), layers().Conv2D(3, 3, activation="relu"), layers().Flatten(), layers().Dense(2)
    model = spread(chain((4, 4, 2), layers().Rescaling(1 / 255), *body))
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 2)).astype(np.float32)
    unscaled = take_off_scaling(model)
    (scaling,) = unscaled.scalings
    assert scaling is not None and scaling.number == 256.0
    assert "divided by 256 before the device, and the first weights by 0.996094" in unscaled.told
    np.testing.assert_allclose(unscaled.model(x / 256), model(x), rtol=1e-4, atol=1e-4)


def test_quantized_weights_are_left_alone() -> None:
    body = act("quantized_bits(9, 0, alpha=1)"), runtime().qkeras.QDense(3, **both(6))
    unscaled = take_off_scaling(spread(chain((6,), layers().Rescaling(1 / 255), *body)))
    assert unscaled.scalings[0] is not None and unscaled.scalings[0].number == pytest.approx(255)


def test_what_is_not_taken_off() -> None:
    """A layer in the middle, another axis, a factor below zero, an input that is read twice, the whole model."""
    middle = chain((6,), layers().Dense(6), layers().Rescaling(0.5), layers().Dense(2))
    rows = chain((5, 6), layers().Normalization(axis=1, mean=np.zeros(5), variance=np.ones(5)), layers().Flatten())
    turned = spread(chain((6,), norm(), layers().Dense(2)))
    turned.get_layer("norm_input").gamma.assign(-np.ones(6))
    source = runtime().keras.Input((6,))
    twice = runtime().keras.Model(source, layers().Add()([source, layers().Rescaling(0.5)(source)]))
    for model in (middle, rows, turned, twice, chain((6,), layers().Rescaling(0.5))):
        assert take_off_scaling(model).model is model and not any(scaling_layers(model).values())
