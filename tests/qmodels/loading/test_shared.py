"""A layer that is called several times becomes several layers: the same outputs, and hardware for each call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.conversion import spread
from helpers.own_models import act, both

from hw.generate.contract import contract
from qmodels.loading import load_model, load_model_with_notes
from qmodels.runtime import runtime


def siamese() -> Any:
    """Two inputs through one branch, which is called thrice; a call's result is used twice, and is an output too."""
    keras, q = runtime().keras, runtime().qkeras
    ports = [keras.Input((4,), name=name) for name in ("left", "right")]
    branch, again = q.QDense(4, **both(6), name="branch"), q.QActivation("quantized_relu(6, 2)", name="again")
    sides = [again(branch(act("quantized_bits(8, 2, alpha=1)")(port))) for port in ports]
    third = again(branch(keras.layers.Add()(sides)))
    return spread(keras.Model(ports, keras.layers.Concatenate()([*sides, third]), name="own"))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["own.keras", "own.h5"])
def test_the_outputs_are_the_same(tmp_path: Path, name: str) -> None:
    model = siamese()
    model.save(tmp_path / name)
    loaded = load_model_with_notes(tmp_path / name)
    assert "called several times, so a layer with the same weights for every call: branch, again" in loaded.notes
    assert {"branch", "branch_2", "branch_3", "again_2", "again_3"} <= {layer.name for layer in loaded.model.layers}
    x = [np.random.default_rng(seed).normal(size=(20, 4)).astype(np.float32) for seed in (0, 1)]
    np.testing.assert_array_equal(loaded.model(x), model(x))
    assert loaded.model.input_names == ["left", "right"]
    assert not any("called" in str(found) for found in contract(loaded.model))


def test_a_shared_layer_at_the_end(tmp_path: Path) -> None:
    keras = runtime().keras
    source, layer = keras.Input((3,)), keras.layers.Dense(3, activation="relu", name="twice")
    model = spread(keras.Model(source, layer(layer(source))))
    model.save(tmp_path / "own.keras")
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_model(tmp_path / "own.keras")(x), model(x))
