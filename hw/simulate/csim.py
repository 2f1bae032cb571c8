"""hls4ml's own C simulation, compiled with g++: the reference every other simulator is held against."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import HlsProject
from hw.tools.cache import build_once
from hw.tools.toolchain import run_gxx
from qmodels.digest import digest
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.victims import Logits

Array = NDArray[Any]

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


class Csim:
    """The compiled C simulation of one HLS project; a `Victim`.

    Compiled once per project digest and kept in the user's cache.
    """

    name = "csim"
    grid: InputGrid = IMAGE_GRID  # of the codes that `logits` takes

    def __init__(self, project: HlsProject, *, optimize: bool = True) -> None:
        """Compile the project, unless it is in the cache.

        Args:
            project: the HLS project.
            optimize: False compiles in half the time and runs many times slower: for a handful of inputs.

        Raises:
            ToolMissing: g++ is missing or fails.
        """
        self.digest, self.ports = project.digest, project.ports
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self._threads = cores if project.ports.reentrant else 1
        flags = ("-O3" if optimize else "-O0", *_FLAGS)
        key = digest("\0".join((project.digest, *flags)))
        folder = build_once("csim", key, lambda work, final: _build(project, flags, work, final))
        self._library = ctypes.CDLL(str(folder / "csim.so"))
        self._name = project.name

    def __repr__(self) -> str:
        return f"Csim({self.digest[:12]})"

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid, sample by sample as the accelerator would."""
        return np.asarray(self.predict(self.grid.to_values(x)))

    def predict(self, x: Array | Sequence[Array]) -> Any:
        """Outputs for x, shape (N, *input_shape) float32 or float64; a list of such arrays for several inputs.

        Returns (N, outputs) of x's type; a list of them when there are several outputs.
        """
        inputs = self._inputs(x)
        samples, outputs = len(inputs[0]), self._outputs(inputs)
        if samples:
            call = self._caller(inputs, outputs)
            call(range(1))  # the first call loads the weights; only later ones are re-entrant
            bounds = np.linspace(1, samples, self._threads + 1).astype(int).tolist()
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(call, itertools.starmap(range, itertools.pairwise(bounds))))
        return outputs[0] if len(outputs) == 1 else outputs

    def trace(self, x: Array | Sequence[Array]) -> dict[str, Array]:
        """Every layer's output (N, *shape), by layer name; for a project that was written to be traced."""
        inputs = self._inputs(x)
        samples, dtype, call = len(inputs[0]), inputs[0].dtype, self._caller(inputs, self._outputs(inputs))
        found: dict[str, Array] = {name: np.empty((samples, *s), dtype) for name, s in self.ports.traced.items()}
        records = (_Record * len(found))()
        self._library.allocate_trace_storage(ctypes.c_size_t(dtype.itemsize))
        try:
            for sample in range(samples):
                call(range(sample, sample + 1))
                self._library.collect_trace_output(records)
                for record in records:
                    layer = found[record.name.decode()][sample]
                    ctypes.memmove(layer.ctypes.data, record.data, layer.nbytes)
        finally:
            self._library.free_trace_storage()
        return found

    def _inputs(self, x: Array | Sequence[Array]) -> list[Array]:
        given = list(x) if isinstance(x, (list, tuple)) else [x]
        shapes = self.ports.inputs
        if len(given) != len(shapes):
            raise UserError(f"the model has {len(shapes)} inputs, got {len(given)}")
        for array in map(np.asarray, given):
            if array.dtype.kind != "f":  # the codes of a grid would be taken for the numbers they stand for
                raise UserError(f"input holds {array.dtype}: the C simulation takes real numbers; `logits` takes codes")
        dtype = np.float64 if np.asarray(given[0]).dtype == np.float64 else np.float32
        arrays = [np.ascontiguousarray(array, dtype) for array in given]
        for array, shape in zip(arrays, shapes, strict=True):
            if array.shape[1:] not in (shape, (prod(shape),)) or len(array) != len(arrays[0]):
                raise UserError(
                    f"the C simulation takes arrays of shape {', '.join(str(('N', *s)) for s in shapes)}, "
                    f"got {', '.join(str(a.shape) for a in arrays)}"
                )
        return arrays

    def _outputs(self, inputs: list[Array]) -> list[Array]:
        return [np.zeros((len(inputs[0]), prod(shape)), inputs[0].dtype) for shape in self.ports.outputs]

    def _caller(self, inputs: list[Array], outputs: list[Array]) -> Callable[[range], None]:
        """The top function over some of the samples: it takes a pointer to every input and output."""
        arrays = [*inputs, *outputs]
        top = self._library[f"{self._name}_{'double' if inputs[0].dtype == np.float64 else 'float'}"]
        top.restype, top.argtypes = None, [ctypes.c_void_p] * len(arrays)
        places = [(array.ctypes.data, array.strides[0]) for array in arrays]

        def call(samples: range) -> None:
            for sample in samples:
                top(*[start + sample * step for start, step in places])

        return call


class _Record(ctypes.Structure):
    """hls4ml's `trace_data`: a layer's name and its output."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p)]


def _build(project: HlsProject, flags: Sequence[str], work: Path, final: Path) -> None:
    project.write(work)
    wanted = (f"firmware/{project.name}.cpp", f"firmware/{project.name}_axi.cpp", f"{project.name}_bridge.cpp")
    sources = [source for source in wanted if source in project.files]
    # One unit for all: every source alone would parse the number types again, a fifth of the compiler's time.
    (work / "csim.cpp").write_text("".join(f'#include "{source}"\n' for source in sources))
    includes = [f"-I{folder}" for folder in _INCLUDES if any(path.startswith(f"{folder}/") for path in project.files)]
    # The weights are read from text files at the first call, from where the folder will be.
    weights = f'-DWEIGHTS_DIR="{final / "firmware" / "weights"}"'
    run_gxx([(*flags, *includes, weights, "csim.cpp", "-o", "csim.so")], work)
