"""Wrong models of the user's own: told before the run folder is made; no code in a model file runs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Cli
from helpers.models import qkeras_model, weight_quantizers

from hw.generate.contract.classes import _JUDGED
from qmodels.runtime import runtime
from qmodels.storage import save_model

DIGITS = {"shape": (8, 8, 1), "classes": 10}
Build = Callable[[], Any]


def q() -> Any:
    return runtime().qkeras


def layers() -> Any:
    return runtime().keras.layers


def with_layer(build: Callable[[], Any], **last: Any) -> Build:
    return lambda: qkeras_model(build(), **DIGITS, **last)


def float_model(*body: Any, grid: str = "input_grid") -> Any:
    keras = runtime().keras
    image = keras.Input((8, 8, 1), name="image")
    x = layers().Activation("linear", name=grid)(image)
    for layer in (*body, layers().Flatten(name="flatten"), layers().Dense(10, name="logits")):
        x = layer(x)
    return keras.Model(image, x, name="own")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            with_layer(lambda: q().QDense(4, name="input", **weight_quantizers())),
            "layer 'input': the name cannot be used: hls4ml makes it a C++ name; allowed: a letter, then letters",
        ),
        (
            with_layer(lambda: q().QDense(4, name="while", **weight_quantizers())),
            "layer 'while': the name cannot be used",
        ),
        (
            with_layer(lambda: q().QDense(4, name="my-layer", **weight_quantizers())),
            "layer 'my-layer': the name cannot",
        ),
        (with_layer(lambda: layers().Activation("softmax", name="out")), "layer 'out': softmax is never bit-exact"),
        (with_layer(lambda: layers().Softmax(name="out")), "layer 'out': softmax is never bit-exact"),
        (
            lambda: qkeras_model(**DIGITS, kernel_quantizer=q().quantized_bits(4, 0, alpha="auto")),
            "layer 'logits': kernel_quantizer has alpha='auto', which hls4ml rounds differently; set alpha=1",
        ),
        (
            lambda: qkeras_model(**DIGITS, kernel_quantizer=q().quantized_bits(4, 0)),
            "layer 'logits': kernel_quantizer has alpha=",
        ),
        (
            lambda: qkeras_model(**DIGITS, kernel_quantizer=q().quantized_bits(4, 0, alpha=0.3)),
            "layer 'logits': kernel_quantizer has alpha=0.3",
        ),
        (
            lambda: qkeras_model(**DIGITS, kernel_quantizer=q().quantized_po2(4)),
            "layer 'logits': kernel_quantizer quantized_po2 is not reproduced exactly by hls4ml; allowed: ",
        ),
        (
            lambda: qkeras_model(**DIGITS, kernel_quantizer=q().binary(alpha=1)),
            "layer 'logits': kernel_quantizer binary is not reproduced exactly",
        ),
        (
            lambda: qkeras_model(**DIGITS, bias_quantizer=None),
            "layer 'logits': bias_quantizer is missing, hls4ml would use ap_fixed<16,6>; set bias_quantizer=",
        ),
        (with_layer(lambda: layers().Dense(4, name="plain")), "layer 'plain': Dense has float weights; use QDense"),
        (
            with_layer(lambda: q().QActivation("quantized_relu(6,1,0,0.25)", name="leaky")),
            "layer 'leaky': quantized_relu with negative_slope=0.25 is not reproduced exactly by hls4ml",
        ),
        (
            with_layer(lambda: q().QActivation("quantized_bits(5,1,alpha=0.5)", name="half")),
            "layer 'half': quantized_bits with alpha=0.5 is not reproduced exactly by hls4ml; set alpha=1",
        ),
        (
            with_layer(lambda: layers().Activation("tanh", name="table")),
            "layer 'table': activation tanh is not reproduced exactly by hls4ml; allowed: quantized_relu",
        ),
        (
            lambda: qkeras_model(classes=10, shape=(4, 4, 1)),
            "own.keras: takes (None, 4, 4, 1) and gives (None, 10); the data set 'digits' needs (None, 8, 8, 1)",
        ),
        (lambda: qkeras_model(shape=(8, 8, 1), classes=3), "gives (None, 3); the data set 'digits' needs"),
        (
            lambda: float_model(grid="other"),
            "model own: no layer named 'input_grid'; start the float model with Activation('linear'",
        ),
        (
            lambda: float_model(layers().Conv2D(2, 3, activation="relu", name="fused")),
            "model own: layer 'fused' (Conv2D, activation relu) cannot be quantized; allowed: Dense",
        ),
        (lambda: float_model(layers().BatchNormalization(name="norm")), "layer 'norm' (BatchNormalization"),
    ],
)
def test_a_model_that_the_accelerator_would_not_reproduce(cli: Cli, build: Build, message: str) -> None:
    save_model(build(), cli.folder / "own.keras")
    assert message in cli.refuses("generate", "--model", "own.keras", "--set", "exactness=required")


def test_an_input_that_is_not_rounded_to_the_grid(cli: Cli) -> None:
    keras = runtime().keras
    layers_ = [keras.Input((8, 8, 1)), keras.layers.Flatten(name="flat"), q().QDense(10, **weight_quantizers())]
    save_model(keras.Sequential(layers_, name="own"), cli.folder / "own.keras")
    told = cli.refuses("generate", "--model", "own.keras", "--set", "exactness=required")
    assert (
        "the first layer must be QActivation(quantized_bits(bits, integer, alpha=1)) with the format of the data"
        in told
    )
    assert "(found: 'flat')" in told


def test_a_layer_that_hls4ml_does_not_reproduce(cli: Cli) -> None:
    save_model(qkeras_model(layers().LayerNormalization(name="ln"), **DIGITS), cli.folder / "own.keras")
    told = cli.refuses("generate", "--model", "own.keras")
    assert "layer 'ln': LayerNormalization is not reproduced exactly by hls4ml; allowed: " in told


def test_a_layer_that_hls4ml_cannot_convert_after_all(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told when the project is generated: the step before is done, and the project is not there."""
    monkeypatch.setattr("hw.generate.contract.classes._JUDGED", (*_JUDGED, "LayerNormalization"))
    save_model(qkeras_model(layers().LayerNormalization(name="ln"), **DIGITS), cli.folder / "own.keras")
    outcome = cli("generate", "--model", "own.keras")
    assert outcome.status == 2
    assert "model own: hls4ml cannot convert it (" in outcome.err
    assert not (cli.folder / "hls_projects" / "own" / "hls").exists()


