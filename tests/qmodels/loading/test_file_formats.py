"""What a model file is, is known by its content; pruning wrappers are taken off; a folder is read without its graph."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.models import grid_images, qkeras_model, weight_quantizers

from qmodels.digest import file_digest
from qmodels.errors import UserError
from qmodels.layers import is_quantized
from qmodels.loading import load_model, load_model_with_notes
from qmodels.runtime import runtime

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the pruning toolkit
]
X = grid_images(32, (8, 8, 1))
WRAPPED = ["a", "both", "conv", "flat", "norm", "relu", "z"]


def assert_same(path: Path, model: Any, *notes: str) -> Any:
    loaded = load_model_with_notes(path)
    assert loaded.notes == notes
    np.testing.assert_array_equal(loaded.model(X).numpy(), model(X).numpy())
    return loaded.model


def network() -> Any:
    """Convolution, batch normalization, a model inside the model, branches of equal shape."""
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((8, 8, 1))
    x = q.QConv2D(3, 3, name="conv", **weight_quantizers(6))(image)
    x = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.Flatten(name="flat")(x)
    one, two = keras.layers.Dense(4, name="z")(x), keras.layers.Dense(4, name="a")(x)
    model = keras.Model(image, keras.layers.Concatenate(name="both")([two, one, two]), name="own")
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) - 0.3 * (w.ndim > 1) for w in model.get_weights()])
    return model


def nested() -> Any:
    keras = runtime().keras
    inner = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)], name="inner")
    shared = keras.Model(one := keras.Input((6,)), keras.layers.Dense(6)(one), name="shared")
    image = keras.Input((8, 8, 1))
    x = inner(keras.layers.Dense(8)(keras.layers.Flatten()(image)))
    return keras.Model(image, keras.layers.Add()([shared(x), shared(shared(x))]))


@pytest.mark.parametrize("name", ["own.keras", "own.hdf5", "own", "own.model"])
def test_hdf5_under_any_name(tmp_path: Path, name: str) -> None:
    model = network()
    model.save(tmp_path / "own.h5")
    (tmp_path / "own.h5").rename(tmp_path / name)
    notes = () if name == "own.hdf5" else (f"{name} is an HDF5 file, and was read as one",)
    assert_same(tmp_path / name, model, *notes)


def test_a_keras_archive_called_h5(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "own.keras")
    (tmp_path / "own.keras").rename(tmp_path / "own.h5")
    assert_same(tmp_path / "own.h5", model)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_models_inside_models(tmp_path: Path, suffix: str) -> None:
    model = nested()
    model.save(tmp_path / f"own{suffix}")
    note = "models inside the model are replaced by their layers: inner, shared"
    assert_same(tmp_path / f"own{suffix}", model, note)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_weights_under_any_name(tmp_path: Path, ending: str) -> None:
    model = network()
    (tmp_path / "own.json").write_text(model.to_json())
    model.save_weights(tmp_path / f"own{ending}")
    (tmp_path / f"own{ending}").rename(tmp_path / "mine")
    loaded = load_model(tmp_path / "own.json", tmp_path / "mine")
    np.testing.assert_array_equal(loaded(X).numpy(), model(X).numpy())


def test_a_saved_model_folder(tmp_path: Path) -> None:
    q = runtime().qkeras
    body = q.QActivation(q.quantized_relu(6), name="r")
    for number, model in enumerate((network(), qkeras_model(body, shape=(8, 8, 1)))):
        model.save(tmp_path / f"own{number}", save_format="tf")
        (tmp_path / f"own{number}" / "saved_model.pb").write_bytes(b"the graph is not read")
        notes = ("quantizers of activations are written as texts: r",) if number else ()
        assert_same(tmp_path / f"own{number}", model, *notes)


def test_folders_that_hold_no_model_of_keras_2(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder \(keras_metadata.pb is missing\); save it with model.save\('own"):
        load_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=r"is a SavedModel without Keras' own description \(keras_metadata.pb"):
        load_model(tmp_path)
    (tmp_path / "keras_metadata.pb").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="not a readable SavedModel model"):
        load_model(tmp_path)


def test_the_digest_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"1")
    before = file_digest(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert file_digest(tmp_path / "copy") == before
    (tmp_path / "copy" / "b" / "c").write_bytes(b"2")
    assert file_digest(tmp_path / "copy") != before


@pytest.mark.parametrize("store", ["own.keras", "own.h5", "own.weights.h5", "own_weights.h5"])
def test_pruning_wrappers_are_taken_off(tmp_path: Path, store: str) -> None:
    """The toolkit made the file; nothing of it is needed to read it."""
    import tensorflow_model_optimization as tfmot

    pruned = tfmot.sparsity.keras.prune_low_magnitude(network())
    path = tmp_path / store
    if "weights" in store:
        pruned.save_weights(path)
        path = tmp_path / "own.json"
        path.write_text(pruned.to_json())
    else:
        pruned.save(path)
    loaded = load_model_with_notes(path)
    (note,) = loaded.notes
    assert sorted(note.removeprefix("pruning wrappers are removed: ").split(", ")) == WRAPPED
    np.testing.assert_array_equal(loaded.model(X).numpy(), pruned(X).numpy())
    np.testing.assert_array_equal(loaded.model(X).numpy(), tfmot.sparsity.keras.strip_pruning(pruned)(X).numpy())
    assert [layer.name for layer in loaded.model.layers][1:3] == ["conv", "norm"]


def test_a_pruned_sequential_model(tmp_path: Path) -> None:
    import tensorflow_model_optimization as tfmot

    keras, q = runtime().keras, runtime().qkeras
    body = [keras.Input((8, 8, 1)), keras.layers.Flatten(), q.QDense(3, **weight_quantizers()), keras.layers.ReLU()]
    pruned = tfmot.sparsity.keras.prune_low_magnitude(keras.Sequential(body))
    pruned.save(tmp_path / "own.h5")
    loaded = load_model(tmp_path / "own.h5")
    np.testing.assert_array_equal(loaded(X).numpy(), pruned(X).numpy())
    pruned.save(tmp_path / "own", save_format="tf")
    with pytest.raises(UserError, match=r"a SavedModel of pruned layers; save it after .*strip_pruning\(model\)"):
        load_model(tmp_path / "own")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("own.tflite", b"\x1c\0\0\0TFL3", "unknown model format '.tflite'; it is a TensorFlow Lite model; allowed: "),
        ("own.pkl", b"\x80\x04", "unknown model format '.pkl'; it is a Python pickle; allowed: .keras, .h5, .json"),
        ("own.keras", b"\x93NUMPY", r"not a readable .keras model \(a NumPy array\); save it with model.save\(\)"),
        ("own.h5", b"", r"not a readable .h5 model \(an empty file\)"),
        ("own", b"text", "unknown model format ''; allowed: .keras, .h5, .json with its weights, a SavedModel folder"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_model(tmp_path / name)


@pytest.mark.parametrize(("inside", "what"), [("x/data.pkl", "a PyTorch file"), ("a.txt", "a zip archive without")])
def test_foreign_archives_are_named(tmp_path: Path, inside: str, what: str) -> None:
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        archive.writestr(inside, b"x")
    with pytest.raises(UserError, match=f"is {what}.*no Keras model; allowed: .keras"):
        load_model(tmp_path / "own.keras")


@pytest.mark.parametrize(
    "build",
    [
        lambda q: q.QConv2DBatchnorm(2, 2, **weight_quantizers()),
        lambda q: q.QDepthwiseConv2DBatchnorm(2, depthwise_quantizer="quantized_bits(4)"),
        lambda q: q.QSeparableConv2D(2, 2, depthwise_quantizer="quantized_bits(4)"),
        lambda q: runtime().keras.layers.TimeDistributed(q.QDense(2, **weight_quantizers())),
        lambda q: runtime().keras.Sequential([runtime().keras.Input((8, 8, 1)), q.QDense(2, **weight_quantizers())]),
    ],
)
def test_one_layer_with_quantized_weights_makes_a_qkeras_model(build: Any) -> None:
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((8, 8, 1))
    assert is_quantized(keras.Model(image, keras.layers.Flatten()(build(q)(image))))


def test_an_activation_alone_makes_no_qkeras_model() -> None:
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(2)(q.QActivation("quantized_relu(4)")(image))
    assert not is_quantized(keras.Model(image, x))


def rewritten(path: Path, change: Any) -> Path:
    """A `.keras` file with another architecture."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, content)
    return path


