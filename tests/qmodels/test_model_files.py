"""Users' model files: every format gives the same bits, and nothing in a file runs code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox, grid_images, qkeras_model

from qmodels.errors import UserError
from qmodels.loading import load_model
from qmodels.loading.whitelist import CLASSES, refuse_code
from qmodels.runtime import runtime

FILE = Path("own.json")


@pytest.mark.parametrize("ending", [".weights.h5", "_weights.h5", ".h5"])
def test_architecture_and_weights_come_back_with_the_same_bits(toolbox: Toolbox, tmp_path: Path, ending: str) -> None:
    model = toolbox.quantized.model
    (tmp_path / "own.json").write_text(model.to_json())
    model.save_weights(tmp_path / f"own{ending}")
    x = grid_images(50)
    np.testing.assert_array_equal(load_model(tmp_path / "own.json")(x).numpy(), model(x).numpy())


def test_weights_elsewhere(toolbox: Toolbox, tmp_path: Path) -> None:
    model = toolbox.quantized.model
    (tmp_path / "own.json").write_text(model.to_json())
    model.save_weights(tmp_path / "elsewhere.h5")
    with pytest.raises(
        UserError, match=r"own.json: its weights are missing \(looked for .*own.weights.h5, .*own.h5\); "
    ):
        load_model(tmp_path / "own.json")
    loaded = load_model(tmp_path / "own.json", tmp_path / "elsewhere.h5")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_weights_of_another_model(toolbox: Toolbox, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(toolbox.quantized.model.to_json())
    qkeras_model().save_weights(tmp_path / "own.h5")
    with pytest.raises(UserError, match=r"own.h5: does not contain the weights of .*own.json: "):
        load_model(tmp_path / "own.json")


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"layers": 1}', "\x00\x01"])
def test_a_json_that_is_no_architecture(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(UserError, match=r"own.json: not a readable .json model \(.*save it with model.to_json\(\)"):
        load_model(tmp_path / "own.json")


def test_weights_for_a_model_that_has_its_own(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.quantized.model.save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=r"own.keras contains its own weights"):
        load_model(tmp_path / "own.keras", tmp_path / "w.h5")


def test_a_python_module_beside_the_file_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack itself: a class from a module that the user has in the current folder."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "payload.py").write_text(f"open({str(tmp_path / 'evil')!r}, 'w')\nclass Flatten: ...\n")
    config = json.loads(qkeras_model().to_json())
    config["config"]["layers"][2] |= {"module": "payload", "registered_name": "payload>Flatten"}
    (tmp_path / "own.json").write_text(json.dumps(config))
    qkeras_model().save_weights(tmp_path / "own.h5")
    with pytest.raises(UserError, match="'Flatten' comes from module 'payload'"):
        load_model(tmp_path / "own.json")
    assert not (tmp_path / "evil").exists() and "payload" not in sys.modules


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"class_name": "Lambda", "config": {"name": "bad"}}, "layer 'bad' is a Lambda, which would run code"),
        ({"class_name": "__lambda__", "config": {"value": "4wEA"}}, "is a __lambda__, which would run code"),
        ({"module": "os", "class_name": "system", "config": "id"}, "comes from module 'os'"),
        ({"module": "kerasx", "class_name": "Dense"}, "comes from module 'kerasx'"),
        # in trusted modules, and harmful: downloads a file, evaluates text
        (
            {"module": "keras.utils", "class_name": "get_file", "config": {}},
            "'get_file' is no class or function of Keras",
        ),
        ({"module": "builtins", "class_name": "eval", "config": "1"}, "'eval' is no class or function of Keras"),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, "'eval' is no class or function of Keras"),
        ({"class_name": "Dense", "registered_name": "Custom>Evil"}, "'Custom>Evil' is no class or function of Keras"),
        ({"class_name": ["Dense"]}, "is no class or function of Keras"),
        ({"class_name": "TypeSpec", "config": {}}, "'TypeSpec' is no class or function of Keras"),
        ({"config": {"kernel_quantizer": "get_quantizer('x')"}}, "kernel_quantizer \"get_quantizer('x')\" names no"),
        ({"config": {"activation": "print(1)"}}, "activation 'print(1)' names no quantizer"),
    ],
)
def test_names_that_are_not_on_the_list(node: dict[str, Any], said: str) -> None:
    architecture = {
        "class_name": "Functional",
        "config": {"layers": [[{"class_name": "Dense", "config": {"x": node}}]]},
    }
    with pytest.raises(UserError) as caught:
        refuse_code(architecture, FILE)
    assert said in str(caught.value)


def test_every_listed_layer_is_one_of_keras_or_qkeras() -> None:
    """A name on the list that nobody defines could be registered by anybody."""
    keras, qkeras = runtime().keras, runtime().qkeras
    places = (keras, keras.layers, keras.initializers, keras.regularizers, keras.constraints, qkeras, qkeras.quantizers)
    places = (*places, keras.mixed_precision, qkeras.qlayers)
    missing = {name for name in CLASSES if not any(hasattr(place, name) for place in places)}
    assert missing <= {"Functional", "__tuple__"}
