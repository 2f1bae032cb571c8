"""Quantizer objects in a file: loaded from every format, computing the same bits, and saved again by us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import qkeras_model, weight_quantizers

from qmodels.errors import UserError
from qmodels.loading import load_model, load_model_with_notes
from qmodels.loading.quantizers import QUANTIZERS, check_quantizers, text_of
from qmodels.runtime import runtime
from qmodels.storage import save_model

#: Every quantizer that hls4ml reads, with settings away from their defaults.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("quantized_bits", {"bits": 6, "integer": 2, "alpha": 1}),
    ("quantized_bits", {"bits": 5, "symmetric": 1, "keep_negative": False, "alpha": 1.0}),
    ("quantized_bits", {"bits": 4, "alpha": "auto_po2"}),
    ("quantized_bits", {"bits": 7, "integer": 1, "alpha": 0.25, "qnoise_factor": 1.0}),
    ("quantized_relu", {"bits": 6}),
    ("quantized_relu", {"bits": 6, "integer": 1, "negative_slope": 0.125}),
    ("quantized_relu", {"bits": 8, "integer": 3, "relu_upper_bound": 1.5, "use_sigmoid": 0}),
    ("quantized_relu", {"bits": 6, "use_sigmoid": 1}),
    ("quantized_tanh", {"bits": 5, "symmetric": True}),
    ("quantized_tanh", {"bits": 7, "use_real_tanh": True}),
    ("quantized_sigmoid", {"bits": 5, "symmetric": True, "use_real_sigmoid": True}),
    ("quantized_sigmoid", {"bits": 6}),
    ("quantized_ulaw", {"bits": 6, "integer": 1, "u": 100.0}),
    ("quantized_po2", {"bits": 4, "max_value": 2}),
    ("quantized_po2", {"bits": 5, "quadratic_approximation": True, "log2_rounding": "floor"}),
    ("quantized_relu_po2", {"bits": 4, "max_value": 1, "negative_slope": 0.5}),
    ("binary", {"alpha": 1.0}),
    ("binary", {"use_01": True, "alpha": 0.5}),
    ("ternary", {"alpha": 1, "threshold": 0.4}),
    ("ternary", {"number_of_unrolls": 3}),
]
Store = Callable[[Any, Path], Path]
SAVED_AGAIN: set[str] = set()  # models as JSON


def values() -> Any:
    return np.random.default_rng(0).normal(0, 1.5, (64, 4, 4, 1)).astype(np.float32)


def quantizer(name: str, settings: dict[str, Any]) -> Any:
    return getattr(runtime().qkeras.quantizers, name)(**settings)


def as_json(model: Any, folder: Path) -> Path:
    (folder / "own.json").write_text(model.to_json())
    model.save_weights(folder / "own.h5")
    return folder / "own.json"


def as_keras(model: Any, folder: Path) -> Path:
    model.save(folder / "own.keras")
    return folder / "own.keras"


def as_hdf5(model: Any, folder: Path) -> Path:
    model.save(folder / "own.h5")
    return folder / "own.h5"


def same_bits_twice(model: Any, path: Path, folder: Path) -> Any:
    """Load a file, save what was loaded, load that: all three compute the same."""
    loaded = load_model(path)
    x = values()
    expected = model(x).numpy()
    np.testing.assert_array_equal(loaded(x).numpy(), expected)
    if loaded.to_json() not in SAVED_AGAIN:  # of another format the same model came out: what is saved is the same
        SAVED_AGAIN.add(loaded.to_json())
        save_model(loaded, folder / "again.keras")
        again = load_model_with_notes(folder / "again.keras")
        np.testing.assert_array_equal(again.model(x).numpy(), expected)
    return loaded


@pytest.fixture(scope="module")
def every_quantizer() -> Any:
    """A branch for each case: QActivation and Activation holding the quantizer, and a QDense that uses it twice."""
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((4, 4, 1))
    flat, ends = keras.layers.Flatten()(image), []
    for number, (name, settings) in enumerate(CASES):
        two = {"kernel_quantizer": quantizer(name, settings), "activation": quantizer(name, settings)}
        x = q.QActivation(quantizer(name, settings), name=f"one{number}")(flat)
        x = keras.layers.Dense(5, name=f"plain{number}", kernel_initializer="glorot_normal")(x)
        x = keras.layers.Activation(quantizer(name, settings), name=f"two{number}")(x)
        ends.append(q.QDense(3, name=f"fc{number}", **two)(x))
    return keras.Model(image, keras.layers.Concatenate()(ends), name="own")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("store", [as_keras, as_hdf5, as_json])
def test_quantizer_objects(tmp_path: Path, every_quantizer: Any, store: Store) -> None:
    """`QActivation(quantized_relu(6))` and `Activation(quantized_relu(6))`, as tutorials write them; and in layers."""
    loaded = same_bits_twice(every_quantizer, store(every_quantizer, tmp_path), tmp_path)
    for number, (name, settings) in enumerate(CASES):
        for layer in (f"one{number}", f"two{number}"):
            quantizes = loaded.get_layer(layer)
            assert isinstance(quantizes.activation, str), "a text is read back from every format"
            assert quantizes.quantizer.get_config() == quantizer(name, settings).get_config()
        for held in ("kernel_quantizer_internal", "activation"):
            back, before = (getattr(model.get_layer(f"fc{number}"), held) for model in (loaded, every_quantizer))
            assert back.get_config() == before.get_config()


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("store", [as_keras, as_hdf5, as_json])
def test_functions_as_activations(tmp_path: Path, store: Store) -> None:
    q = runtime().qkeras
    functions = [q.hard_tanh, q.binary_tanh, q.smooth_sigmoid]
    body = [q.QActivation(function, name=f"a{number}") for number, function in enumerate(functions)]
    model = qkeras_model(*body)
    loaded = same_bits_twice(model, store(model, tmp_path), tmp_path)
    assert loaded.get_layer("a0").activation == "hard_tanh"


@pytest.fixture(scope="module")
def every_layer() -> Any:
    keras, q = runtime().keras, runtime().qkeras
    two = weight_quantizers()
    depth = {"depthwise_quantizer": two["kernel_quantizer"], "bias_quantizer": two["bias_quantizer"]}
    separable = {**depth, "pointwise_quantizer": two["kernel_quantizer"]}
    image = keras.Input((4, 4, 1))
    x = q.QConv2D(3, 2, activation=q.quantized_relu(4, 2), **two)(image)
    x = q.QDepthwiseConv2D(2, padding="same", **depth)(x)
    x = q.QConv2DBatchnorm(3, 2, padding="same", **two)(x)
    x = q.QDepthwiseConv2DBatchnorm(2, padding="same", **depth)(x)
    x = q.QSeparableConv2D(3, 2, padding="same", **separable)(x)
    x = q.QBatchNormalization()(x)
    x = keras.layers.Add()([x, q.QActivation(q.quantized_bits(6, 2, alpha=1))(x)])
    x = q.QConv1D(2, 2, **two)(keras.layers.Reshape((9, 3))(x))
    model = keras.Model(image, q.QDense(3, **two)(keras.layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("store", [as_keras, as_hdf5, as_json])
def test_every_kind_of_qkeras_layer_is_saved_and_loaded_by_us(tmp_path: Path, every_layer: Any, store: Store) -> None:
    same_bits_twice(every_layer, store(every_layer, tmp_path), tmp_path)


def test_what_was_written_differently_is_told(tmp_path: Path) -> None:
    q = runtime().qkeras
    own = load_model_with_notes(as_keras(qkeras_model(q.QActivation(q.quantized_relu(6), name="relu1")), tmp_path))
    assert own.notes == ("quantizers of activations are written as texts: relu1",)
    plain = load_model_with_notes(as_keras(qkeras_model(q.QActivation("quantized_relu(6)", name="r")), tmp_path))
    assert plain.notes == ()


def test_texts_name_only_what_is_not_the_default() -> None:
    def text(name: str, **settings: Any) -> str:
        return text_of({"class_name": name, "config": quantizer(name, settings).get_config()}, "own.h5: layer 'a'")

    assert text("quantized_relu", bits=6) == "quantized_relu(6,0)"
    assert text("quantized_bits", bits=4, alpha="auto_po2") == "quantized_bits(4,0,symmetric=True,alpha='auto_po2')"
    assert text("quantized_relu", bits=6, negative_slope=0.25) == "quantized_relu(6,0,negative_slope=0.25)"
    assert text("quantized_hswish", bits=6, relu_shift=2) == "quantized_hswish(6,0,relu_shift=2)"
    assert text("ternary", threshold=0.5) == "ternary(threshold=0.5)"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 4, "alpha": [0.5, 1.0]}, r"quantized_bits has one alpha per channel \(\[0.5, 1.0\]\); allowed: one"),
        ({"bits": 4, "scale": 2}, "quantized_bits of QKeras 0.9 has no setting 'scale'"),
    ],
)
def test_settings_that_have_no_text(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"own.h5: layer 'a': {said}"):
        text_of({"class_name": "quantized_bits", "config": settings}, "own.h5: layer 'a'")


HUGE = 99999999999999999999


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (f"quantized_bits({HUGE}, 0)", f"quantized_bits has bits={HUGE}; allowed: 1 to 64"),
        (f"quantized_relu(integer={HUGE})", f"quantized_relu has integer={HUGE}; allowed: -64 to 64"),
        ("quantized_bits(0)", "quantized_bits has bits=0; allowed: 1 to 64"),
        ("quantized_bits(4, -100)", "quantized_bits has integer=-100; allowed"),
        ("quantized_po2(60)", "quantized_po2 has bits=60; allowed: 1 to 16"),
        ("quantized_relu_po2(4, 1e300)", r"quantized_relu_po2 has max_value=1e300; allowed: -1e\+09 to 1e\+09"),
        (f"quantized_tanh(8, {'9' * 5000})", "quantized_tanh has argument 2=9999"),
        ({"class_name": "quantized_bits", "config": {"bits": HUGE}}, f"quantized_bits has bits={HUGE}"),
        ({"class_name": "quantized_bits", "config": {"bits": 10**400}}, "quantized_bits has bits=1000"),
        ({"class_name": "ternary", "config": {"alpha": float("nan")}}, "ternary has alpha=nan"),
        ("quantized_relu(9**9**9, 0)", r"quantized_relu has bits=9\*\*9\*\*9; allowed: a number$"),
        ("quantized_relu(6, 'x' * 10**10)", r"quantized_relu has integer='x' \* 10\*\*10; allowed: a number$"),
        ("ternary(alpha=open('x'))", r"ternary has alpha=open\('x'\); allowed: a number, True, False, None, or a word"),
        ({"class_name": "quantized_bits", "config": {"bits": "many"}}, "quantized_bits has bits=many; allowed: a numb"),
    ],
)
@pytest.mark.parametrize("key", ["activation", "kernel_quantizer"])
def test_numbers_out_of_all_bounds_are_told_before_anything_is_built(key: str, held: Any, said: str) -> None:
    layer = {"class_name": "QDense", "config": {"name": "fc1", key: held}}
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
    with pytest.raises(UserError, match=f"own.json: layer 'fc1': {said}"):
        check_quantizers(model, Path("own.json"))


def test_absurd_bits_in_a_file_load_no_tensorflow(tmp_path: Path) -> None:
    config = json.loads(qkeras_model().to_json())
    config["config"]["layers"][1]["config"]["activation"] = f"quantized_bits({HUGE}, 0)"
    (tmp_path / "own.json").write_text(json.dumps(config))
    code = (
        "import sys\nfrom pathlib import Path\nfrom qmodels.loading import load_model\n"
        f"try:\n    load_model(Path({str(tmp_path / 'own.json')!r}))\n"
        "except Exception as error:\n    print(error, 'tensorflow' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"layer 'grid': quantized_bits has bits={HUGE}; allowed: 1 to 64 False" in told


def test_every_quantizer_of_qkeras_is_known() -> None:
    q = runtime().qkeras.quantizers
    classes = {name for name, item in vars(q).items() if isinstance(item, type) and issubclass(item, q.BaseQuantizer)}
    assert classes - {"BaseQuantizer"} == set(QUANTIZERS)
