"""hls4ml's own C simulation, compiled with g++: the reference every other simulator is held against."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import HardwareConfig, HlsProject, convert
from hw.tools.cache import build_once
from hw.tools.toolchain import run_gxx
from qmodels.grid import IMAGE_GRID, Codes, InputGrid, Values
from qmodels.victims import Logits

#: As in hls4ml's build_lib.sh. GNU_UNIQUE symbols would be shared between two loaded simulations: wrong weights.
_FLAGS = ("-fPIC", "-std=c++14", *(() if sys.platform == "darwin" else ("-fno-gnu-unique",)))

#: Where the backends keep the vendors' number types, in the order of hls4ml's build scripts.
_INCLUDES = (
    "firmware/ac_types/include",
    "firmware/ac_math/include",
    "firmware/ac_simutils/include",
    "firmware/nnet_utils",
    "firmware/ac_types",
    "firmware/ap_types",
)


class Csim:
    """The compiled C simulation of one HLS project; a `Victim`.

    Compiled once per project digest and kept in the user's cache.
    """

    name = "csim"

    def __init__(
        self,
        project: HlsProject,
        classes: int,
        *,
        reentrant: bool,
        optimize: bool = True,
        grid: InputGrid = IMAGE_GRID,
    ) -> None:
        self.grid = grid
        self.digest = project.digest
        self._classes = classes
        self._threads = len(os.sched_getaffinity(0)) if reentrant and hasattr(os, "sched_getaffinity") else 1
        level = "-O3" if optimize else "-O0"
        key = project.digest if optimize else f"{project.digest}{level}"
        folder = build_once("csim", key, lambda work, final: _build(project, level, work, final))
        self._library = ctypes.CDLL(str(folder / "csim.so"))
        self._top = getattr(self._library, f"{project.name}_float")
        self._top.restype = None
        self._top.argtypes = [ctypes.c_void_p, ctypes.c_void_p]

    def __repr__(self) -> str:
        return f"Csim({self.digest[:12]})"

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...), sample by sample as the accelerator would."""
        return self.predict(self.grid.to_values(x))

    def predict(self, x: Values) -> Logits:
        """Logits (N, classes) of values (N, ...)."""
        images = np.ascontiguousarray(x, dtype=np.float32)
        outputs = np.zeros((len(images), self._classes), dtype=np.float32)
        if len(images) == 0:
            return outputs
        self._range(images, outputs, 0, 1)  # the first call loads the weights; only later ones are re-entrant
        bounds = np.linspace(1, len(images), self._threads + 1).astype(int)
        with ThreadPoolExecutor(self._threads) as pool:
            jobs = [
                pool.submit(self._range, images, outputs, int(start), int(stop))
                for start, stop in itertools.pairwise(bounds)
            ]
            for job in jobs:
                job.result()
        return outputs

    def _range(self, images: NDArray[np.float32], outputs: NDArray[np.float32], start: int, stop: int) -> None:
        for index in range(start, stop):
            self._top(images[index].ctypes.data, outputs[index].ctypes.data)


def simulate(project: HlsProject, classes: int, config: HardwareConfig, *, optimize: bool = True) -> Csim:
    """The C simulation of a project; io_parallel runs on all cores, io_stream has static buffers and does not.

    Args:
        project: the HLS project.
        classes: how many outputs it has.
        config: what it was generated with.
        optimize: False compiles in half the time and runs many times slower: for a handful of images.

    Raises:
        ToolMissing: g++ is missing or fails.
    """
    return Csim(project, classes, reentrant=config.io_type == "io_parallel", optimize=optimize)


def _build(project: HlsProject, level: str, work: Path, final: Path) -> None:
    project.write(work)
    # The weights are read from text files at the first call, from where the folder will be.
    includes = [f"-I{folder}" for folder in _INCLUDES if any(path.startswith(f"{folder}/") for path in project.files)]
    common = (level, *_FLAGS, *includes, f'-DWEIGHTS_DIR="{final / "firmware" / "weights"}"')
    wanted = (f"firmware/{project.name}.cpp", f"firmware/{project.name}_axi.cpp", f"{project.name}_bridge.cpp")
    sources = [source for source in wanted if source in project.files]
    objects = [f"{index}.o" for index in range(len(sources))]
    run_gxx([(*common, "-c", source, "-o", target) for source, target in zip(sources, objects, strict=True)], work)
    run_gxx([("-shared", *objects, "-o", "csim.so")], work)
    for target in objects:
        (work / target).unlink()


def trace(model: Any, config: HardwareConfig, x: Values) -> dict[str, NDArray[Any]]:
    """Every layer's output in the C simulation, by layer name (recompiles with tracing: slow, for diagnosis)."""
    with tempfile.TemporaryDirectory(prefix="robust-hls-trace-") as folder, contextlib.redirect_stdout(io.StringIO()):
        graph = convert(model, config, Path(folder), trace=True)
        _, layers = graph.trace(np.ascontiguousarray(x, dtype=np.float32))
    return dict(layers)