@pytest.mark.parametrize("layer", ["fc9", "conv1_relu", "last-0", "last-9", "flatten"])
def test_a_layer_choice_that_the_model_lacks_is_told_before_training(cli: Cli, layer: str) -> None:
    told = cli.refuses("run", "--set", f"mapping.layers=[{layer}]")
    assert f"mapping.layers: {layer!r} is no layer with weights" in told
    assert "(allowed: conv1, conv2, fc1, logits, last-1 .. last-4)" in told


def test_the_nearest_layer_is_named(cli: Cli) -> None:
    assert "did you mean 'conv1'?" in cli.refuses("run", "--set", "mapping.layers=[cnov1]")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.hidden=[8, 9]", "model: cnn4 has two convolutions and one hidden layer; got filters ["),
        ("model.hidden=[8, 9]", "hidden [8, 9]"),
        ("model.filters=[8]", "model: cnn4 has two convolutions"),
        ("model.padding=valid", "model: the images are too small for conv2 with padding valid"),
    ],
)
def test_sizes_that_do_not_fit_are_told_before_training(cli: Cli, setting: str, message: str) -> None:
    assert message in cli.refuses("run", "--set", setting, "--set", "model.kernel_size=3")


def lambda_model(marker: Path) -> Any:
    """A model whose Lambda layer writes `marker` whenever it runs."""
    keras = runtime().keras
    code = f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"
    image = keras.Input((8, 8, 1))
    x = keras.layers.Lambda(eval(code), name="payload")(image)
    return keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")  # what we test, on purpose
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_is_refused_and_its_code_not_run(cli: Cli, tmp_path_factory: Any, suffix: str) -> None:
    marker = tmp_path_factory.mktemp("marker") / "evil"
    model = lambda_model(marker)
    model.save(cli.folder / f"own{suffix}")
    assert marker.exists()  # building it ran the code: the trap works
    marker.unlink()
    told = cli.refuses("generate", "--model", f"own{suffix}")
    assert f"own{suffix}: layer 'payload' is a Lambda, which would run code from the file; it is not loaded" in told
    assert not marker.exists()


