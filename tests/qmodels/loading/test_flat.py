"""Models are written out: shared layers, models in the model, layers of training; the same outputs."""

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


def test_models_in_the_model_are_opened(tmp_path: Path) -> None:
    """Two levels deep, one of them called twice, with names that occur twice."""
    keras = runtime().keras
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="relu", name="dense")], name="inner")
    outer_in = keras.Input((4,))
    outer = keras.Model(outer_in, keras.layers.Dense(4, name="dense")(inner(outer_in)), name="outer")
    source = keras.Input((4,), name="features")
    model = spread(keras.Model(source, keras.layers.Dense(2, name="dense")(outer(outer(source)))))
    model.save(tmp_path / "own.keras")
    loaded = load_model_with_notes(tmp_path / "own.keras")
    assert "models inside the model are replaced by their layers: outer, inner" in loaded.notes
    names = [layer.name for layer in loaded.model.layers]
    assert len(names) == 6 and len(set(names)) == 6 and loaded.model.input_names == ["features"]
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.model(x), model(x))
    assert not any("model in the model" in str(found) for found in contract(loaded.model))


def test_what_acts_in_training_only_is_left_out(tmp_path: Path) -> None:
    layers = runtime().keras.layers
    augmentation = runtime().keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomZoom(0.1)], name="augment")
    source = runtime().keras.Input((4, 4, 1))
    x = layers.GaussianNoise(0.5)(augmentation(source))
    x = layers.AlphaDropout(0.1)(layers.Dense(3)(layers.Flatten()(x)))
    model = spread(runtime().keras.Model(source, x))
    model.save(tmp_path / "own.keras")
    loaded = load_model_with_notes(tmp_path / "own.keras")
    kinds = [type(layer).__name__ for layer in loaded.model.layers]
    assert kinds == ["InputLayer", "Flatten", "Dense"]
    assert any(note.startswith("left out, they act in training only: random_flip") for note in loaded.notes)
    images = np.random.default_rng(0).normal(size=(20, 4, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(loaded.model(images), model(images, training=False))


def test_time_distributed_is_left_out_where_it_does_nothing(tmp_path: Path) -> None:
    layers = runtime().keras.layers
    source = runtime().keras.Input((5, 3))
    model = spread(runtime().keras.Model(source, layers.TimeDistributed(layers.Dense(4, activation="relu"))(source)))
    model.save(tmp_path / "own.keras")
    loaded = load_model(tmp_path / "own.keras")
    assert [type(layer).__name__ for layer in loaded.layers] == ["InputLayer", "Dense"]
    x = np.random.default_rng(0).normal(size=(20, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_normalization_knows_its_numbers_after_loading(tmp_path: Path) -> None:
    keras = runtime().keras
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 4)).astype(np.float32)
    adapted = keras.layers.Normalization()
    adapted.adapt(x)
    model = behind(keras, adapted)
    for name in ("own.keras", "own.h5"):
        model.save(tmp_path / name)
        np.testing.assert_array_equal(load_model(tmp_path / name)(x), model(x))


def behind(keras: Any, first: Any) -> Any:
    source = keras.Input((4,))
    return keras.Model(source, keras.layers.Dense(2)(first(source)))
