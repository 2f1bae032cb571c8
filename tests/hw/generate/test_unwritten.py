"""Graphs of hls4ml's users: what it writes no C++ for, and what its writer leaves behind in the process."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from hw.accelerator import Accelerator
from hw.generate.convert import legacy_keras, quiet
from hw.generate.writing import write_project
from hw.simulate.bitsim import BitSim
from qmodels.errors import UserError
from qmodels.runtime import runtime

CASES = [
    ("ternary", "Vitis", (4,), "TernaryTanh"),
    ("depthwise", "Quartus", (4, 4, 2), "DepthwiseConv2D"),
]


def graph_of(kind: str, backend: str, shape: tuple[int, ...]) -> Any:
    """hls4ml's own graph of rounded inputs and one layer, without our contract."""
    libraries = runtime()
    keras, qkeras = libraries.keras, libraries.qkeras
    x = keras.Input(shape)
    rounded = qkeras.QActivation("quantized_bits(8,2,alpha=1)", name="rounded")(x)
    layers = {
        "ternary": qkeras.QActivation("ternary(alpha=1,threshold=0.5)", name="odd"),
        "depthwise": keras.layers.DepthwiseConv2D(2, name="odd"),
        "dense": keras.layers.Dense(2, name="plain"),
    }
    with legacy_keras(), contextlib.redirect_stdout(io.StringIO()):
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        model = keras.Model(x, layers[kind](rounded))
        config = config_from_keras_model(model, granularity="name", backend=backend)
        return convert_from_keras_model(model, hls_config=config, backend=backend, output_dir="users_own")


@pytest.mark.parametrize(("kind", "backend", "shape", "name"), CASES)
def test_a_layer_without_code_is_refused(kind: str, backend: str, shape: tuple[int, ...], name: str) -> None:
    graph = graph_of(kind, backend, shape)
    said = rf"layer 'odd' \({name}\): hls4ml writes no C\+\+ for it on {backend}"
    with pytest.raises(UserError, match=said):
        Accelerator.from_hls4ml(graph).compile()
    if backend == "Vitis":
        with pytest.raises(UserError, match=said):
            BitSim.from_graph(graph)


def test_a_project_that_its_user_wrote_first_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hls4ml's writer tells PyYAML to store every later model in the folder of the first project."""
    monkeypatch.chdir(tmp_path)
    graph = graph_of("dense", "Vitis", (4,))
    with legacy_keras(), quiet():
        graph.write()
    assert Path("users_own/keras_model.keras").is_file()
    monkeypatch.chdir("/")
    config = graph.config.config | {"Stamp": None}  # which each writing draws anew
    assert write_project(graph).files["hls4ml_config.yml"]
    assert graph.config.config | {"Stamp": None} == config  # and the graph is as it was
    assert not Path("users_own").exists()
