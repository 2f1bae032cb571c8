"""Files of Keras 3: the same outputs, to the last bit, as Keras 3 itself computes in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw.simulate.bitsim.kernels.library import processor_text
from hw.tools.cache import build_once
from qmodels.digest import digest
from qmodels.errors import UserError
from qmodels.loading import load_model, load_model_with_notes
from qmodels.loading.keras3 import LAYERS, is_keras3, to_keras2
from qmodels.runtime import runtime

READ = (
    *("dense.keras", "images.keras", "sequences.keras", "global_max.keras", "global_average.keras"),
    *("global_max_1d.keras", "activations.keras", "two_inputs.keras", "nested.keras", "nested.json"),
    "scaled.keras",
    *("branches.keras", "branches.h5", "branches.json", "dense.h5", "dense.json"),
    *("names.keras", "names.h5", "names.json"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models in every format, with inputs and outputs; kept while Keras 3, script and processor are the same."""
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    script = Path(__file__).with_name("keras3_models.py")
    settings = [f"{name}={value}" for name, value in sorted(environment.items()) if name.startswith(("TF_", "KERAS"))]
    versions = [sys.version, version("keras"), version("tensorflow"), version("numpy"), processor_text(), *settings]

    def make(work: Path, final: Path) -> None:
        command = [sys.executable, script, work]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)

    entry = build_once("keras3", digest("\0".join(versions), script.read_bytes()), make)
    return shutil.copytree(entry, tmp_path_factory.mktemp("keras3"), dirs_exist_ok=True)


@pytest.mark.parametrize("name", READ)
def test_outputs_are_those_of_keras_3(folder: Path, name: str) -> None:
    loaded = load_model_with_notes(folder / name)
    assert loaded.notes[0].startswith("a file of Keras 3")
    arrays = np.load((folder / name).with_suffix(".npz"))
    x = [arrays[key] for key in arrays.files if key != "y"]
    assert arrays["y"].std() > 0
    np.testing.assert_array_equal(loaded.model(x if len(x) > 1 else x[0]).numpy(), arrays["y"])


def test_names_that_tensorflow_forbids_are_changed_and_told(folder: Path) -> None:
    loaded = load_model_with_notes(folder / "names.keras")
    names = [layer.name for layer in loaded.model.layers]
    assert sorted(names) == ["first_layer", "first_layer_2", "layer_first_layer", "sum_", "the_input"]
    assert loaded.model.name == "my_net"
    assert "'first layer' is now 'first_layer_2'" in loaded.notes[1]
    assert "TensorFlow allows letters, digits and . _ - / > \\ in names" in loaded.notes[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lstm.keras", "a Keras 3 file: layer 'memory' is a LSTM, which is not read; read are: InputLayer, Dense, "),
        ("hard.keras", "a Keras 3 file: layer 'fc' has activation 'hard_sigmoid', which is another one in Keras 2"),
        ("half.keras", "a Keras 3 file: layer 'fc' computes in mixed_float16; only float32 is read"),
        ("lambda.keras", "layer 'payload' is a Lambda, which would run code from the file; it is not loaded"),
        ("lambda.h5", "layer 'payload' is a Lambda, which would run code from the file; it is not loaded"),
        ("lambda.json", "layer 'payload' is a Lambda, which would run code from the file; it is not loaded"),
        ("nested.h5", "a model inside a model, which is read from .keras files only; save it with model.save()"),
    ],
)
def test_what_is_not_read_is_told(folder: Path, name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_model(folder / name)
    assert str(caught.value).startswith(f"{folder / name}: ")
    assert said in str(caught.value)
    if "Keras 3 file" in said:
        assert "TF_USE_LEGACY_KERAS=1, import tf_keras) or QKeras" in str(caught.value)
        assert str(caught.value).endswith("Accelerator.from_hls4ml")


def layer(kind: str, **settings: Any) -> dict[str, Any]:
    config = {"name": "a", "dtype": "float32", **settings}
    layers = [{"module": "keras.layers", "class_name": kind, "config": config}]
    return {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (layer("Dense", units=2, lora_rank=4), r"layer 'a' \(Dense\) has lora_rank=4, which Keras 2 lacks"),
        (layer("BatchNormalization", renorm=True), r"layer 'a' \(BatchNormalization\) has renorm=True"),
        (layer("Dense", activation={"class_name": "LeakyReLU", "config": {}}), "layer 'a' has activation 'LeakyReLU'"),
        (layer("HDense") | {"x": 0}, "layer 'a': 'HDense' is no class or function of Keras"),
    ],
)
def test_settings_that_keras_2_lacks(model: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        to_keras2(model, Path("own.keras"))


def test_a_layer_of_hgq2_is_told_as_such() -> None:
    """HGQ2 registers layers under the names of QKeras."""
    model = layer("QDense")
    model["config"]["layers"][0] |= {"module": "hgq.layers.core.dense", "registered_name": "hgq>QDense"}
    with pytest.raises(UserError, match=r"'QDense' comes from module 'hgq.layers.core.dense'.*HGQ.*from_hls4ml"):
        to_keras2(model, Path("own.keras"))


def test_the_version_decides_and_without_it_the_words() -> None:
    two = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4]}}
    three = {"class_name": "InputLayer", "config": {"batch_shape": [None, 4]}}
    assert [is_keras3(two, version) for version in ("2.21.0", "2.4.0-tf", "3.0.0", None)] == [False, False, True, False]
    assert is_keras3(three, None)


def test_every_layer_that_is_read_is_one_of_keras_2_too() -> None:
    assert all(hasattr(runtime().keras.layers, name) for name in LAYERS)
