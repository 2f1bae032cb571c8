"""Compiles hls4ml's C simulation. A network's weights are read when it runs, so that other weights need no compiler."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from hw.generate.project import FileTree, HlsProject
from hw.tools.cache import build_once, cache_root
from hw.tools.toolchain import GXX, run_gxx, tool_version
from qmodels.digest import digest
from qmodels.errors import ToolMissing, UserError

LIBRARY = "csim.so"
_KIND = "csim"
_WEIGHTS = "firmware/weights/"

#: As in hls4ml's build_lib.sh. GNU_UNIQUE symbols would be shared between two loaded simulations: wrong weights.
_FLAGS = ("-fPIC", "-shared", "-std=c++14", *(() if sys.platform == "darwin" else ("-fno-gnu-unique",)))

#: Where the backends keep the vendors' number types, in the order of hls4ml's build scripts.
_INCLUDES = (
    "firmware/ac_types/include",
    "firmware/ac_math/include",
    "firmware/ac_simutils/include",
    "firmware/nnet_utils",
    "firmware/ac_types",
    "firmware/ap_types",
)

#: What g++ does not read.
_NOT_COMPILED = (".txt", ".dat", ".tcl", ".sh", ".yml", "_test.cpp")
#: In a weight's header: what is said of the numbers, and the numbers, which only synthesis sees.
_NUMBERS = re.compile(rb"^//.*\n|#else\n[^#]*(?=#endif)", re.MULTILINE)

_TYPES = "firmware/ap_types/"
_VENDORS = ("ap_fixed.h", "ap_int.h", "ap_shift_reg.h", "hls_math.h", "hls_stream.h")
_STANDARD = (
    *("algorithm", "array", "cassert", "cfenv", "cmath", "condition_variable", "cstddef", "cstdio", "cstdlib"),
    *("cxxabi.h", "fstream", "iostream", "map", "math.h", "mutex", "queue", "sstream", "string", "tuple"),
    *("type_traits", "typeinfo", "vector"),
)
_HEADER = "csim_types.h"
#: How g++ says that it cannot use what it has precompiled.
_UNUSABLE = re.compile(r"PCH|\.gch|precompiled|internal compiler error")


def compiled(project: HlsProject, *, optimize: bool) -> Path:
    """The folder of a project's library: the same one for projects that differ only in their weights.

    Raises:
        ToolMissing: g++ is missing or fails.
    """
    flags = ("-O3" if optimize else "-O0", *_FLAGS, '-DWEIGHTS_DIR="firmware/weights"')
    sources = FileTree(project.name, _sources(project.files))
    key = digest("\0".join((sources.digest, *flags, "weights elsewhere")))
    return build_once(_KIND, key, lambda work, final: _compile(sources, flags, work))


def weights(project: HlsProject) -> Path:
    """The folder in which a project's library must run: below it are the weights, as text."""
    tree = FileTree(project.name, {path: text for path, text in project.files.items() if _is_read_later(path)})
    return build_once("csim-weights", tree.digest, lambda work, final: tree.write(work))


def _is_read_later(path: str) -> bool:
    return path.startswith(_WEIGHTS) and path.endswith(".txt")


def _sources(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What g++ reads, without the numbers that it skips. Headers without a text beside them keep theirs."""
    found = {}
    for path, content in files.items():
        if not path.endswith(_NOT_COMPILED):
            read_later = path.startswith(_WEIGHTS) and f"{path.removesuffix('.h')}.txt" in files
            found[path] = _NUMBERS.sub(b"", content) if read_later else content
    return found


def _compile(sources: FileTree, flags: tuple[str, ...], work: Path) -> None:
    sources.write(work)
    name = sources.name
    units = (f"firmware/{name}.cpp", f"firmware/{name}_axi.cpp", f"{name}_bridge.cpp")
    # One unit for all: every source alone would parse the number types again, a fifth of the compiler's time.
    text = "".join(f'#include "{unit}"\n' for unit in units if unit in sources.files)
    (work / "csim.cpp").write_text(text, encoding="utf-8")
    (work / _mark(flags)).touch()
    folders = [f"-I{folder}" for folder in _INCLUDES if any(path.startswith(f"{folder}/") for path in sources.files)]
    command = [*flags, *folders, "csim.cpp", "-o", LIBRARY]
    types = _precompiled(sources, flags)
    if types is not None:
        try:
            return run_gxx([[f"-I{types}", "-include", _HEADER, *command]], work)
        except ToolMissing as error:
            if not _UNUSABLE.search(str(error)):
                raise
    run_gxx([command], work)


def _mark(flags: tuple[str, ...]) -> str:
    """A file beside a library that says how it was optimized."""
    return f"optimized{flags[0]}"


def _precompiled(sources: FileTree, flags: tuple[str, ...]) -> Path | None:
    """The folder of the number types' header, which g++ has parsed already: a third of its time for a small network.

    That takes half again as long as it saves, and 90 MB: so it is done from the second network with these flags on.
    g++ itself sees whether what it has parsed fits its version and flags; where not, it reads the header's text.
    """
    types = {path: content for path, content in sources.files.items() if path.startswith(_TYPES)}
    headers = [name for name in _VENDORS if f"{_TYPES}{name}" in types]
    if not headers or sys.platform == "darwin" or not any((cache_root() / _KIND).glob(f"[!.]*/{_mark(flags)}")):
        return None  # clang, macOS' g++, would refuse what does not fit
    lines = [*(f"#include <{name}>\n" for name in _STANDARD), *(f'#include "{name}"\n' for name in headers)]
    tree = FileTree("types", types | {_HEADER: "".join(lines).encode()})

    def build(work: Path, final: Path) -> None:
        tree.write(work)
        run_gxx([[*flags, f"-I{_TYPES}", "-x", "c++-header", _HEADER, "-o", f"{_HEADER}.gch"]], work)

    with contextlib.suppress(ToolMissing, UserError):  # a full disk, say: it goes without
        return build_once("csim-types", digest("\0".join((tree.digest, *flags, tool_version(GXX)))), build)
    return None
