"""The numbers a layer's weights may take: a few integer levels times a power-of-two step, shared or per channel.

One description for all methods: `uniform` (two's complement), `power-of-two` (0 and ±2^k) and `codebook` (µ-law
levels on a fixed-point grid, `codebook.py`); `fit.py` finds them for a kernel. Pure NumPy; training and hardware work
from `levels` and `step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.quantize.uniform import Clip

Kernel = NDArray[np.float64]
Ints = NDArray[np.int64]
Method = Literal["uniform", "power-of-two", "codebook"]
Granularity = Literal["per-tensor", "per-channel"]

MAX_GRID_BITS = 24  # float32 mantissa: finer grids would not be exact in TensorFlow
MAX_TYPE_BITS = 16  # of a layer's weights in hardware; steps of its channels lie no farther apart
MAX_EXPONENTS = 15  # of power-of-two levels: more would not fit MAX_TYPE_BITS


class CodebookConfig(BaseModel):
    """The µ-law codebook: levels F^-1(k / 2^(bits - 1)), snapped to a grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mu: float = Field(3.0, ge=0, le=1e6, description="0: equally spaced levels")
    grid_bits: int | None = Field(
        None, ge=2, le=16, description="widest grid tried, bits with sign; weight_bits + 4, at most 16, when left out"
    )
    slack: float = Field(
        0.02, ge=0, description="a grid of fewer signed digits is taken if its error is at most this share larger"
    )


class WeightConfig(BaseModel):
    """How one layer's kernel is rounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "uniform"
    weight_bits: int = Field(3, ge=2, le=16)
    granularity: Granularity = Field(
        "per-tensor", description="per-channel: a power-of-two step for every output channel"
    )
    clip: Clip = Field("mse", description="max: clip nothing; mse: least squared error; dw2: least ||Q(W) - W||_2")
    codebook: CodebookConfig = CodebookConfig()


@dataclass(frozen=True, eq=False)
class WeightCode:
    """Levels and steps. A weight is `levels[code] * step`, `code` an integer of `bits` bits."""

    method: Method
    levels: Ints  # (L,), sorted, distinct
    step: Kernel  # powers of two; shape () or that of the kernel's channel axes (its last ones)

    def __post_init__(self) -> None:
        """Refuse what no hardware type could hold."""
        if self.levels.ndim != 1 or not len(self.levels) or (np.diff(self.levels) <= 0).any():
            raise ValueError("levels must be sorted and distinct")
        if (np.frexp(self.step)[0] != 0.5).any():
            raise ValueError("steps must be powers of two")

    @property
    def bits(self) -> int:
        """Bits of a stored code."""
        return max(ceil(log2(len(self.levels))), 1)

    @property
    def contiguous(self) -> bool:
        """Whether the levels are consecutive integers: then a code needs no table."""
        return int(self.levels[-1] - self.levels[0]) == len(self.levels) - 1

    @property
    def hardware(self) -> FixedPoint:
        """The narrowest signed type that holds every level with every step."""
        exponents = np.frexp(self.step)[1] - 1
        lowest, spread = int(exponents.min()), int(exponents.max() - exponents.min())
        width = level_bits(self.levels) + spread
        return FixedPoint(width, width + lowest, True, Rounding.RND_CONV, Overflow.SAT)

    def codes(self, kernel: NDArray[Any]) -> Ints:
        """Index of the nearest level of every weight; ties go to the even index, as IEEE rounding does."""
        scaled = np.asarray(kernel, np.float64) / self.step
        if self.contiguous and self.levels[0] % 2 == 0:  # the same, many times faster
            nearest = np.clip(np.rint(scaled), self.levels[0], self.levels[-1])
            return np.asarray(nearest - self.levels[0], np.int64)
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        lower = np.searchsorted(middles, scaled)
        tie = middles[np.minimum(lower, len(middles) - 1)] == scaled if len(middles) else np.zeros(scaled.shape, bool)
        return np.asarray(lower + (tie & (lower % 2 == 1)), np.int64)

    def round(self, kernel: NDArray[Any]) -> Kernel:
        """Every weight's nearest level, same shape; beyond the outer levels it saturates."""
        return np.asarray(self.levels[self.codes(kernel)] * self.step, np.float64)

    def stored_bits(self, weights: int) -> int:
        """Memory for `weights` weights: codes, one exponent per channel where steps differ, the codebook's table."""
        exponents = np.frexp(self.step)[1]
        spread = int(exponents.max() - exponents.min())
        scales = exponents.size * ceil(log2(spread + 1))
        table = len(self.levels) * level_bits(self.levels) if self.method == "codebook" else 0
        return weights * self.bits + scales + table

    def as_json(self) -> dict[str, Any]:
        """Plain values; consecutive levels as their `range` (first, last)."""
        levels = {"range": [int(self.levels[0]), int(self.levels[-1])]}
        if not self.contiguous:
            levels = {"levels": self.levels.tolist()}
        return {"method": self.method, "step": self.step.tolist(), **levels}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> WeightCode:
        """Inverse of `as_json`.

        Raises:
            ValueError: levels or steps are not such.
        """
        first, last = plain.get("range", (0, 0))
        levels = np.asarray(plain.get("levels", np.arange(first, last + 1)), np.int64)
        return cls(plain["method"], levels, np.asarray(plain["step"], np.float64))


def uniform_levels(bits: int) -> Ints:
    """Two's complement: -2^(bits-1) .. 2^(bits-1) - 1."""
    return np.arange(-(1 << (bits - 1)), 1 << (bits - 1), dtype=np.int64)


def power_of_two_levels(bits: int) -> Ints:
    """0 and ±2^k, k = 0 .. 2^(bits-1) - 2: sign and exponent, one code for zero. From 6 bits on k ends at 14."""
    powers = 1 << np.arange(min((1 << (bits - 1)) - 1, MAX_EXPONENTS), dtype=np.int64)
    return np.concatenate([-powers[::-1], [0], powers])


def level_bits(levels: Ints) -> int:
    """Bits of the narrowest two's complement integer that holds all levels."""
    low, high = int(levels.min()), int(levels.max())
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1


def reshaped_spectral_norm(kernel: Kernel, depthwise: bool = False) -> float:
    """||W||_2 of the reshaped kernel, by the smaller Gram matrix: exact to about 1e-8, much faster than an SVD."""
    if depthwise:  # channels do not mix: the largest of the blocks
        blocks = np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1, kernel.shape[-1])
    else:
        blocks = kernel.reshape(1, -1, kernel.shape[-1])
    if blocks.shape[1] < blocks.shape[2]:
        blocks = blocks.transpose(0, 2, 1)
    return largest_root(blocks.transpose(0, 2, 1) @ blocks)


def largest_root(gram: Kernel) -> float:
    """The spectral norm whose Gram matrix this is; of a stack of them the largest."""
    return float(np.sqrt(max(np.linalg.eigvalsh(gram).max(), 0.0)))
