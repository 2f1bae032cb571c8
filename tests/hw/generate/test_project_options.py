"""Backends, layers and hls4ml's own YAML: what is asked for is what the project has; csim of other vendors is exact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.cli import Cli
from helpers.models import Toolbox, grid_codes, qkeras_model, weight_quantizers
from pydantic import ValidationError

from hw.accelerator import Accelerator
from hw.generate.codes import choose_codebooks
from hw.generate.convert import convert
from hw.generate.hardware import HardwareConfig
from hw.generate.hls4ml_yaml import read_hls4ml_yaml
from hw.generate.reuse import nearest, plan_layers, unroll_warnings, valid_reuse_factors
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime
from qmodels.storage import save_model

SHAPE = (4, 4, 1)
BACKENDS = ("Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_every_backend_gives_a_project_with_a_test_bench_that_compares(backend: str, io_type: str) -> None:
    config = HardwareConfig(backend=backend, io_type=io_type)
    model = qkeras_model()
    project = Accelerator(model, config).project
    assert project.digest == Accelerator(model, config).project.digest
    bench = project.files["accelerator_test.cpp"].decode()
    assert bench.count("robust_hls::compare(") == 1
    assert "return robust_hls::verdict(" in bench
    assert not [path for path, content in project.files.items() if b"/robust-hls-" in content]


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("backend", "io_type"), [("Quartus", "io_parallel"), ("Catapult", "io_parallel"), ("Catapult", "io_stream")]
)
def test_the_simulation_of_another_vendors_types_is_exact(backend: str, io_type: str) -> None:
    model, config = qkeras_model(), HardwareConfig(backend=backend, io_type=io_type)
    images = grid_codes(50, SHAPE)
    np.testing.assert_array_equal(
        Accelerator(model, config).csim.logits(images), model(IMAGE_GRID.to_values(images)).numpy()
    )


def test_an_input_named_like_the_project_is_told() -> None:
    with pytest.raises(UserError, match="'image' is also the model's input"):
        Accelerator(qkeras_model(), HardwareConfig(project_name="image"))


def test_a_board_decides_the_part() -> None:
    files = Accelerator(qkeras_model(), HardwareConfig(backend="VivadoAccelerator", board="zcu102")).project.files
    assert b"xczu9eg-ffvb1156-2-e" in files["project.tcl"]
    with pytest.raises(ValidationError, match="'pynq-z2', 'zcu102'"):
        HardwareConfig(backend="VivadoAccelerator", board="pynq-z9")


def test_one_layer_may_differ(toolbox: Toolbox) -> None:
    layers = {"fc1": {"strategy": "resource", "reuse_factor": 4}}
    files = Accelerator(toolbox.quantized.model, HardwareConfig.model_validate({"layers": layers})).project.files
    structs = re.findall(
        r"struct (config\d+) : nnet::\w+ \{(.*?)\};", files["firmware/parameters.h"].decode(), re.DOTALL
    )
    resource = [text for _, text in structs if "strategy = nnet::resource" in text]
    assert len(resource) == 1
    assert "reuse_factor = 4;" in resource[0]


@pytest.mark.parametrize(("n_in", "n_out"), [(16, 3), (9, 16), (144, 16), (7, 5), (1, 1), (96, 42)])
def test_reuse_factors_are_those_of_hls4ml(n_in: int, n_out: int) -> None:
    from hls4ml.backends import get_backend

    backend = get_backend("Vitis")
    valid = valid_reuse_factors(n_in, n_out)
    assert valid == backend.get_valid_reuse_factors(n_in, n_out)
    for wanted in range(1, n_in * n_out + 3):
        assert nearest(valid, wanted) == backend.get_closest_reuse_factor(valid, wanted)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            {"fc1": {"strategy": "resource", "reuse_factor": 5}},
            r"layers.fc1.reuse_factor: 5 cannot be built.*nearest: 4 \(allowed: auto, 1, 2, 4, 8, 16, 32, 64, 128\)",
        ),
        (
            {"flatten": {"reuse_factor": 2, "weight_storage": "codes", "strategy": "latency"}},
            r"(?s)layers.flatten.strategy: has no effect, Flatten has no weights; leave it out \(allowed for: conv1, .*"
            r"layers.flatten.reuse_factor: .*layers.flatten.weight_storage: ",
        ),
        ({"fc_1": {"reuse_factor": 2}}, r"the model has no layer 'fc_1'; did you mean 'fc1'\?"),
    ],
)
def test_what_cannot_be_built_is_refused(toolbox: Toolbox, layers: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Accelerator(toolbox.quantized.model, HardwareConfig.model_validate({"layers": layers}))


def test_a_factor_for_all_that_one_layer_cannot_have_is_refused(toolbox: Toolbox) -> None:
    config = HardwareConfig(strategy="resource", reuse_factor=6)
    with pytest.raises(UserError) as refused:
        Accelerator(toolbox.quantized.model, config)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3  # conv2 (18 x 4) can
    for line, (layer, valid) in zip(
        lines, {"conv1": "1, 3, 9", "fc1": "1, 2, 4", "logits": "1, 2, 4"}.items(), strict=True
    ):
        assert f"hardware.reuse_factor: 6 cannot be built in layer {layer!r}" in line
        assert f"(allowed: auto, {valid}, " in line and "nearest: " in line


def test_auto_multiplexes_only_what_is_too_large_to_unroll() -> None:
    model = qkeras_model(runtime().qkeras.QDense(300, name="wide", **weight_quantizers()))  # 16 x 300 = 4,800 weights
    plan = plan_layers(model, HardwareConfig())
    assert plan == {"wide": ("Resource", 2), "logits": ("Latency", 1)}
    assert plan_layers(model, HardwareConfig(reuse_factor=8))["wide"] == ("Resource", 8)
    assert unroll_warnings(model, plan) == []
    (told,) = unroll_warnings(model, plan_layers(model, HardwareConfig(strategy="latency")))
    assert "layer 'wide': 4800 weights at reuse factor 1 are more than 4096 multipliers" in str(told)


def test_a_depthwise_layer_has_hls4mls_rule_too() -> None:
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((4, 4, 2), name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = q.QDepthwiseConv2D(3, depthwise_quantizer=q.quantized_bits(4, 0, alpha=1), use_bias=False, name="dw")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    model = keras.Model(image, q.QDense(3, name="logits", **weight_quantizers())(x), name="own")
    for factor in (6, 18):
        layers = {"dw": {"strategy": "resource", "reuse_factor": factor}}
        config = HardwareConfig.model_validate({"io_type": "io_stream", "layers": layers})
        assert Accelerator(model, config).project.files
    with pytest.raises(UserError, match=r"layers.dw.reuse_factor: 7 cannot be built.*nearest: 6"):
        layers = {"dw": {"strategy": "resource", "reuse_factor": 7}}
        plan_layers(model, HardwareConfig.model_validate({"io_type": "io_stream", "layers": layers}))
    with pytest.raises(UserError, match=r"hardware.strategy: resource cannot be built for depthwise layer 'dw'"):
        plan_layers(model, HardwareConfig(strategy="resource"))
    with pytest.raises(UserError, match=r"layers.dw.strategy: resource cannot be built.* or the other io_type"):
        plan_layers(model, HardwareConfig.model_validate({"layers": {"dw": {"strategy": "resource"}}}))


def test_both_halves_of_a_separable_layer_have_its_settings() -> None:
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((4, 4, 2), name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    four = {f"{name}_quantizer": q.quantized_bits(4, 0, alpha=1) for name in ("depthwise", "pointwise", "bias")}
    x = keras.layers.Flatten(name="flatten")(q.QSeparableConv2D(4, 3, name="sep", **four)(x))
    model = keras.Model(image, q.QDense(3, name="logits", **weight_quantizers())(x), name="own")

    def config(factor: int) -> HardwareConfig:
        own = {"strategy": "resource", "reuse_factor": factor, "weight_storage": "codes"}
        return HardwareConfig.model_validate({"io_type": "io_stream", "layers": {"sep": own}})

    graph = convert(model, config(2)).graph
    halves = [graph.graph[f"sep_{half}"] for half in ("depthwise", "pointwise")]
    assert [(half.get_attr("strategy").lower(), half.get_attr("reuse_factor")) for half in halves] == [
        ("resource", 2)
    ] * 2
    assert set(choose_codebooks(graph, config(2))) == {half.weights["weight"].name for half in halves}
    with pytest.raises(
        UserError, match=r"layers.sep.reuse_factor: 3 cannot be built.*nearest: 2 \(allowed: auto, 1, 2\)"
    ):
        plan_layers(model, config(3))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "all", 10**7])
def test_a_reuse_factor_is_auto_or_a_whole_number(value: object) -> None:
    with pytest.raises(ValidationError, match="must be auto or a whole number from 1 to 1000000"):
        HardwareConfig.model_validate({"reuse_factor": value})


def test_our_projects_yaml_comes_back_as_the_same_hardware(toolbox: Toolbox, tmp_path: Path) -> None:
    config = HardwareConfig.model_validate(
        {
            "backend": "Vivado",
            "io_type": "io_stream",
            "part": "xc7z020clg400-1",
            "clock_period_ns": 8,
            "project_name": "mine",
            "layers": {"fc1": {"strategy": "resource", "reuse_factor": 4}},
        }
    )
    project = Accelerator(toolbox.quantized.model, config).project
    path = tmp_path / "hls4ml_config.yml"
    path.write_bytes(project.files["hls4ml_config.yml"])
    settings, _ = read_hls4ml_yaml(path)
    again = HardwareConfig.model_validate(settings)
    assert again.layers["fc1"] == config.layers["fc1"]
    assert Accelerator(toolbox.quantized.model, again).project.digest == project.digest


def test_users_yaml_is_read_and_runs_nothing(cli: Cli) -> None:
    text = """
