"""hls4ml's own YAML: what is taken over, what is told to be left, and what is refused with one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.cli import Cli
from helpers.models import weight_quantizers

from hw.cli.flow import hls4ml_settings
from hw.experiment.config import load_config
from hw.generate.convert import legacy_keras
from hw.generate.hls4ml_yaml import read_hls4ml_yaml
from hw.generate.reuse import plan_layers
from qmodels.errors import UserError
from qmodels.runtime import runtime


def read(folder: Path, text: str) -> tuple[dict[str, Any], list[str]]:
    (folder / "mine.yml").write_text(text)
    return read_hls4ml_yaml(folder / "mine.yml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BitExact: false\n", "BitExact is false: hls4ml would drop QActivation layers"),
        ("HLSConfig: {Model: {BitExact: false}}\n", "HLSConfig.Model.BitExact is false: hls4ml would drop"),
        ("[1, 2]\n", "not an hls4ml configuration"),
        ("HLSConfig: 3\n", "HLSConfig: must be a section of `key: value` lines; got 3"),
        ("HLSConfig: {Model: fast}\n", "HLSConfig.Model: must be a section of `key: value` lines; got 'fast'"),
        ("HLSConfig: {LayerName: [a]}\n", r"HLSConfig.LayerName: must be a section .*; got \['a'\]"),
        ("HLSConfig: {LayerName: {d: 3}}\n", "HLSConfig.LayerName.d: must be a section"),
        ("HLSConfig: {LayerName: {1: {ReuseFactor: 2}}}\n", "HLSConfig.LayerName: layer name '1' cannot be used"),
        ("AcceleratorConfig: pynq\n", "AcceleratorConfig: must be a section"),
        ("ProjectName: 2024-01-01\n", "ProjectName: must be a word or a number .*; got datetime.date"),
        ("HLSConfig: {Model: {ReuseFactor: [1]}}\n", r"HLSConfig.Model.ReuseFactor: must be a word or a number"),
        (
            "HLSConfig: {Model: {Strategy: Resource_Unrolled}}\n",
            r"HLSConfig.Model.Strategy: 'Resource_Unrolled' is not offered \(allowed: Latency, Resource\)",
        ),
        ("HLSConfig: {LayerName: {d: {Strategy: distributed_arithmetic}}}\n", "LayerName.d.Strategy: 'distributed_ar"),
        ("a: {\n", "not a readable hls4ml configuration"),
    ],
)
def test_a_wrong_one_is_told_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"mine\.yml: .*{said}"):
        read(tmp_path, text)


@pytest.mark.parametrize("backend", ["oneAPI", "Libero"])
def test_a_backend_that_nothing_here_can_simulate_is_told(cli: Cli, backend: str) -> None:
    (cli.folder / "mine.yml").write_text(f"Backend: {backend}\n")
    message = cli.refuses("generate", "--hls-config", "mine.yml")
    assert f"hardware.backend: '{backend}' is not offered: its C simulation needs" in message
    assert "(allowed: Vitis, Vivado, VivadoAccelerator, Quartus, Catapult)" in message


def test_every_key_without_a_place_is_told(tmp_path: Path) -> None:
    settings, ignored = read(
        tmp_path,
        """
Part: xc7z020clg400-1
XilinxPart: other
1: 2
ClockUncertainty: 12%
AcceleratorConfig: {Board: pynq-z2, Interface: axi_master}
HLSConfig:
  Model: {ReuseFactor: 2, Strategy: latency, BramFactor: 3, BitExact: true}
  LayerType: {Dense: {ReuseFactor: 8}}
  Optimizers: [a]
  LayerName:
    d: {ReuseFactor: 4, Strategy: Resource, Precision: 'ap_fixed<8,2>'}
    d_quantized_bits: {ReuseFactor: 7, Strategy: Latency}
    d_2: {ReuseFactor: 3}
""",
    )
    assert (settings["part"], settings["board"], settings["reuse_factor"]) == ("xc7z020clg400-1", "pynq-z2", 2)
    assert settings["layers"] == {"d": {"reuse_factor": 4, "strategy": "resource"}, "d_2": {"reuse_factor": 3}}
    assert set(ignored) == {
        *("1", "ClockUncertainty", "AcceleratorConfig.Interface", "HLSConfig.LayerType", "HLSConfig.Optimizers"),
        *("Model.BramFactor", "d.Precision", "d_quantized_bits.ReuseFactor", "d_quantized_bits.Strategy"),
    }


def test_layers_of_the_config_stay_unless_the_yaml_names_them(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "hardware: {layers: {a: {reuse_factor: 2, weight_storage: codes}, b: {reuse_factor: 3}}}\n"
    )
    (tmp_path / "empty.yml").write_text("IOType: io_stream\n")
    (tmp_path / "named.yml").write_text("HLSConfig: {LayerName: {a: {ReuseFactor: 8}, c: {Strategy: Resource}}}\n")
    kept = load_config(tmp_path / "run.yaml", hls4ml_settings(tmp_path / "empty.yml")).hardware
    assert {name: own.reuse_factor for name, own in kept.layers.items()} == {"a": 2, "b": 3}
    merged = load_config(tmp_path / "run.yaml", hls4ml_settings(tmp_path / "named.yml")).hardware.layers
    assert {name: own.reuse_factor for name, own in merged.items()} == {"a": 8, "b": 3, "c": None}
    assert (merged["a"].weight_storage, merged["c"].strategy) == ("codes", "resource")


def test_what_hls4ml_itself_writes_for_a_qkeras_model_is_taken(tmp_path: Path) -> None:
    """Activations inside layers, a softmax among them, and an own factor for one layer."""
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((4, 4, 2), name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    four = q.quantized_bits(4, 0, alpha=1)
    x = q.QSeparableConv2D(3, 3, depthwise_quantizer=four, pointwise_quantizer=four, bias_quantizer=four, name="sep")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = q.QDense(4, activation="quantized_relu(4,1)", name="d", **weight_quantizers())(x)
    model = keras.Model(image, q.QDense(3, activation="softmax", name="logits", **weight_quantizers())(x), name="own")
    with legacy_keras():
        from hls4ml.utils import config_from_keras_model

        theirs = config_from_keras_model(model, granularity="name", backend="Vitis")
    assert {"d_quantized_relu", "logits_softmax"} <= set(theirs["LayerName"])
    theirs["LayerName"]["d"]["ReuseFactor"] = 3
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({"Backend": "Vitis", "HLSConfig": theirs}))
    settings, ignored = read_hls4ml_yaml(tmp_path / "mine.yml")
    assert settings["layers"] == {"d": {"reuse_factor": 3}, "logits": {"reuse_factor": 1}}
    assert "d_quantized_relu.TableSize" in ignored and "grid.ReuseFactor" not in ignored
    hardware = load_config(None, hls4ml_settings(tmp_path / "mine.yml")).hardware
    assert plan_layers(model, hardware)["d"] == ("Latency", 3)
