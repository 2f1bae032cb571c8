"""hls4ml's own C simulation, compiled with g++: the reference every other simulator is held against."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import HlsProject
from hw.simulate.csim_build import LIBRARY, compiled, weights
from hw.simulate.csim_process import CsimProcess
from hw.tools.cache import discard
from hw.tools.toolchain import GXX
from qmodels.errors import ToolMissing, UserError
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.processors import processors
from qmodels.victims import Logits

Array = NDArray[Any]


class Csim:
    """The compiled C simulation of one HLS project; a `Victim`.

    Compiled once and kept in the user's cache; projects that differ only in their weights share a library.
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
        self._entry = compiled(project, optimize=optimize)
        self._process = CsimProcess(weights(project), self._entry / LIBRARY)
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