def test_weights_of_another_shape_are_told_by_layer(tmp_path: Path) -> None:
    import tensorflow_model_optimization as tfmot

    tfmot.sparsity.keras.prune_low_magnitude(network()).save(tmp_path / "own.keras")

    def other(config: Any) -> None:
        config["config"]["layers"][1]["config"]["layer"]["config"]["filters"] = 5

    with pytest.raises(UserError, match=r"layer 'conv' needs weights of shapes \[\(3, 3, 1, 5\), \(5,\)\]; the file"):
        load_model(rewritten(tmp_path / "own.keras", other))


@pytest.mark.parametrize("how", ["external link", "soft link", "external data", "huge"])
def test_an_hdf5_file_that_reaches_out_of_itself(tmp_path: Path, how: str) -> None:
    qkeras_model().save(tmp_path / "own.h5")
    with h5py.File(tmp_path / "own.h5", "a") as file:
        group = file["model_weights"]
        if how == "external link":
            group["x"] = h5py.ExternalLink("/etc/passwd", "/")
        elif how == "soft link":
            group["x"] = h5py.SoftLink("/model_weights")
        elif how == "external data":
            group.create_dataset("x", (4,), "u1", external=[("/etc/hostname", 0, 4)])
        else:
            group.create_dataset("x", (10**6, 10**6), "f4", chunks=(64, 64))
    with pytest.raises(
        UserError, match=r"own.h5: not a readable .h5 .*/model_weights/x (is a link|keeps its|has shape)"
    ):
        load_model(tmp_path / "own.h5")


def test_weights_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmodels.loading.weights.MAX_BYTES", 100)
    qkeras_model().save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=r"model.weights.h5 unpacks to \d+ bytes; at most 100 are read"):
        load_model(tmp_path / "own.keras")


def test_an_archive_in_memory_is_bounded_by_what_it_says(tmp_path: Path) -> None:
    """Two gigabytes of spaces take two megabytes in a zip."""
    with zipfile.ZipFile(tmp_path / "own.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("config.json", "w", force_zip64=True) as file:
            block = io.BytesIO(b" " * 2**20).getvalue()
            for _ in range(100):
                file.write(block)
    with pytest.raises(UserError, match=r"config.json unpacks to 104857600 bytes; at most 33554432 are read"):
        load_model(tmp_path / "own.keras")
