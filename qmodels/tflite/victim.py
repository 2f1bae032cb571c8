"""A `.tflite` classifier as a victim: float32, int8 or int16x8, made by TensorFlow's converter or another one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.tflite.inputs import InputMap, Pixels
from qmodels.tflite.process import Interpreter
from qmodels.victims import Logits

Precision = Literal["float32", "int8", "int16x8", "int8 weights", "mixed"]
#: (activations, weights) of a product, by what we call it.
_PRECISIONS: dict[tuple[str, ...], Precision] = {
    ("FLOAT32", "FLOAT32"): "float32",
    ("FLOAT32", "FLOAT16"): "float32",
    ("FLOAT32", "INT8"): "int8 weights",
    ("INT8", "INT8"): "int8",
    ("UINT8", "UINT8"): "int8",
    ("INT16", "INT8"): "int16x8",
}


class TFLiteVictim:
    """TensorFlow Lite's interpreter on one file; gives logits, no gradients.

    Integer outputs are turned into real numbers, so that no margin wraps. Where the file ends in a softmax or a
    sigmoid, the logits before it are read. Where probabilities come out all the same (a softmax in pieces), their
    logarithms are given, and `probabilities` says so: such numbers saturate, and attacks that read scores see less.
    """

    name = "tflite"

    def __init__(self, path: Path, grid: InputGrid = IMAGE_GRID, *, pixels: Pixels = "grid", threads: int = 2) -> None:
        """Build the network, in a process of its own.

        Args:
            path: the `.tflite` file. Nothing in it runs but TensorFlow Lite's built-in operators.
            grid: what inputs can be.
            pixels: what the network takes a code for; see `Pixels`.
            threads: of the interpreter.

        Raises:
            UserError: the file is damaged or no classifier of this kind.
        """
        self.path, self.grid = path, grid
        self._interpreter = Interpreter(path, threads)
        self.inputs = InputMap(grid, self._interpreter.input, pixels)
        self._check_pixels()

    def __repr__(self) -> str:
        return f"TFLiteVictim({self.path.name}, {self.precision}, {self.grid})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self._interpreter.input.shape

    @property
    def stores(self) -> np.dtype[Any]:
        """The type of the file's input."""
        return self._interpreter.input.dtype

    @property
    def outputs(self) -> int:
        """Numbers that come out for a sample."""
        return int(np.prod(self._interpreter.output.shape, dtype=np.int64))

    @property
    def head(self) -> str:
        """What was taken off the network's end: `softmax`, `sigmoid` or nothing."""
        return self._interpreter.head

    @property
    def precision(self) -> Precision:
        """Of weights and activations, as the products of the network have them."""
        kinds = {_PRECISIONS.get(tuple(pair), "mixed") for pair in self._interpreter.products}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @property
    def weight_bits(self) -> float | None:
        """Bits of a weight; None for float and mixed ones."""
        return 8.0 if self.precision in ("int8", "int16x8", "int8 weights") else None

    @cached_property
    def probabilities(self) -> bool:
        """Whether the file gives probabilities, and nothing before them could be read."""
        if self.head or self.outputs < 2:
            return False
        probe = self.grid.random(16, self.input_shape, np.random.default_rng(0))
        return _are_probabilities(self._numbers(probe), 2 * max(self._interpreter.output.scale, 1e-6))

    def with_pixels(self, pixels: Pixels) -> TFLiteVictim:
        """The same network, which takes codes for other numbers."""
        other = object.__new__(TFLiteVictim)
        other.path, other.grid, other._interpreter = self.path, self.grid, self._interpreter
        other.inputs = InputMap(self.grid, self._interpreter.input, pixels)
        other._check_pixels()
        return other

    def logits(self, x: Codes) -> Logits:
        """Logits (N, outputs) of codes (N, ...) on the grid."""
        numbers = self._numbers(x)
        if not self.probabilities:
            return numbers
        least = self._interpreter.output.scale / 2 or np.finfo(np.float32).tiny
        return np.log(np.maximum(numbers, np.float32(least)))

    def _numbers(self, x: Codes) -> Logits:
        if not len(x):
            return np.empty((0, self.outputs), np.float32)
        stored, end = self._interpreter.run(self.inputs(x)).reshape(len(x), -1), self._interpreter.output
        if not end.scale:
            return stored.astype(np.float32)
        return (stored.astype(np.int32) - end.zero).astype(np.float32) * np.float32(end.scale)

    def _check_pixels(self) -> None:
        if self.inputs.pixels == "grid":
            return
        if self.grid.format.width != 8 or self.grid.format.signed:
            raise UserError(f"model.pixels: {self.inputs.pixels} is for 8-bit pixels; the data are {self.grid.format}")
        if self.inputs.pixels == "codes" and self.stores not in (np.int8, np.uint8):
            raise UserError(f"model.pixels: codes is for files with an 8-bit input; {self.path} stores {self.stores}")


def _are_probabilities(numbers: Logits, tolerance: float) -> bool:
    sums = numbers.sum(axis=1)
    return bool((numbers >= -tolerance).all() and np.all(np.abs(sums - 1) <= tolerance * numbers.shape[1] + 1e-3))
