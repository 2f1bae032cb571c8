"""One object, one conversion: what is written, costed, simulated and compiled is the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox, grid_codes, qkeras_model, weight_quantizers
from helpers.random_networks import random_model, to_graph

from hw import Accelerator, HardwareConfig
from hw.generate.convert import convert, quiet
from hw.generate.writing import write_project
from qmodels.attacks import BIM
from qmodels.criteria import Deviation
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime
from qmodels.tasks import Task
from qmodels.victims import Victim

pytestmark = pytest.mark.gxx


@pytest.fixture(scope="module")
def accelerator(toolbox: Toolbox) -> Accelerator:
    """With weights stored as codes: the graph holds them only while it is written."""
    found = Accelerator(toolbox.quantized.model, HardwareConfig(backend="Vivado", weight_storage="codes"))
    found.csim = found.compile(optimize=False)  # compiled in half the time
    return found


def two_layers() -> Any:
    q = runtime().qkeras
    hidden = q.QDense(4, name="hidden", activation=q.quantized_relu(6, 2), **weight_quantizers())
    model, rng = qkeras_model(hidden), np.random.default_rng(0)
    for name in ("hidden", "logits"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([rng.choice([-0.5, 0.5], kernel.shape), bias + 0.5])
    return model


def plain_graph(folder: Path, *body: Any, shape: tuple[int, ...] = (16,), **options: Any) -> Any:
    """A float Keras model as an hls4ml user converts it: types from hls4ml's own configuration."""
    keras = runtime().keras
    keras.utils.set_random_seed(0)
    source = x = keras.Input(shape, name="features")
    for layer in body:
        x = layer(x)
    return to_graph(keras.Model(source, x, name="own"), [], folder, **options)


def test_all_bits_are_those_of_csim(accelerator: Accelerator) -> None:
    x = grid_codes(100)
    np.testing.assert_array_equal(accelerator.predict(x), accelerator.csim.logits(x))
    np.testing.assert_array_equal(accelerator.predict(IMAGE_GRID.to_values(x)), accelerator.predict(x))
    assert accelerator.name == "bitsim" and isinstance(accelerator, Victim)
    assert accelerator.logits(x).shape == (100, 10)
    assert repr(accelerator) == "Accelerator(accelerator, Vivado io_parallel, 8x8x1 -> 10)"


def test_every_layer_is_that_of_csim_and_of_the_model(accelerator: Accelerator) -> None:
    x = grid_codes(20)
    assert set(accelerator.trace(x)) == set(accelerator.trace(x, "csim"))
    assert accelerator.explain(x) is None
    assert accelerator.explain(x, "model") is None
    assert {"conv1", "conv2", "fc1", "logits"} <= set(accelerator.formats)
    assert accelerator.formats["logits"] == accelerator.bitsim.formats["logits"]


def test_simulating_and_tracing_leave_the_graph_as_it_was(accelerator: Accelerator) -> None:
    accelerator.trace(grid_codes(1), "csim")
    assert write_project(accelerator.graph, accelerator.codebooks).digest == accelerator.project.digest
    assert accelerator.project.ports.inputs == ((8, 8, 1),) and accelerator.project.ports.outputs == ((10,),)


def test_the_model_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import hls4ml.converters

    calls = []
    original = hls4ml.converters.convert_from_keras_model
    monkeypatch.setattr(
        "hls4ml.converters.convert_from_keras_model", lambda *a, **k: (calls.append(1), original(*a, **k))[1]
    )
    accelerator, x = Accelerator(two_layers()), grid_codes(5, (4, 4, 1))
    assert accelerator.cost.total("multipliers") > 0 and accelerator.project.files
    assert accelerator.explain(x) is None  # bitsim against a csim that is compiled to be traced
    assert len(calls) == 1


def test_one_flipped_weight_is_found_in_its_layer() -> None:
    accelerator, x = Accelerator(two_layers()), grid_codes(50, (4, 4, 1))
    assert accelerator.explain(x, "model") is None  # `hidden` holds its ReLU: hls4ml makes two layers of it
    kernel = accelerator.graph.graph["hidden"].weights["weight"]  # bitsim has read it, csim has not
    kernel.data[3, 2] = -kernel.data[3, 2]
    found = accelerator.explain(x)
    assert found is not None and found.layer == "hidden"
    assert found.element == (2,) and found.reference_format == accelerator.formats["hidden"]


def test_a_difference_from_the_model_is_found_in_its_layer() -> None:
    right, wrong = two_layers(), two_layers()
    kernel, bias = right.get_layer("hidden").get_weights()
    wrong.get_layer("hidden").set_weights([-kernel, bias])
    found = Accelerator.from_hls4ml(convert(wrong, HardwareConfig()).graph, right).explain(
        grid_codes(50, (4, 4, 1)), "model"
    )
    assert found is not None and found.layer == "hidden"


