"""bitsim's kernels under AddressSanitizer and UndefinedBehaviorSanitizer, over random networks as the test suite's.

    python benchmarks/sanitize.py [--quick] [--json OUT] [--only native portable avx2]

The networks are lowered, and run on the normal build, in a process with TensorFlow and hls4ml
(sanitize_networks.py); then they run, without both, on kernels compiled with
`ROBUST_HLS_BITSIM_SANITIZE=address,undefined,float-cast-overflow` and libasan in LD_PRELOAD (sanitize_replay.py):
clean, random and extreme inputs of every type. A second time every value of a network has a place of its own with
poison around it. So do networks whose gradients are computed in integers. A finding stops the process. That faults are
found is shown on copies of the kernels with one put in.

Keys: `networks`; for each instruction set `<isa>_jobs`, `<isa>_findings` (0), `<isa>_differing` (0: the bits of the
normal build), `<isa>_missed` (0: opcodes, steps, kernels, types that never ran); `planted`, `planted_found` (the same).
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import Report, parser
from hw.simulate.bitsim.kernels.library import ISA_VARIABLE, SANITIZE_VARIABLE, SOURCES, missing_instructions
from hw.tools.toolchain import GXX, require_tool

ROOT = Path(__file__).resolve().parent.parent
ISAS = [isa for isa in ("native", "portable", "avx2", "amx_emulated") if not missing_instructions(isa)]
SANITIZERS = "address,undefined,float-cast-overflow"
MODELS, BRANCHES = 6, 20
_PLANTED_EVERY = 7  # of the jobs, for planted faults
_FINDING = re.compile(r"(ERROR: AddressSanitizer.*|.*runtime error: .*)")
#: What is wrong in a copy of the kernels: file, text, what stands in its place.
PLANTED = {
    "reads weights beyond their end": ("pairs.h", "broadcast(w + f);\n                    unroll", "broadcast(w + f + F);\n                    unroll"),  # noqa: E501
    "clears more than the border": ("core.h", "0, line * pb)", "0, line * pb + px)"),
    "reads a pixel beside the image": ("layers.h", "load<V>(src.pixel(ctx.arena, oy * sh + ky", "load<V>(src.pixel(ctx.arena, oy * sh + ky + 1"),  # noqa: E501
    "writes beside the user's array": ("bitsim.cpp", "std::min<int64_t>(L, samples - ctx.first)", "L"),
    "shifts too far": ("bitsim.cpp", "(samples + L - 1) / L", "(samples + L - 1) / L + 0 * (int64_t(1) << (samples + 63))"),  # noqa: E501
}  # fmt: skip


class Sanitized:
    """Runs networks in small processes with libasan."""

    def __init__(self, folder: Path, networks: Path) -> None:
        self._folder, self._networks, gxx = folder, networks, str(require_tool(GXX))
        self._libraries = [
            subprocess.run([gxx, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
            for name in ("libasan.so", "libstdc++.so")
        ]
        self._compiler = folder / "g++"  # which need not be looked at itself: that takes minutes
        self._compiler.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {gxx} "$@"\n')
        self._compiler.chmod(0o755)

    def run(self, isa: str, every: int = 1, kernels: Path | None = None) -> tuple[dict[str, Any], list[str], str]:
        """What the process told at its end, what was found, and all that was printed."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONMALLOC": "malloc",
            "ROBUST_HLS_GXX": str(self._compiler),
            "ROBUST_HLS_CACHE": str(self._folder / "cache"),
            SANITIZE_VARIABLE: SANITIZERS,
            ISA_VARIABLE: isa,
            "LD_PRELOAD": " ".join(self._libraries),
            # what was never written is told by its bits: they decide no output. Python never frees all.
            "ASAN_OPTIONS": "detect_leaks=0:max_malloc_fill_size=1000000000:malloc_fill_byte=181",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        words = [str(self._networks), str(every), *([str(kernels)] if kernels is not None else [])]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.sanitize_replay", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        found = _FINDING.findall(done.stderr)
        if done.returncode and not found:
            found = [f"it failed, status {done.returncode}"]
        told = {} if done.returncode else json.loads(done.stdout.splitlines()[-1])
        return told, found, done.stdout + done.stderr


def planted(folder: Path, name: str) -> Path:
    """A copy of the kernels with a fault."""
    file, text, fault = PLANTED[name]
    copy = folder / re.sub(r"\W", "_", name)
    shutil.copytree(SOURCES, copy)
    source = (copy / file).read_text()
    if text not in source:
        raise RuntimeError(f"{file}: {text!r} is not there any more")
    (copy / file).write_text(source.replace(text, fault, 1))
    return copy


def _make(networks: Path, models: int) -> None:
    """Lower them, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sanitize_networks", str(networks), str(models), str(BRANCHES)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def _random(networks: Path) -> int:
    """How many random networks a file holds."""
    from benchmarks.sanitize_networks import Jobs

    held: Jobs = pickle.loads(networks.read_bytes())
    return held.random


def main() -> int:
    """0 when nothing is found, but what was planted."""
    arguments = parser(__doc__, ISAS)
    arguments.add_argument("--networks", type=Path, help="a file of sanitize_networks.py that is there already")
    options = arguments.parse_args()
    report, details, bad = Report(), dict[str, Any](), False
    with tempfile.TemporaryDirectory(prefix="sanitize-") as name:
        folder, networks = Path(name), Path(name) / "networks"
        (folder / "cache").mkdir(mode=0o700)
        if options.networks is not None:
            shutil.copy(options.networks, networks)
        else:
            _make(networks, MODELS // 3 if options.quick else MODELS)
        report.figure("networks", _random(networks), "random; and some for the narrow kernels")
        sanitized = Sanitized(folder, networks)
        for isa in options.only[:1] if options.quick else options.only:
            told, found, words = sanitized.run(isa)
            report.figure(f"{isa}_jobs", told.get("jobs", 0), told.get("isa", ""))
            report.figure(f"{isa}_findings", len(found))
            report.figure(f"{isa}_differing", told.get("differing", 0))
            missed = [] if options.quick else told.get("missed", [])
            report.figure(f"{isa}_missed", len(missed), ", ".join(missed))
            bad |= bool(found or missed or told.get("differing", 1))
            if found:
                details[isa] = found[:5]
                print(words[-4000:], flush=True)
        names = list(PLANTED)[:1] if options.quick else list(PLANTED)
        caught = {name: sanitized.run("portable", _PLANTED_EVERY, planted(folder, name))[1] for name in names}
        report.figure("planted", len(caught))
        report.figure("planted_found", sum(bool(_real(found)) for found in caught.values()))
        details["planted"] = {name: found[:1] for name, found in caught.items()}
        bad |= not all(map(_real, caught.values()))
    report.details = details
    report.write(options.json)
    return int(bad)


def _real(found: list[str]) -> list[str]:
    """Findings of a sanitizer, not a process that failed otherwise."""
    return [line for line in found if _FINDING.match(line)]


if __name__ == "__main__":
    sys.exit(main())
