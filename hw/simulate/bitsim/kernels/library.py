"""The compiled kernels: built once a machine with g++, kept in the user's cache, loaded with ctypes."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from string import Template

from hw.simulate.bitsim.codes import SHARED
from hw.tools.cache import build_once, discard
from hw.tools.toolchain import GXX, run_gxx
from qmodels.digest import digest
from qmodels.errors import ToolMissing, UserError

SOURCES = Path(__file__).parent
ISA_VARIABLE = "ROBUST_HLS_ISA"

#: Without contraction: a product and a sum are rounded apart on every machine.
_COMMON = [
    *("-std=c++20", "-O3", "-fPIC", "-shared", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
]


@dataclass(frozen=True)
class InstructionSet:
    """Instructions to compile for: g++'s options, and what Linux calls them in /proc/cpuinfo."""

    flags: list[str]
    needs: frozenset[str] = frozenset()


_AVX2 = InstructionSet(["-mavx2", "-mfma"], frozenset({"avx2", "fma"}))
_AVX512VNNI = InstructionSet(
    [*_AVX2.flags, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"],
    _AVX2.needs | {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
)
X86 = {
    "avx2": _AVX2,
    "avxvnni": InstructionSet([*_AVX2.flags, "-mavxvnni"], _AVX2.needs | {"avx_vnni"}),
    "avx512vnni": _AVX512VNNI,
    "amx": InstructionSet(
        [*_AVX512VNNI.flags, "-mamx-tile", "-mamx-int8"], _AVX512VNNI.needs | {"amx_tile", "amx_int8"}
    ),
    # for tests on machines without AMX: its tiles in plain C++
    "amx_emulated": InstructionSet([*_AVX512VNNI.flags, "-DBITSIM_TILES_EMULATED"], _AVX512VNNI.needs),
}
ARM = {
    "neon": InstructionSet(["-march=armv8-a"]),
    "neondot": InstructionSet(["-march=armv8.2-a+dotprod"], frozenset({"asimddp"})),
    "neoni8mm": InstructionSet(["-march=armv8.2-a+dotprod+i8mm"], frozenset({"asimddp", "i8mm"})),
}
_ON_ARM = platform.machine().lower() in ("aarch64", "arm64")
#: What may be forced through ROBUST_HLS_ISA on this kind of machine. All of them give the same bits.
ISAS = {
    "native": InstructionSet(["-mcpu=native" if _ON_ARM else "-march=native"]),  # on ARM Apple's clang knows only this
    "portable": InstructionSet(["-DBITSIM_PORTABLE"]),
    **(ARM if _ON_ARM else X86),
}
#: `address,undefined,float-cast-overflow`: kernels that stop at the first access beside an array, or undefined result
#: (benchmarks/sanitize.py).
SANITIZE_VARIABLE = "ROBUST_HLS_BITSIM_SANITIZE"
_SANITIZERS = ("address", "undefined", "float-cast-overflow")
_SANITIZED = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]


@functools.cache
def processor_text() -> str:
    """The processor, as far as code generation cares: a cache shared between machines must not mix them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("flags", "model name", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def missing_instructions(isa: str) -> list[str]:
    """What this processor lacks for an instruction set, by /proc/cpuinfo's names; none where there is no such file."""
    words = set(processor_text().split())
    return sorted(ISAS[isa].needs - words) if Path("/proc/cpuinfo").exists() else []


def forced_isa() -> str:
    """The instruction set that ROBUST_HLS_ISA names; `native` without it.

    Raises:
        UserError: an unknown one, or one that this processor lacks.
    """
    isa = os.environ.get(ISA_VARIABLE) or "native"
    if isa not in ISAS:
        raise UserError(f"{ISA_VARIABLE}={isa}: allowed are {', '.join(ISAS)}")
    if missing := missing_instructions(isa):
        usable = ", ".join(name for name in ISAS if not missing_instructions(name))
        raise UserError(f"{ISA_VARIABLE}={isa}: this processor lacks {', '.join(missing)}; it can run {usable}")
    return isa


def sanitizer_flags() -> list[str]:
    """g++'s options for the sanitizers that ROBUST_HLS_BITSIM_SANITIZE names; none without it.

    Raises:
        UserError: an unknown one, or `address` without its library in LD_PRELOAD, which would end this process.
    """
    wanted = os.environ.get(SANITIZE_VARIABLE, "")
    if not wanted:
        return []
    if not set(wanted.split(",")) <= set(_SANITIZERS):
        raise UserError(f"{SANITIZE_VARIABLE}={wanted}: allowed are {', '.join(_SANITIZERS)}")
    if "address" in wanted and "libasan" not in os.environ.get("LD_PRELOAD", ""):
        raise UserError(f"{SANITIZE_VARIABLE}={wanted}: LD_PRELOAD must name libasan.so; use benchmarks/sanitize.py")
    return [*_SANITIZED, f"-fsanitize={wanted}"]


def codes_header() -> str:
    """The C++ side of bitsim/codes.py: a namespace of constants for every enum."""
    template = Template((SOURCES / "codes.h.template").read_text(encoding="utf-8"))

    def constants(enum: type[IntEnum]) -> str:
        members = ", ".join(f"{member.name} = {member.value}" for member in enum)
        return template.substitute(what=str(enum.__doc__).splitlines()[0], name=enum.__name__, members=members)

    return "".join(map(constants, SHARED))


def build(isa: str = "native", source: Path = SOURCES / "bitsim.cpp") -> Path:
    """The library for these sources, flags and this processor, compiled unless it is there.

    Args:
        isa: the instruction set, a key of `ISAS`.
        source: the file to compile; it may include those beside bitsim.cpp.

    Raises:
        ToolMissing: g++ is missing or fails; its first error is shown. g++ 12 or newer is needed, or clang++.
    """
    flags = [*_COMMON, *ISAS[isa].flags, *sanitizer_flags()]
    texts = sorted({source, *SOURCES.glob("*.h"), *source.parent.glob("*.h")})
    header = codes_header()
    sources = [text.name.encode() + b"\0" + text.read_bytes() for text in texts]
    key = digest("\0".join([*flags, processor_text()]), *sources, header)

    def compile_into(work: Path, final: Path) -> None:
        (work / "codes.h").write_text(header, encoding="utf-8")
        run_gxx([[*flags, f"-I{work}", f"-I{SOURCES}", "-o", str(work / f"{source.stem}.so"), str(source)]], work)

    return build_once(source.stem, f"{isa}-{key}", compile_into) / f"{source.stem}.so"


@functools.cache
def _open(isa: str, source: Path) -> ctypes.CDLL:
    path = build(isa, source)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        discard(path.parent)  # whole, and still no library: another compiler may do better
        raise ToolMissing(
            f"what g++ wrote cannot be loaded ({error}); check {GXX.variable} and {ISA_VARIABLE}, run again"
        ) from None


def load_source(source: Path) -> ctypes.CDLL:
    """Another library of the same instructions (isa.h), built and kept as the kernels are."""
    return _open(forced_isa(), source)


@functools.cache
def _load(isa: str) -> ctypes.CDLL:
    lib = _open(isa, SOURCES / "bitsim.cpp")
    lib.bitsim_isa.restype = ctypes.c_char_p
    if isa == "amx" and lib.bitsim_isa() != b"amx":
        raise UserError(f"{ISA_VARIABLE}=amx: the system does not let this process use the tiles; unset the variable")
    lib.bitsim_tiles_always(isa.startswith("amx"))  # by default only where they are faster than vectors
    lib.bitsim_create.restype = ctypes.c_void_p
    lib.bitsim_create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    lib.bitsim_destroy.argtypes = [ctypes.c_void_p]
    lib.bitsim_destroy.restype = None
    lib.bitsim_peak.restype = ctypes.c_int64
    lib.bitsim_peak.argtypes = [ctypes.c_int, ctypes.c_int64]
    lib.bitsim_run.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int64,
    ]
    return lib


def load() -> ctypes.CDLL:
    """The kernels for this machine, or for the instruction set that ROBUST_HLS_ISA forces."""
    return _load(forced_isa())


def isa_name() -> str:
    """What the kernels use: portable, or a name of X86 or ARM. AMX only where the system permits it."""
    return str(load().bitsim_isa().decode())
