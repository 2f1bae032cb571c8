"""Weights as the integers of their hardware type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qmodels.formats import FixedPoint
from qmodels.quantize.constants import enclosed_bits as enclosed_bits

Ints = NDArray[np.int64]


def raw_weights(values: NDArray[np.float64], fmt: FixedPoint) -> Ints:
    """Weights as integers of their format."""
    return np.rint(np.asarray(values, np.float64) * 2.0**fmt.fraction).astype(np.int64)
