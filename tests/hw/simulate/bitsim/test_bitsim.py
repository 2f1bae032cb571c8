"""The simulator's interface, on small networks written down as data: no TensorFlow, no hls4ml."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.codes import LinearKernel
from hw.simulate.bitsim.encode.plan import plan_linear
from hw.simulate.bitsim.kernels import library
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Input, Linear, Map, Network, Value, Window
from hw.simulate.bitsim.recipes import Cast, Clamp, recipe
from hw.simulate.bitsim.scalars import ApInt, quantize
from hw.simulate.explain import FirstDifference, explain
from qmodels.errors import ToolMissing, UserError
from qmodels.formats import FixedPoint, Overflow, Rounding

PIXEL = FixedPoint(9, 1, True, Rounding.RND_CONV, Overflow.SAT)
ACTIVATION = FixedPoint(6, 2, False, Rounding.RND_CONV, Overflow.SAT)


def convolution(accumulator=None, result=None, seed=0, weight_width=3, filters=5):
    """28x... kept small: 7x6x3 image, 3x3 kernel, ReLU into six bits."""
    rng = np.random.default_rng(seed)
    accumulator = accumulator or FixedPoint(20, 8)
    result = result or accumulator
    source, wide, out = (
        Value(0, "image", (7, 6, 3), PIXEL),
        Value(1, "conv", (7, 6, filters), result),
        Value(2, "relu", (7, 6, filters), ACTIVATION),
    )
    weight = FixedPoint(weight_width, 1)
    weights = rng.integers(weight.raw_min, weight.raw_max + 1, (filters, 3, 3, 3))
    bias = rng.integers(-40, 40, filters)
    ops = (
        Input(source, 0),
        Linear(
            source,
            wide,
            Window(3, 3, 1, 1, 1, 1),
            weights,
            weight,
            bias,
            accumulator,
            recipe(Cast(accumulator, result, "conv")),
            "conv",
        ),
        Map(wide, out, recipe(Clamp(low=0), Cast(result, ACTIVATION, "relu"))),
    )
    return Network(ops, (source,), (out,), {"conv": wide, "relu": out})


def reference(network, x):
    """The same arithmetic, one Python integer at a time, casting after every product and sum."""
    linear = network.ops[1]
    acc_t, product = linear.accumulator, FixedPoint(12, 2)._replace(width=8 + linear.weight_format.fraction + 2)
    raw = np.array(
        [[quantize(int(v), FixedPoint(40, 40 - 20), PIXEL) for v in np.round(s.reshape(-1) * 2.0**20)] for s in x]
    )
    raw = np.pad(raw.reshape(-1, 7, 6, 3), ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((len(x), 7, 6, len(linear.weights)))
    for n, i, j, f in np.ndindex(out.shape):
        acc = int(linear.bias[f])
        for a, w in zip(raw[n, i : i + 3, j : j + 3].reshape(-1), linear.weights[f].reshape(-1), strict=True):
            acc = quantize(acc + quantize(int(a) * int(w), product, acc_t), acc_t, acc_t)
        result = linear.recipe.actions[0].target
        v = max(quantize(acc, acc_t, result), 0)
        out[n, i, j, f] = quantize(v, result, ACTIVATION) * ACTIVATION.lsb
    return out


def pictures(n, negative=False, seed=1):
    x = np.random.default_rng(seed).integers(0, 256, (n, 7, 6, 3)) / 256
    return (x - 0.5 if negative else x).astype(np.float32)


CASES = {
    "plain": {},
    "wraps at 9 bits": {"accumulator": FixedPoint(9, -1)},
    "saturates": {"accumulator": FixedPoint(10, 0, True, Rounding.TRN, Overflow.SAT)},
    "rounds every product": {"accumulator": FixedPoint(10, 4, True, Rounding.RND, Overflow.WRAP)},
    "rounds and saturates every sum": {"accumulator": FixedPoint(7, 2, True, Rounding.RND_CONV, Overflow.SAT_SYM)},
    "wide weights": {"weight_width": 14, "accumulator": FixedPoint(40, 12)},
    "narrow result": {"result": FixedPoint(5, 3, True, Rounding.RND_ZERO, Overflow.SAT_ZERO)},
}


@pytest.mark.gxx
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("negative", [False, True])
def test_a_convolution_equals_one_integer_at_a_time(case, negative):
    network, x = convolution(**CASES[case]), pictures(3, negative)
    expected = reference(network, x).reshape(3, -1)
    np.testing.assert_array_equal(BitSim(network).predict(x), expected)


@pytest.mark.gxx
def test_negative_pixels_in_one_block_only_fall_back_for_that_block():
    network, x = convolution(), pictures(100)
    x[50] -= 0.75
    simulator = BitSim(network)
    alone = np.concatenate([simulator.predict(x[i : i + 1]) for i in range(100)])
    np.testing.assert_array_equal(BitSim(network).predict(x), alone)


@pytest.mark.gxx
def test_new_weights_replace_the_old_and_nothing_else(monkeypatch):
    simulator = BitSim(convolution(seed=0))
    monkeypatch.setattr("hw.simulate.bitsim.simulator.lower", lambda network: network)
    simulator.update_weights(convolution(seed=9))
    np.testing.assert_array_equal(simulator.predict(pictures(20)), BitSim(convolution(seed=9)).predict(pictures(20)))
    with pytest.raises(UserError, match="same layers, shapes and formats"):
        simulator.update_weights(convolution(filters=4))


@pytest.mark.gxx
def test_the_overflow_report_counts_what_did_not_fit():
    network = convolution(result=FixedPoint(5, 3, True, Rounding.TRN, Overflow.SAT))
    x = pictures(33)
    simulator = BitSim(network)
    rows = {(row.layer, row.place): row for row in simulator.overflow_report(x)}
    wide = BitSim(convolution()).trace(x)["conv"]
    low, high = -4.0, 3.75
    assert (
        rows["conv", "result"].saturated
        == int(((np.floor(wide * 4) / 4 < low) | (np.floor(wide * 4) / 4 > high)).sum())
        > 0
    )
    assert rows["conv", "result"].wrapped == 0
    assert rows["conv", "result"].of == wide.size
    assert rows["conv", "accumulator"].saturated == rows["conv", "accumulator"].wrapped == 0
    wrapping = BitSim(convolution(accumulator=FixedPoint(9, -1))).overflow_report(x)
    assert next(row for row in wrapping if row.place == "accumulator").wrapped > 0


@pytest.mark.gxx
@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_codes_of_pixels_give_the_same_outputs_layers_and_overflows(kind):
    simulator = BitSim(convolution(result=FixedPoint(5, 3, True, Rounding.TRN, Overflow.SAT)))
    x = pictures(75, negative=kind is np.int16)
    codes = (x * 256).astype(kind)
    np.testing.assert_array_equal(simulator.predict(codes, fraction=8), simulator.predict(x))
    layers = simulator.trace(codes, fraction=8)
    for name, expected in simulator.trace(x).items():
        np.testing.assert_array_equal(layers[name], expected)
    assert simulator.overflow_report(codes, fraction=8) == simulator.overflow_report(x)


@pytest.mark.gxx
def test_trace_and_explain_name_the_first_layer_and_element_that_differ():
    simulator, x = BitSim(convolution()), pictures(4)
    one = simulator.trace(x)
    assert {name: layer.shape for name, layer in one.items()} == {"conv": (4, 7, 6, 5), "relu": (4, 7, 6, 5)}
    assert explain(one, one, simulator.formats) is None
    two = {name: layer.copy() for name, layer in one.items()}
    two["conv"][2, 1, 3, 4] += 0.5
    two["relu"][0] = -1
    found = explain(one, two, simulator.formats)
    assert isinstance(found, FirstDifference)
    assert (found.layer, found.sample, found.element) == ("conv", 2, (1, 3, 4))
    assert found.candidate == found.reference + 0.5 and found.reference_format == simulator.formats["conv"]
    assert "conv" in str(found) and "fixed<20,8" in str(found)
    with pytest.raises(UserError, match="share no layer"):
        explain({"a": x}, {"b": x}, {})


def test_low_bits_take_bytes_and_only_what_is_proved_fast_is_fast():
    linear = convolution(accumulator=FixedPoint(18, 8)).ops[1]
    assert plan_linear(linear, 0, 255).kernel is LinearKernel.INT8
    assert plan_linear(linear, -256, 255).kernel is LinearKernel.INT16
    assert plan_linear(linear, 0, 65535).kernel is LinearKernel.UINT16
    assert plan_linear(linear, 0, 65536).kernel is plan_linear(linear, -1, 32768).kernel is LinearKernel.EXACT
    assert plan_linear(replace(linear, accumulator=FixedPoint(10, 4)), 0, 255).kernel is LinearKernel.EXACT
    saturating = FixedPoint(10, 0, True, Rounding.TRN, Overflow.SAT)
    assert plan_linear(replace(linear, accumulator=saturating), 0, 255).kernel is LinearKernel.EXACT
    heavy = replace(linear, weights=np.full((5, 3, 3, 3), 127), accumulator=FixedPoint(50, 40))
    assert plan_linear(heavy, 0, 255).kernel is LinearKernel.INT16  # a pair's sum saturates vpmaddubsw
    assert plan_linear(heavy, 0, 255, quads=True).kernel is LinearKernel.INT8_WIDE
    assert plan_linear(heavy, 0, 256, quads=True).kernel is LinearKernel.INT16
    heavier = replace(heavy, weights=np.full((5, 3, 3, 3), 128))
    assert plan_linear(heavier, 0, 255, quads=True).kernel is LinearKernel.INT16
    assert plan_linear(heavy, 0, 255, may_use_bytes=False, quads=True).kernel is LinearKernel.INT16
    chunked = replace(linear, weights=np.full((5, 3, 3, 60), 3), accumulator=FixedPoint(50, 40))
    assert plan_linear(chunked, 0, 255).kernel is LinearKernel.INT8_CHUNKED


@pytest.mark.gxx
def test_long_sums_of_bytes_are_added_in_stretches():
    rng = np.random.default_rng(3)
    fmt, weight, acc = FixedPoint(8, 8, False), FixedPoint(5, 5), FixedPoint(32, 32)
    source, out = Value(0, "x", (2000,), fmt), Value(1, "fc", (7,), acc)
    weights = rng.integers(-4, 4, (7, 1, 1, 2000))
    ops = (
        Input(source, 0),
        Linear(source, out, Window(), weights, weight, np.arange(7), acc, recipe(Cast(acc, acc, "fc")), "fc"),
    )
    simulator = BitSim(Network(ops, (source,), (out,), {"fc": out}))
    assert simulator.kernels == {"fc": "int8_chunked"}
    x = rng.integers(0, 256, (35, 2000)).astype(np.float32)
    np.testing.assert_array_equal(simulator.predict(x), x @ weights.reshape(7, -1).T + np.arange(7))


@pytest.mark.gxx
@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.SAT_ZERO, Overflow.SAT_SYM])
def test_a_format_wider_than_the_machine_word_bounds_small_numbers_right(overflow):
    small, wide = FixedPoint(6, 3), FixedPoint(39, 39, False, Rounding.RND, overflow)
    source, out = Value(0, "x", (1,), small), Value(1, "y", (1,), wide)
    ops = (Input(source, 0), Map(source, out, recipe(Cast(small, wide, "y"))))
    x = np.arange(-32, 32).reshape(-1, 1) / 8.0
    expected = [[quantize(raw, small, wide)] for raw in range(-32, 32)]
    np.testing.assert_array_equal(BitSim(Network(ops, (source,), (out,), {"y": out})).predict(x), expected)


@pytest.mark.gxx
def test_wrong_inputs_are_named():
    simulator = BitSim(convolution())
    with pytest.raises(UserError, match=r"\(N, 7, 6, 3\)"):
        simulator.predict(np.zeros((2, 7, 7, 3), np.float32))
    with pytest.raises(UserError, match="1 inputs"):
        simulator.predict([pictures(1), pictures(1)])
    with pytest.raises(UserError, match="threads"):
        simulator.predict(pictures(1), threads=0)
    assert simulator.predict(pictures(0)).shape == (0, 7 * 6 * 5)


def fake_graph(class_name, backend="Vitis"):
    layer = SimpleNamespace(name="odd_one", class_name=class_name, get_attr=lambda *_: "nnet::odd_one();")
    config = SimpleNamespace(get_config_value=lambda key: {"Backend": backend, "IOType": "io_parallel"}[key])
    return SimpleNamespace(config=config, get_layers=lambda: [layer], inputs=[], outputs=[])


def test_an_unknown_layer_or_backend_is_refused_by_name_and_csim_offered():
    with pytest.raises(UserError, match=r"'odd_one' \(LSTM\).*csim"):
        lower(fake_graph("LSTM"))
    with pytest.raises(UserError, match=r"catapult.*csim"):
        lower(fake_graph("Dense", backend="Catapult"))


def test_a_missing_compiler_is_named_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"g\+\+.*apt install"):
        library.build()


def test_a_failing_compiler_shows_its_first_error(monkeypatch, tmp_path):
    script = tmp_path / "g++"
    script.write_text("#!/bin/sh\necho 'x.h:1: error: no such luck' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ToolMissing, match="no such luck"):
        library.build()
    assert list((tmp_path / "cache" / "bitsim").iterdir()) == []


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("ROBUST_HLS_ISA", "mmx")
    with pytest.raises(UserError, match="portable"):
        library.load()


def test_importing_bitsim_starts_neither_tensorflow_nor_hls4ml():
    program = "import hw.simulate.bitsim, sys; assert not {'tensorflow', 'hls4ml', 'tf_keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(("source", "expected"), [((5, 0), Rounding.TRN), ((6, 1), Rounding.TRN_ZERO)])
def test_ap_int_of_a_negative_number_is_minus_one_where_it_has_no_integer_bits(source, expected):
    # measured against csim: fuzz seeds 11000072 and 11000314; docs/hls4ml_findings.md
    assert ApInt(4, 4).rounding_from(FixedPoint(*source)) is expected
    assert ApInt(4, 4).rounding_from(FixedPoint(*source, signed=False)) is Rounding.TRN_ZERO