def test_sums_that_do_not_fit_are_counted() -> None:
    x = grid_codes(50, (4, 4, 1))
    layers = {"logits": {"precision": {"accum": "fixed<20,1>", "result": "fixed<20,4>"}}}
    narrow = Accelerator(two_layers(), HardwareConfig.model_validate({"layers": layers}))
    assert [told.setting for told in narrow.warnings] == ["precision.accum"]
    overflowing = {(row.layer, row.place): row for row in narrow.overflow_report(x) if row.wrapped}
    assert set(overflowing) == {("logits", "accumulator")}
    assert overflowing["logits", "accumulator"].of == 50 * 3
    assert not any(row.wrapped for row in Accelerator(two_layers()).overflow_report(x))


def test_a_graph_with_its_users_own_types(tmp_path: Path) -> None:
    """fixed<16,6> all over, softmax at the end: no contract, and the bits are still csim's."""
    layers = runtime().keras.layers
    body = layers.Dense(8, activation="relu", name="fc"), layers.Dense(3, activation="softmax", name="out")
    graph = plain_graph(tmp_path / "theirs", *body, project_name="jets")
    accelerator = Accelerator.from_hls4ml(graph)
    x = np.random.default_rng(0).normal(0, 2, (100, 16)).astype(np.float32)
    assert accelerator.explain(x) is None and accelerator.project.name == "jets"
    assert repr(accelerator) == "Accelerator(jets, Vitis io_parallel, 16 -> 3)"
    assert not (tmp_path / "theirs").exists() and graph.config.get_output_dir() == str(tmp_path / "theirs")
    with pytest.raises(UserError, match="this accelerator has none"):
        accelerator.explain(x, "model")
    with quiet():
        graph.write()  # by hls4ml itself, where its user wants it
    firmware = tmp_path / "theirs" / "firmware"
    for path in [*firmware.glob("*.*"), *firmware.glob("weights/*")]:
        assert path.read_bytes() == accelerator.project.files[path.relative_to(tmp_path / "theirs").as_posix()]
    assert accelerator.predict(x.astype(np.float64)).dtype == np.float64


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    model = random_model([400_000, 400_002], tmp_path, stream=False)
    accelerator = Accelerator.from_hls4ml(model.graph)
    inputs = model.inputs(20, 1)
    csim = accelerator.compile(optimize=False)
    for ours, theirs in zip(accelerator.predict(inputs), csim.predict(inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="the model has 2 inputs, got 1"):
        csim.predict(inputs[0])


def test_csim_stands_in_where_bitsim_does_not_know_a_layer(tmp_path: Path) -> None:
    layers = runtime().keras.layers
    body = layers.LSTM(3, name="memory"), layers.Dense(2, name="out")
    accelerator = Accelerator.from_hls4ml(plain_graph(tmp_path, *body, shape=(4, 2)))
    x = np.random.default_rng(0).normal(size=(20, 4, 2)).astype(np.float32)
    accelerator.csim = accelerator.compile(optimize=False)
    assert accelerator.name == "csim"
    np.testing.assert_array_equal(accelerator.trace(x)["out"], accelerator.predict(x))
    assert not accelerator.project.ports.reentrant  # the state is a static variable
    for asked in (lambda: accelerator.bitsim, lambda: accelerator.overflow_report(x)):
        with pytest.raises(UserError, match=r"'memory' \(LSTM\).*csim can"):
            asked()


def test_what_is_no_graph_is_told() -> None:
    with pytest.raises(UserError, match=r"ModelGraph.*got Functional; a Keras model goes to Accelerator"):
        Accelerator.from_hls4ml(qkeras_model())


def test_inputs_of_a_wrong_shape_are_told(accelerator: Accelerator) -> None:
    with pytest.raises(UserError, match=r"\('N', 8, 8, 1\), got \(3, 8, 8\)"):
        accelerator.csim.predict(np.zeros((3, 8, 8), np.float32))


def test_a_task_says_when_an_attack_has_succeeded(accelerator: Accelerator, toolbox: Toolbox) -> None:
    x, y = toolbox.data.test.take(20)
    task = Task("regression", Deviation(tolerance=0.5), "clean")
    weak, strong = accelerator.attack(BIM(steps=5), x, y, epsilons=[1, 32], task=task)
    clean, moved = (accelerator.logits(part) for part in (x, strong.x))
    np.testing.assert_array_equal(strong.success, np.abs(moved - clean).max(axis=1) > 0.5)
    assert weak.accuracy > strong.accuracy
