"""The values a weight has after its quantizer, and the narrowest fixed-point grid that holds them."""

from __future__ import annotations

from math import ceil, frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.formats import FixedPoint

#: Weight quantizers that are exact with alpha=1 or a power of two.
EXACT_WEIGHTS = ("quantized_bits", "ternary")
#: Others whose values lie on a power-of-two grid once their scale does: `fold` writes the values down.
KNOWN_VALUES = (*EXACT_WEIGHTS, "binary", "quantized_po2")
WEIGHT_OF = {
    "kernel_quantizer": "kernel",
    "depthwise_quantizer": "depthwise_kernel",
    "pointwise_quantizer": "pointwise_kernel",
    "bias_quantizer": "bias",
}
#: float32's mantissa: TensorFlow computes wider weights with rounding.
MAX_BITS = 24


def weight_values(layer: Any, setting: str, quantizer: Any) -> tuple[NDArray[Any], FixedPoint] | None:
    """The values a weight has after its quantizer, and the narrowest grid that holds them all.

    None when the quantizer is not known, or the values lie on no grid of at most 24 bits (a float scale).
    """
    if type(quantizer).__name__ not in KNOWN_VALUES or getattr(quantizer, "use_stochastic_rounding", False):
        return None
    values = np.asarray(quantizer(getattr(layer, WEIGHT_OF[setting])).numpy(), np.float64)
    grid = covering_grid(values)
    return (values.astype(np.float32), grid) if grid is not None else None


def covering_grid(values: NDArray[Any], limit: int = MAX_BITS) -> FixedPoint | None:
    """The narrowest signed grid with at least one integer bit on which all values lie; None beyond `limit` bits."""
    if not np.isfinite(values).all():
        return None
    fraction = 0
    while np.any(np.rint(values * 2.0**fraction) != values * 2.0**fraction):
        fraction += 1
        if fraction > limit:
            return None
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    integer = max(_integer_bits(high + 2.0**-fraction), _integer_bits(-low), 0)
    width = max(integer + fraction + 1, 2)
    return FixedPoint(width, integer + 1) if width <= limit else None


def grid_text(grid: FixedPoint) -> str:
    """The QKeras quantizer of a signed grid: the identity on all its numbers."""
    return f"quantized_bits({grid.width},{grid.integer - 1},alpha=1)"


def _integer_bits(magnitude: float) -> int:
    """Smallest i with magnitude <= 2**i; 0 for what is not positive."""
    if magnitude <= 0:
        return 0
    mantissa, exponent = frexp(magnitude)
    return ceil(exponent - 1 if mantissa == 0.5 else exponent)
