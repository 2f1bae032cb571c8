"""What multiplying by an integer constant costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def enclosed_bits(raw: NDArray[Any]) -> Ints:
    """Bits from the highest to the lowest one that is set; 0 for zero, 1 for a power of two.

    A constant's trailing zeros are a shift and cost nothing. Definition: HGQ, arXiv:2405.00645, "EBOPs".
    """
    magnitude = np.abs(np.asarray(raw, np.int64))
    lowest = np.where(magnitude == 0, 1, magnitude & -magnitude)
    shifted = magnitude // lowest
    bits: Ints = np.ceil(np.log2(shifted + 1.0)).astype(np.int64)
    return bits


def signed_digits(values: NDArray[Any]) -> Ints:
    """Non-zero digits of the canonical signed-digit form: the fewest with which ±2^k sum up to the value."""
    magnitude = np.abs(np.asarray(values, np.int64))
    rest = magnitude ^ (3 * magnitude)  # the digits lie where v and 3 v differ (Reitwiesner 1960)
    count = np.zeros_like(magnitude)
    while rest.any():
        count += rest & 1
        rest = rest >> 1
    return count
