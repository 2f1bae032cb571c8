"""Whole networks as alkaid programs: bitsim's integers, layer by layer, on random networks and formats."""

from __future__ import annotations

import numpy as np
import pytest

from hw.accelerator import Accelerator
from hw.rtl.rtl import Interpreted
from hw.rtl.size import adders, signed_digits
from hw.rtl.translate import translate
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.lower.lowering import from_float
from hw.simulate.bitsim.program import Network
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import InputGrid
from qmodels.runtime import runtime
from tests.helpers.models import weight_quantizers
from tests.helpers.random_networks import random_model
from tests.hw.rtl.small_designs import draw

pytest.importorskip("alkaid", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")
pytestmark = pytest.mark.gxx
SAMPLES = 200
#: Of the generator's seeds those that hold every operation among them and trace in a moment.
SEEDS = {
    "io_parallel": [400_000 + n for n in (3, 5, 9, 10, 12, 13, 14, 16, 17, 18, 19, 21)] + [410_024, 410_030, 410_059],
    "io_stream": [510_000 + n for n in (1, 4, 7, 9, 10, 13, 17, 18)],
}


def branch_networks(graph) -> list[Network]:
    """The independent branches of a random model, each a network of its own."""
    whole = lower(graph)
    found = []
    for source in whole.inputs:
        own, ops = {source.index}, []
        for op in whole.ops:
            if op.out.index == source.index or any(
                getattr(op, name).index in own for name in ("source", "one", "two") if hasattr(op, name)
            ):
                own.add(op.out.index)
                ops.append(op)
        outputs = tuple(value for value in whole.outputs if value.index in own)
        traced = {name: value for name, value in whole.traced.items() if value.index in own}
        found.append(Network(tuple(ops), (source,), outputs, traced))
    return found


@pytest.fixture(scope="module", params=SEEDS)
def model(request, tmp_path_factory):
    return random_model(SEEDS[request.param], tmp_path_factory.mktemp("rtl"), request.param == "io_stream")


def raw_inputs(network: Network, x: np.ndarray) -> np.ndarray:
    unique, where = np.unique(x.astype(np.float64), return_inverse=True)
    raw = np.array([from_float(v, network.inputs[0].format) for v in unique])
    return raw[where].reshape(len(x), -1)


def test_every_layer_of_random_networks_equals_bitsim(model):
    compared, kinds = 0, set()
    simulator = BitSim.from_graph(model.graph)
    inputs = [x.astype(np.float64) for x in model.inputs(SAMPLES, 7)]  # float32 outputs would be rounded
    layers = simulator.trace(inputs)
    outputs = dict(zip(simulator.outputs, simulator.predict(inputs), strict=True))
    for network, x in zip(branch_networks(model.graph), inputs, strict=True):
        raw = raw_inputs(network, x)
        seen = tuple(network.traced.values())
        traced = translate(network, seen)
        found, at = Interpreted(traced, None).run(raw), 0
        for name, value in network.traced.items():
            expected = layers[name].reshape(SAMPLES, -1) * 2.0**value.format.fraction
            np.testing.assert_array_equal(found[:, at : at + value.size], expected, err_msg=name)
            at += value.size
        compared += found.size
        kinds |= {type(op).__name__ for op in network.ops}
        whole = Interpreted(translate(network), None).run(raw)  # fused: fewer casts, the same bits
        (out,) = network.outputs
        expected = outputs[out.layer].reshape(SAMPLES, -1) * 2.0**out.format.fraction
        np.testing.assert_array_equal(whole, expected)
    assert compared > 20_000
    assert {"Linear", "Map", "Pool", "Alias"} <= kinds


def test_a_network_of_two_inputs():
    keras = runtime().keras
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    q = runtime().qkeras
    sides = [q.QDense(3, name=f"{x.name}_hidden", **weight_quantizers(3))(x) for x in (a, b)]
    whole = q.QActivation("quantized_relu(5,2)", name="act")(keras.layers.Add(name="sum")(sides))
    model = keras.Model([a, b], q.QDense(2, name="logits", **weight_quantizers(3))(whole))
    draw(model, 3, 3)
    grid = InputGrid.join(
        [("a", (4,), InputGrid(FixedPoint(12, 4))), ("b", (2,), InputGrid(FixedPoint(5, 0, signed=False)))]
    )
    accelerator = Accelerator(model, grid=grid, exactness="reported")
    x = np.concatenate([accelerator.grid.random(500, (6,), np.random.default_rng(0)), accelerator.grid.extremes((6,))])
    rtl, expected = accelerator.rtl(), accelerator.bitsim.logits(x)
    assert len(np.unique(expected, axis=0)) > 50
    np.testing.assert_array_equal(rtl.interpreted.logits(x), expected)
    with pytest.raises(UserError, match="shape"):
        rtl.interpreted.logits(x[:, :5])


def test_softmax_is_refused_by_its_name(tmp_path):
    network = lower(random_model([400_011], tmp_path / "softmax").graph)
    with pytest.raises(UserError, match="layer 'n400011_softmax0': no RTL for softmax"):
        translate(network)


def test_the_size_is_told_before_anything_is_made(model):
    for network in branch_networks(model.graph):
        size = adders(network)
        operations = len(translate(network).logic.ops)
        assert size >= 0
        if operations > 60:  # a handful of quantizers is no size to speak of
            assert operations < 12 * size + 200


def test_signed_digits_are_the_fewest():
    assert signed_digits(np.array([0, 1, 2, 3, 7, -7, 11, 15, 21, 255, -128])).tolist() == [
        0,
        1,
        1,
        2,
        2,
        2,
        3,
        2,
        3,
        2,
        1,
    ]
