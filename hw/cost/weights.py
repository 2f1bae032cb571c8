"""What multiplying by constants costs: bits of each weight that matter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qmodels.formats import FixedPoint

Ints = NDArray[np.int64]


def raw_weights(values: NDArray[np.float64], fmt: FixedPoint) -> Ints:
    """Weights as integers of their format."""
    return np.rint(np.asarray(values, np.float64) * 2.0**fmt.fraction).astype(np.int64)


def enclosed_bits(raw: Ints) -> Ints:
    """Bits from the highest to the lowest one that is set; 0 for zero, 1 for a power of two.

    A constant's trailing zeros are a shift and cost nothing. Definition: HGQ, arXiv:2405.00645, "EBOPs".
    """
    magnitude = np.abs(np.asarray(raw, np.int64))
    lowest = np.where(magnitude == 0, 1, magnitude & -magnitude)
    shifted = magnitude // lowest
    return np.ceil(np.log2(shifted + 1.0)).astype(np.int64)
