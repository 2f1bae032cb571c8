"""From the codes of our input grid to what a `.tflite` file's input stores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qmodels.grid import Codes, InputGrid
from qmodels.tflite.process import Tensor

#: What a network takes an 8-bit pixel k for: grid: what the grid says (k/256 unless the data ask for another
#: format); 0..1: k/255; -1..1: k/127.5 - 1; codes: the stored number itself, counted from the smallest one.
Pixels = Literal["grid", "0..1", "-1..1", "codes"]
PIXELS: tuple[Pixels, ...] = get_args(Pixels)
#: Codes that are looked at where there are more: enough to tell what rounding does.
_MOST = 1 << 16
#: What is so near to a half is one: the file has its scale in float32.
_HALF = 1e-4


@dataclass(frozen=True)
class InputMap:
    """Codes -> stored numbers: value / scale + zero, rounded as TFLite's QUANTIZE does (halves away from 0)."""

    grid: InputGrid
    tensor: Tensor
    pixels: Pixels = "grid"

    def __call__(self, codes: Codes) -> NDArray[Any]:
        """Stored inputs (N, *tensor.shape) of codes (N, ...)."""
        stored = self._table[codes.astype(np.int64) - self._lowest] if self._is_small else self._stored(codes)
        return np.asarray(stored).reshape(len(codes), *self.tensor.shape)

    @cached_property
    def distinct(self) -> bool:
        """Whether no two codes become one stored number. Where they do, an attack's single steps may change nothing."""
        stored = self._stored(self._codes)
        return len(np.unique(stored)) == len(stored)

    @cached_property
    def largest_error(self) -> float:
        """The largest difference between a code's value and the number that the network sees, in grid steps."""
        if self.pixels == "codes":
            return 0.0
        values, stored = self._values(self._codes), self._stored(self._codes).astype(np.float64)
        seen = self.tensor.scale * (stored - self.tensor.zero) if self.tensor.scale else stored
        return float(np.max(np.abs(values - seen)) / self._unit)

    @property
    def told(self) -> str:
        """The mapping in a sentence."""
        if self.pixels == "codes" or not self.tensor.scale:
            return "inputs: exact, every code has its own stored number"
        exact = self.largest_error < 1e-6
        error = (
            "exact"
            if exact
            else f"rounded to steps of {self.tensor.scale:.6g}, by at most {self.largest_error:.2g} grid steps"
        )
        merged = (
            ""
            if self.distinct
            else "; some neighbouring codes become one stored number, and no attack can tell them apart"
        )
        return f"inputs: {error}{merged}"

    @property
    def _unit(self) -> float:
        return {"0..1": 1 / 255, "-1..1": 2 / 255}.get(self.pixels, float(self.grid.step))

    @property
    def _ends(self) -> tuple[int, int]:
        return int(np.min(self.grid.lower)), int(np.max(self.grid.upper))

    @property
    def _lowest(self) -> int:
        return self._ends[0]

    @property
    def _is_small(self) -> bool:
        return self._ends[1] - self._ends[0] < _MOST

    @cached_property
    def _codes(self) -> NDArray[np.int64]:
        low, high = self._ends
        return np.unique(np.linspace(low, high, min(_MOST, high - low + 1)).round().astype(np.int64))

    @cached_property
    def _table(self) -> NDArray[Any]:
        return self._stored(self._codes)

    def _values(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        values = codes.astype(np.float64) * self._unit
        return values - 1.0 if self.pixels == "-1..1" else values

    def _stored(self, codes: NDArray[Any]) -> NDArray[Any]:
        dtype = self.tensor.dtype
        if dtype.kind == "f":
            return self._values(codes).astype(dtype)
        limits = np.iinfo(dtype)
        if self.pixels == "codes":
            stored = codes.astype(np.int64) + limits.min
        else:
            steps = self._values(codes) / self.tensor.scale
            stored = np.sign(steps) * np.floor(np.abs(steps) + 0.5 + _HALF) + self.tensor.zero
        return np.clip(stored, limits.min, limits.max).astype(dtype)
