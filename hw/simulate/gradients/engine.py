"""Runs a network's two programs: outputs of points, and the gradient by them of whatever the outputs' gradient is."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.kernels import library
from hw.simulate.gradients.encode import Machine, Program, encode
from hw.simulate.gradients.network import Network, NotCovered
from hw.simulate.gradients.reading import read
from qmodels.errors import ToolMissing
from qmodels.grid import InputGrid
from qmodels.processors import processors

_SOURCE = Path(__file__).parent / "gradients.cpp"
_OFF_GRID = 2
_WORTH_A_THREAD = 10**8  # multiplications, about a millisecond: to start a thread takes a tenth, more on a busy machine
Numbers = NDArray[np.float32]


def gradients_of(model: Any, grid: InputGrid) -> Gradients | None:
    """The engine for a prequantized model; None where it has layers or formats that TensorFlow has to compute.

    Args:
        model: what `prequantize` gives.
        grid: what its inputs can be.
    """
    try:
        return Gradients(read(model, grid))
    except (NotCovered, ToolMissing):
        return None


class Gradients:
    """The engine of one network.

    A point is asked for its outputs first, then for the gradient: what the first call keeps of the way through the
    network, the second one reads.
    """

    def __init__(self, network: Network, threads: int | None = None) -> None:
        """Encode the network's programs.

        Args:
            network: of one input and one output.
            threads: how many to use; None: one a processor. The numbers do not depend on it.

        Raises:
            ToolMissing: g++ is missing or fails, the first time the kernels are built on this machine.
        """
        self._library = _load()
        machine = Machine(self._library.gradients_row(), self._library.gradients_mask())
        self._group = self._library.gradients_samples()
        self._threads = threads or processors()
        self._products = sum(layer.products for layer in network.layers)
        self._inputs, self._outputs = network.input_size, network.tensors[-1].size
        self._programs = [_Handle(self._library, program) for program in encode(network, machine)]
        self._mask_bytes = int(self._programs[0].program.code[1])
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._spare: list[NDArray[np.uint8]] = []  # memory that was used before: new pages take longer than the masks
        self._next, self._lock = 0, threading.Lock()

    def forward(self, points: Numbers) -> tuple[Numbers, np.int64]:
        """Outputs (N, outputs) of points (N, ...) of the grid in grid steps, and a ticket for `backward`."""
        flat = np.ascontiguousarray(points, np.float32).reshape(len(points), self._inputs)
        masks = self._memory(-(-len(flat) // self._group) * self._mask_bytes)
        outputs = np.empty((len(flat), self._outputs), np.float32)
        self._run(0, flat, outputs, masks)
        with self._lock:
            self._next += 1
            self._kept[self._next] = masks
            return outputs, np.int64(self._next)

    def outputs(self, points: Numbers) -> Numbers:
        """`forward` without a gradient to follow."""
        found, ticket = self.forward(points)
        self._spare.append(self._kept.pop(int(ticket)))
        return found

    def backward(self, upstream: Numbers, ticket: np.int64) -> Numbers:
        """Gradient (N, features) by the points, of what has the gradient `upstream` (N, outputs) by the outputs.

        It is NaN for a sample whose `upstream` is not finite.
        """
        masks = self._kept.pop(int(ticket))
        fine = np.asarray(np.isfinite(upstream).all(axis=1))
        given = np.ascontiguousarray(np.where(fine[:, None], upstream, 0.0), np.float32)
        result = np.empty((len(given), self._inputs), np.float32)
        self._run(1, given, result, masks)
        result[~fine] = np.nan
        self._spare.append(masks)
        return result

    def move(self, iterate: Numbers, ahead: Numbers, length: Numbers, box: tuple[Numbers, Numbers]) -> Numbers:
        """Step along the signs of `ahead`, into the box, in place; the nearest points of the grid.

        Args:
            iterate: (N, ...) in grid steps; float32, contiguous.
            ahead: (N, features).
            length: of a step, one number or (features,).
            box: lowest and highest points (N, ...), whole numbers.
        """
        points = np.empty_like(iterate)
        arrays = [np.ascontiguousarray(part, np.float32) for part in (ahead, length, *box)]
        self._library.gradients_move(
            iterate.ctypes.data, *(part.ctypes.data for part in arrays), points.ctypes.data, len(iterate),
            self._inputs, arrays[1].size,
        )  # fmt: skip
        return points

    def _memory(self, size: int) -> NDArray[np.uint8]:
        with self._lock:
            spare = self._spare.pop() if self._spare else np.empty(0, np.uint8)
        return spare if len(spare) >= size else np.empty(size, np.uint8)

    def _run(self, which: int, given: Numbers, result: Numbers, masks: NDArray[np.uint8]) -> None:
        enough = 1 + len(given) * self._products // _WORTH_A_THREAD
        failed = self._library.gradients_run(
            self._programs[which].pointer, given.ctypes.data, given.shape[1], result.ctypes.data, result.shape[1],
            masks.ctypes.data, len(given), min(self._threads, enough),
        )  # fmt: skip
        if failed == _OFF_GRID:
            raise AssertionError("gradients: an input is not on the grid")
        if failed:
            raise MemoryError("the gradients' working memory could not be allocated")


class _Handle:
    """A program in the library; freed with this object."""

    def __init__(self, lib: ctypes.CDLL, program: Program) -> None:
        self._library, self.program = lib, program
        pointers = (ctypes.c_void_p * len(program.blobs))(*[blob.ctypes.data for blob in program.blobs])
        self.pointer = lib.gradients_create(program.code.ctypes.data, pointers)
        if not self.pointer:
            raise AssertionError("the kernels do not understand this program")

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self._library.gradients_destroy(self.pointer)


def _load() -> ctypes.CDLL:
    lib = library.load_source(_SOURCE)
    lib.gradients_create.restype = ctypes.c_void_p
    lib.gradients_create.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    lib.gradients_destroy.restype = None
    lib.gradients_destroy.argtypes = [ctypes.c_void_p]
    lib.gradients_move.restype = None
    lib.gradients_move.argtypes = [*(ctypes.c_void_p,) * 6, *(ctypes.c_int64,) * 3]
    lib.gradients_run.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int),
    ]
    return lib
