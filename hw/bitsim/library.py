"""The compiled kernels: built once a machine with g++, kept in the user's cache, loaded with ctypes."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from qmodels.errors import ToolMissing, UserError

KERNELS = Path(__file__).parent / "kernels"
ISA_VARIABLE = "ROBUST_HLS_ISA"
COMPILER_VARIABLE = "ROBUST_HLS_GXX"

_COMMON = ["-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math"]
#: Instruction sets that may be forced through ROBUST_HLS_ISA. All of them give the same bits.
ISA_FLAGS = {
    "native": ["-march=native"],
    "portable": ["-DBITSIM_PORTABLE"],
    "avx2": ["-mavx2", "-mfma"],
    "avxvnni": ["-mavx2", "-mfma", "-mavxvnni"],
    "avx512vnni": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"],
}


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/robust-hls`, by default `~/.cache/robust-hls`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robust-hls"


@functools.cache
def _cpu() -> str:
    """The processor, as far as code generation cares: a cache shared between machines must not mix them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("flags", "model name", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _compiler() -> str:
    name = os.environ.get(COMPILER_VARIABLE, "g++")
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(
            f"bitsim needs a C++ compiler and {name!r} is not on PATH. Install it (Debian, Ubuntu: apt install g++) "
            f"or name one in {COMPILER_VARIABLE}."
        )
    return found


def _isa() -> str:
    isa = os.environ.get(ISA_VARIABLE) or "native"
    if isa not in ISA_FLAGS:
        raise UserError(f"{ISA_VARIABLE}={isa}: allowed are {', '.join(ISA_FLAGS)}")
    return isa


def library_path(isa: str) -> Path:
    """Where the library for these sources, flags and this processor is, or will be."""
    digest = hashlib.sha256()
    for part in (*sorted(KERNELS.iterdir()),):
        digest.update(part.name.encode() + b"\0" + part.read_bytes())
    digest.update("\0".join([*_COMMON, *ISA_FLAGS[isa], _cpu()]).encode())
    return cache_directory() / f"bitsim-{isa}-{digest.hexdigest()[:16]}.so"


def build(isa: str = "native") -> Path:
    """Compile the kernels unless they are there; ToolMissing with g++'s first error when that fails.

    Two processes may both compile; each renames its own file over the same name, so no half-written library is seen.
    """
    path = library_path(isa)
    if path.exists():
        return path
    compiler = _compiler()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".so.part")
    os.close(handle)
    command = [compiler, *_COMMON, *ISA_FLAGS[isa], "-o", name, str(KERNELS / "bitsim.cpp")]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            raise ToolMissing(
                f"{' '.join(command)} failed: {errors[0] if errors else 'no message'}. "
                "bitsim needs g++ 12 or newer (or clang++ with its extensions)."
            )
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path


@functools.cache
def _load(isa: str) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(build(isa)))
    lib.bitsim_isa.restype = ctypes.c_char_p
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
        ctypes.c_int64,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int64,
    ]
    return lib


def load() -> ctypes.CDLL:
    """The kernels for this machine, or for the instruction set that ROBUST_HLS_ISA forces."""
    return _load(_isa())


def isa_name() -> str:
    """What was compiled: portable, avx2, avxvnni or avx512vnni."""
    return str(load().bitsim_isa().decode())