def test_a_lambda_hidden_in_a_wrapper_is_refused(cli: Cli, tmp_path_factory: Any) -> None:
    keras = runtime().keras
    image = keras.Input((8, 8, 1))
    inner = keras.layers.TimeDistributed(keras.layers.Lambda(lambda x: x, name="payload"))(image)
    keras.Model(image, inner).save(cli.folder / "own.keras")
    assert "layer 'payload' is a Lambda" in cli.refuses("generate", "--model", "own.keras")


def edit_architecture(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    edit(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, content)


def test_a_class_from_a_foreign_module_is_refused(cli: Cli) -> None:
    """Keras imports any module that the file names."""
    path = cli.folder / "own.keras"
    save_model(qkeras_model(**DIGITS), path)
    (cli.folder / "payload.py").write_text("import pathlib; pathlib.Path('evil').touch()\nclass Flatten: ...\n")

    def edit(config: dict[str, Any]) -> None:
        config["config"]["layers"][2]["module"] = "payload"

    edit_architecture(path, edit)
    told = cli.refuses("generate", "--model", "own.keras")
    assert "'Flatten' comes from module 'payload'; only Keras and QKeras classes are loaded" in told
    assert not (cli.folder / "evil").exists()


def test_a_model_that_keras_cannot_rebuild(cli: Cli) -> None:
    path = cli.folder / "own.keras"
    save_model(qkeras_model(**DIGITS), path)
    edit_architecture(path, lambda config: config["config"]["layers"][3]["config"].pop("units"))
    assert "own.keras: cannot be loaded as a Keras 2 / QKeras model: " in cli.refuses(
        "generate", "--model", "own.keras"
    )


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_a_truncated_model(cli: Cli, keep: int) -> None:
    path = cli.folder / "own.keras"
    save_model(qkeras_model(**DIGITS), path)
    path.write_bytes(path.read_bytes()[:keep])
    told = cli.refuses("generate", "--model", "own.keras")
    assert "own.keras: not a readable .keras model (" in told
    assert "save it with model.save()" in told


def test_a_model_with_damaged_weights(cli: Cli) -> None:
    path = cli.folder / "own.keras"
    save_model(qkeras_model(**DIGITS), path)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
        metadata = archive.read("metadata.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", metadata)
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(300))
    assert "own.keras: cannot be loaded as a Keras 2" in cli.refuses("generate", "--model", "own.keras")


@pytest.mark.parametrize("content", [b"", b"nothing like HDF5", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_a_damaged_h5_model(cli: Cli, content: bytes) -> None:
    (cli.folder / "own.h5").write_bytes(content)
    assert "own.h5: not a readable .h5 model (" in cli.refuses("generate", "--model", "own.h5")


def test_weights_without_their_model(cli: Cli) -> None:
    qkeras_model(**DIGITS).save_weights(cli.folder / "own.h5")
    told = cli.refuses("generate", "--model", "own.h5")
    assert "own.h5: contains only weights; save the whole model with model.save()" in told


def test_a_model_file_that_is_not_there(cli: Cli) -> None:
    assert f"model.file: {cli.folder / 'none.keras'}: no such file" in cli.refuses("run", "--model", "none.keras")


def test_a_model_file_of_another_kind(cli: Cli) -> None:
    for name in ("own.pb", "own.tflite"):
        (cli.folder / name).write_bytes(b"x")
    told = cli.refuses("run", "--model", "own.pb")
    assert "own.pb: unknown model format '.pb'; allowed: .keras, .h5" in told
    assert "own.tflite: a .tflite file is attacked as it is" in cli.refuses("run", "--model", "own.tflite")


def test_a_file_name_that_is_no_run_name_is_made_one(cli: Cli) -> None:
    """The run is named after the model; only the folder's name is adapted."""
    name = "mödel; [exec] " + "x" * 70 + ".keras"
    save_model(qkeras_model(**DIGITS), cli.folder / name)
    outcome = cli("train", "--model", name)
    assert outcome.status == 0, outcome.err
    (folder,) = (cli.folder / "hls_projects").iterdir()
    assert folder.name.startswith("m_del___exec__xxx")
    assert len(folder.name) <= 63