Backend: Vivado
KerasModel: !keras_model model.keras
Extra: !!python/object/apply:os.system ["touch evil"]
XilinxPart: xc7z020clg400-1
ClockPeriod: 10
IOType: io_stream
HLSConfig:
  Model: {Precision: 'ap_fixed<16,6>', ReuseFactor: 1, Strategy: Latency}
  LayerName:
    logits: {Strategy: Resource, ReuseFactor: 4, Precision: {weight: 'ap_fixed<8,2>'}}
"""
    (cli.folder / "mine.yml").write_text(text)
    assert "not a readable hls4ml configuration" in cli.refuses("generate", "--hls-config", "mine.yml")
    (cli.folder / "mine.yml").write_text(text.replace('Extra: !!python/object/apply:os.system ["touch evil"]', ""))
    save_model(qkeras_model(shape=(8, 8, 1), classes=10), cli.folder / "own.keras")
    outcome = cli("generate", "--model", "own.keras", "--hls-config", "mine.yml")
    assert outcome.status == 0, outcome.err
    assert (
        "are not taken over, they follow from the model's quantizers: Model.Precision, logits.Precision" in outcome.out
    )
    resolved = yaml.safe_load((cli.folder / "hls_projects" / "own" / "config.yaml").read_text())["hardware"]
    assert (resolved["backend"], resolved["part"], resolved["io_type"]) == ("Vivado", "xc7z020clg400-1", "io_stream")
    logits = resolved["layers"]["logits"]
    assert (logits["strategy"], logits["reuse_factor"]) == ("resource", 4)
    assert not (cli.folder / "evil").exists()
