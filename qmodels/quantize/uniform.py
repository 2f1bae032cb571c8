"""Uniform quantization with power-of-two steps: choose a fixed-point format, round to it."""

from __future__ import annotations

from math import ceil, log2
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.formats import FixedPoint, Overflow, Rounding

Clip = Literal["max", "mse", "dw2"]


def snap(values: NDArray[Any], fmt: FixedPoint) -> NDArray[np.float64]:
    """Round to nearest (ties to even) and saturate; the result lies on the format's grid."""
    raw = np.clip(np.rint(np.asarray(values, np.float64) / fmt.lsb), fmt.raw_min, fmt.raw_max)
    return raw * fmt.lsb


def covering_format(values: NDArray[Any], bits: int, signed: bool = True) -> FixedPoint:
    """The finest format of `bits` bits that clips none of `values` (beyond half a step at the top)."""
    largest = float(np.max(np.abs(values), initial=0.0))
    positive_levels = (1 << (bits - 1 if signed else bits)) - 0.5
    exponent = ceil(log2(largest / positive_levels)) if largest > 0 else -bits
    return _format(bits, exponent, signed)


def choose_format(values: NDArray[Any], bits: int, clip: Clip = "mse", signed: bool = True) -> FixedPoint:
    """The format of `bits` bits for `values`: `max` clips nothing, `mse` has the least squared error.

    `mse` compares the covering step with the four next finer ones; the first of equals (coarsest) wins. `dw2` is
    meant for kernels (`fit.fit_code`); for activations and biases it is `mse`.
    """
    widest = covering_format(values, bits, signed)
    if clip == "max":
        return widest
    candidates = [_format(bits, -widest.fraction - finer, signed) for finer in range(5)]
    errors = [float(np.sum((snap(values, fmt) - values) ** 2)) for fmt in candidates]
    return candidates[int(np.argmin(errors))]


def _format(bits: int, exponent: int, signed: bool) -> FixedPoint:
    """Width `bits`, step 2**exponent."""
    return FixedPoint(bits, bits + exponent, signed, Rounding.RND_CONV, Overflow.SAT)
