"""What is inside a model file: weights that are numbers, sizes that fit, calls that end, classes that are ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import qkeras_model
from hypothesis import given
from hypothesis import strategies as st

from qmodels.architectures import ModelConfig, build_float
from qmodels.errors import UserError
from qmodels.loading import load_model, load_model_with_notes
from qmodels.loading.limits import MAX_NUMBERS
from qmodels.runtime import runtime
from qmodels.storage import save_model

Edit = Callable[[list[dict[str, Any]]], None]


def stored(folder: Path, edit: Edit, model: Any = None) -> Path:
    """An architecture with other layers than the weights beside it."""
    model = model or qkeras_model()
    config = json.loads(model.to_json())
    edit(config["config"]["layers"])
    (folder / "own.json").write_text(json.dumps(config))
    model.save_weights(folder / "own.h5")
    return folder / "own.json"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("place", "name"), [(0, "kernel"), (1, "bias")])
def test_weights_that_are_not_finite(tmp_path: Path, value: float, place: int, name: str) -> None:
    model = qkeras_model(name="c1")
    weights = model.get_weights()
    weights[place].flat[1] = value
    model.set_weights(weights)
    save_model(model, tmp_path / "own.keras")
    size = weights[place].size
    with pytest.raises(
        UserError, match=rf"own.keras: layer c1 has weights that are not finite \(1 of {size} in {name}"
    ):
        load_model(tmp_path / "own.keras")


def test_weights_that_are_not_finite_inside_a_model_in_the_model(tmp_path: Path) -> None:
    keras = runtime().keras
    image = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="deep")])
    inner.set_weights([np.full((4, 2), np.nan), np.zeros(2)])
    save_model(keras.Model(image, inner(image)), tmp_path / "own.keras")
    with pytest.raises(UserError, match="layer deep has weights that are not finite"):
        load_model(tmp_path / "own.keras")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"units": 10**9}, "layer 'logits': units=1000000000; at most 100000000 is loaded"),
        ({"units": 10**30}, "layer 'logits': units=1000000000000000000000000000000; at most"),
        ({"units": 10**7}, r"layer 'logits': with its weights of shape \(16, 10000000\) the model has 160000000 weig"),
    ],
)
def test_layers_larger_than_memory(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    path = stored(tmp_path, lambda layers: layers[3]["config"].update(settings))
    with pytest.raises(UserError, match=f"own.json: {said}"):
        load_model(path)


def test_what_keras_refuses_is_told_by_layer_in_a_few_words(tmp_path: Path) -> None:
    path = stored(tmp_path, lambda layers: layers[3]["config"].update(units=-1))
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(caught.value).endswith(
        "QKeras model: layer 'logits': Received an invalid value for `units`, expected a positive integer. Received: "
        "units=-1"
    )


def test_a_model_of_ours_larger_than_memory() -> None:
    with pytest.raises(UserError, match=r"model: layer 'fc1/?': with its weights of shape \(16, 1000000000\)"):
        build_float(ModelConfig(architecture="mlp", hidden=(10**9,)), (4, 4, 1), 3, 0)


def test_inputs_larger_than_memory(tmp_path: Path) -> None:
    path = stored(tmp_path, lambda layers: layers[0]["config"].update(batch_input_shape=[None, 10**5, 10**5, 1]))
    with pytest.raises(UserError, match=r"layer 'image': batch_input_shape=\[None, 100000, 100000, 1\] has more than"):
        load_model(path)


def test_outputs_larger_than_memory(tmp_path: Path) -> None:
    keras = runtime().keras
    model = qkeras_model(keras.layers.Dense(4, name="fc"), keras.layers.RepeatVector(2, name="repeat"))

    def edit(layers: list[dict[str, Any]]) -> None:
        layers[4]["config"]["n"] = 5 * 10**7

    with pytest.raises(UserError, match=r"layer 'repeat' gives \(None, 50000000, 4\) numbers; at most 100000000"):
        load_model(stored(tmp_path, edit, model))


def test_seeds_and_object_numbers_are_no_sizes(tmp_path: Path) -> None:
    def edit(layers: list[dict[str, Any]]) -> None:
        layers[3]["config"]["kernel_initializer"]["config"]["initializer"]["config"]["seed"] = 2**40
        layers[3]["config"]["kernel_initializer"]["shared_object_id"] = 140_000_000_000_000

    assert load_model(stored(tmp_path, edit)).count_params() < MAX_NUMBERS


def test_too_many_layers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 6004 layers; at most 5000 are loaded"):
        load_model(stored(tmp_path, lambda layers: layers.extend([copied(layers[3], n) for n in range(6000)])))


def copied(layer: dict[str, Any], number: int) -> dict[str, Any]:
    return {**layer, "name": f"a{number}", "config": {**layer["config"], "name": f"a{number}"}}


@pytest.mark.parametrize(
    "inbound",
    [
        [[["logits", 0, 0, {}]]],
        [[["flatten", 7, 0, {}]]],
        [[["nowhere", 0, 0, {}]]],
        [[["logits", 1, 0]], [["grid", 0, 0]]],
    ],
)
def test_calls_that_never_come(tmp_path: Path, inbound: Any) -> None:
    """Keras itself looks for them for ever."""
    path = stored(tmp_path, lambda layers: layers[2].update(inbound_nodes=inbound))
    with pytest.raises(UserError, match="layers flatten, logits are called on layers that are not there, or on each"):
        load_model(path)


@pytest.mark.parametrize("name", ["fc 1", "_private", "größe", "a:0", "", "x" * 100 + "!", "1 + 1"])
def test_names_that_tensorflow_forbids(tmp_path: Path, name: str) -> None:
    def edit(layers: list[dict[str, Any]]) -> None:
        layers[2]["name"] = layers[2]["config"]["name"] = name
        layers[3]["inbound_nodes"][0][0][0] = name

    loaded = load_model_with_notes(stored(tmp_path, edit))
    (note,) = loaded.notes
    assert f"{name!r} is now {loaded.model.layers[2].name!r}" in note
    assert loaded.model.layers[2].name[0].isalpha()  # hls4ml makes it a C++ name
    x = np.random.default_rng(0).random((8, 4, 4, 1), dtype=np.float32)
    assert loaded.model(x).shape == (8, 3)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"class_name": "QDenseBatchnorm"}, "QKeras 0.9.0 lacks it: use QDense, with the batch normalization folded"),
        ({"class_name": "HGQ>HDense"}, "it is a layer of HGQ; accepted are the layers of Keras 2 and QKeras 0.9"),
        ({"class_name": "HDense", "module": "HGQ.layers"}, "it is a layer of HGQ; accepted are"),
        ({"class_name": "GarNet"}, "'GarNet' is no class or function of Keras or QKeras that is loaded here"),
        ({"class_name": "Custom>BinaryDense"}, "'Custom>BinaryDense' is no class or function of Keras or QKeras"),
        ({"class_name": "ClusterWeights"}, r"strip_clustering\(model\)"),
        ({"class_name": "QuantizeWrapperV2"}, "instead of TensorFlow's toolkit"),
    ],
)
def test_layers_of_other_packages(tmp_path: Path, layer: dict[str, Any], said: str) -> None:
    def edit(layers: list[dict[str, Any]]) -> None:
        for key in ("module", "registered_name"):
            layers[2].pop(key)
        layers[2].update(layer)

    with pytest.raises(UserError, match=f"own.json: layer 'flatten': .*{said}") as caught:
        load_model(stored(tmp_path, edit))
    assert str(caught.value).endswith("give its graph to Accelerator.from_hls4ml")


def test_code_inside_a_pruning_wrapper_is_refused(tmp_path: Path) -> None:
    inner = {"class_name": "Lambda", "config": {"name": "payload", "function": "4wEA"}}

    def edit(layers: list[dict[str, Any]]) -> None:
        layers[2].update({"class_name": "PruneLowMagnitude", "config": {"name": "flatten", "layer": inner}})

    with pytest.raises(UserError, match="layer 'payload' is a Lambda, which would run code from the file"):
        load_model(stored(tmp_path, edit))


def test_a_subclassed_model_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"class_name": "MyNet", "config": {"width": 3}}')
    with pytest.raises(
        UserError, match=r"a MyNet does not say which layers it has; only models of keras.Sequential or"
    ):
        load_model(tmp_path / "own.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"class_name":' * 5000, '{"class_name": "A", "config": ' + "[" * 900])
def test_json_that_is_nested_too_deeply(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(UserError, match=r"not a readable .json model"):
        load_model(tmp_path / "own.json")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**6) | st.text("ab_", max_size=4),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inside, max_size=3),
    max_leaves=6,
)


@given(place=st.sampled_from(["inbound_nodes", "config", "class_name", "name", "build_config"]), value=ANYTHING)
def test_an_architecture_may_hold_any_json(tmp_path_factory: pytest.TempPathFactory, place: str, value: Any) -> None:
    """It is loaded, or told in one message."""
    folder = tmp_path_factory.mktemp("any")
    path = stored(folder, lambda layers: layers[2].update({place: value}), ANY_MODEL[0] if ANY_MODEL else made())
    try:
        load_model(path)
    except UserError as error:
        assert str(path) in str(error)


ANY_MODEL: list[Any] = []


def made() -> Any:
    ANY_MODEL.append(qkeras_model())
    return ANY_MODEL[0]
