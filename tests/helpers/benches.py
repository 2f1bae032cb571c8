"""A project's test bench, compiled by g++ and run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers.kept import compile_once

from hw.generate.project import HlsProject


def compile_bench(folder: Path, project: HlsProject, *, apart: bool = False) -> None:
    """The program `bench`, in the folder of a project that was written with its test bench.

    `apart`: two units, as the vendor's C simulation has it; one takes g++ two thirds of the time.
    """
    units = [f"{project.name}_test.cpp", f"firmware/{project.name}.cpp"]
    if not apart:
        (folder / "bench.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units))
        units = ["bench.cpp"]
    flags = ["-O0", "-std=c++14", "-w", "-Ifirmware/ap_types/", '-DWEIGHTS_DIR="firmware/weights"']
    compile_once(folder, [*flags, *units], "bench")


def run_bench(folder: Path) -> tuple[int, str]:
    """Its exit status, and what it says; weights and test data are read when it starts."""
    done = subprocess.run(["./bench"], cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    return done.returncode, done.stdout
