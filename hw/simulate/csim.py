"""hls4ml's own C simulation, compiled with g++: the reference every other simulator is held against."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import HlsProject
from hw.simulate.csim_process import CsimProcess
from hw.tools.cache import build_once, discard
from hw.tools.toolchain import GXX, run_gxx
from qmodels.digest import digest
from qmodels.errors import ToolMissing, UserError
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.processors import processors
from qmodels.victims import Logits

Array = NDArray[Any]
LIBRARY = "csim.so"

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

        The code runs in a process of its own; when it crashes or hangs there, a call raises SimulationFailed.
        """
        self.digest, self.ports = project.digest, project.ports
        self._threads = processors() if project.ports.reentrant else 1
        flags = ("-O3" if optimize else "-O0", *_FLAGS)
        key = digest("\0".join((project.digest, *flags, "weights beside it")))
        folder = build_once("csim", key, lambda work, final: _build(project, flags, work))
        self._entry, self._process = folder, CsimProcess(folder, LIBRARY)
        self._name = project.name

    def __repr__(self) -> str:
        return f"Csim({self.digest[:12]})"

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid, sample by sample as the accelerator would."""
        return np.asarray(self.predict(self.grid.feed(self.grid.to_values(x))))

    def predict(self, x: Array | Sequence[Array]) -> Any:
        """Outputs for x, shape (N, *input_shape) float32 or float64; a list of such arrays for several inputs.

        Returns (N, outputs) of x's type; a list of them when there are several outputs.
        """
        inputs = self._inputs(x)
        samples, outputs = len(inputs[0]), self._outputs(inputs)
        if samples:
            self._call({"top": self._top(inputs), "samples": samples, "threads": self._threads}, inputs, outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def trace(self, x: Array | Sequence[Array]) -> dict[str, Array]:
        """Every layer's output (N, *shape), by layer name; for a project that was written to be traced."""
        inputs = self._inputs(x)
        samples, dtype = len(inputs[0]), inputs[0].dtype
        found: dict[str, Array] = {name: np.empty((samples, *s), dtype) for name, s in self.ports.traced.items()}
        request = {"top": self._top(inputs), "samples": samples, "itemsize": dtype.itemsize, "traced": list(found)}
        if samples:
            self._call(request, inputs, [*self._outputs(inputs), *found.values()])
        return found

    def _top(self, inputs: list[Array]) -> str:
        return f"{self._name}_{'double' if inputs[0].dtype == np.float64 else 'float'}"

    def _call(self, request: dict[str, Any], inputs: list[Array], results: list[Array]) -> None:
        try:
            self._process.call(request, inputs, results)
        except ToolMissing as error:
            discard(self._entry)  # whole, and still no library: another compiler may do better
            raise ToolMissing(f"what g++ wrote cannot be loaded ({error}); check {GXX.variable}, run again") from None

    def _inputs(self, x: Array | Sequence[Array]) -> list[Array]:
        given = list(x) if isinstance(x, (list, tuple)) else [x]
        shapes = self.ports.inputs
        if len(given) != len(shapes):
            raise UserError(f"the model has {len(shapes)} inputs, got {len(given)}")
        for array in map(np.asarray, given):
            if array.dtype.kind != "f":  # the codes of a grid would be taken for the numbers they stand for
                raise UserError(
                    f"input contains {array.dtype}: the C simulation takes real numbers; `logits` takes codes"
                )
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


def _build(project: HlsProject, flags: Sequence[str], work: Path) -> None:
    project.write(work)
    wanted = (f"firmware/{project.name}.cpp", f"firmware/{project.name}_axi.cpp", f"{project.name}_bridge.cpp")
    sources = [source for source in wanted if source in project.files]
    # One unit for all: every source alone would parse the number types again, a fifth of the compiler's time.
    (work / "csim.cpp").write_text("".join(f'#include "{source}"\n' for source in sources), encoding="utf-8")
    includes = [f"-I{folder}" for folder in _INCLUDES if any(path.startswith(f"{folder}/") for path in project.files)]
    # The weights are read from text files at the first call; the process that makes it runs in this folder.
    run_gxx([(*flags, *includes, '-DWEIGHTS_DIR="firmware/weights"', "csim.cpp", "-o", LIBRARY)], work)
