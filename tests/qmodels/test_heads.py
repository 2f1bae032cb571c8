"""Probabilities at a model's end are taken off; the class that wins stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qmodels.heads import strip_probabilities
from qmodels.runtime import runtime


def model_of(*last: Any) -> Any:
    keras = runtime().keras
    image = keras.Input((4,))
    x = keras.layers.Dense(6, activation="sigmoid", name="hidden")(image)
    for layer in last:
        x = layer(x)
    return keras.Model(image, x, name="own")


FORMS = [("dense", "softmax"), ("dense", "sigmoid"), ("activation", "softmax"), ("activation", "sigmoid")]


@pytest.mark.parametrize(("form", "kind"), [*FORMS, ("softmax", "softmax")])
def test_a_head_is_taken_off(form: str, kind: str) -> None:
    layers, tf = runtime().keras.layers, runtime().tf
    dense = layers.Dense(3, activation=kind if form == "dense" else None, name="out")
    ends = {"dense": [], "activation": [layers.Activation(kind)], "softmax": [layers.Softmax()]}[form]
    model = model_of(dense, *ends)
    stripped, told = strip_probabilities(model)
    x = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    undone = (tf.nn.softmax if kind == "softmax" else tf.sigmoid)(stripped(x))
    np.testing.assert_array_equal(undone.numpy(), model(x).numpy())
    assert kind in told and not np.array_equal(stripped(x), model(x))
    assert stripped.layers[1].activation.__name__ == "sigmoid"  # inside, it stays
    clone = runtime().keras.models.model_from_json(stripped.to_json())
    clone.set_weights(stripped.get_weights())
    np.testing.assert_array_equal(clone(x), stripped(x))


def test_logits_stay_as_they_are() -> None:
    model = model_of(runtime().keras.layers.Dense(3))
    assert strip_probabilities(model) == (model, "")
