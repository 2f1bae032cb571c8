"""Which reuse factors hls4ml's resource strategy can build, and the nearest one to a wish."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, isqrt
from typing import Any

from qmodels.quantize.layers import kernel_of


def valid_reuse_factors(n_in: int, n_out: int) -> list[int]:
    """Reuse factors of a layer with `n_in` inputs and `n_out` outputs per position, ascending.

    hls4ml 1.3.0, `FPGABackend._validate_reuse_factor`; it goes over all numbers, we over the divisors.
    """
    total = n_in * n_out
    small = [factor for factor in range(1, isqrt(total) + 1) if total % factor == 0]
    divisors = sorted({*small, *(total // factor for factor in small)})
    return [factor for factor in divisors if _is_valid(n_in, n_out, factor)]


def _is_valid(n_in: int, n_out: int, factor: int) -> bool:
    multipliers = ceil(n_in * n_out / min(n_in, factor))
    return (multipliers % n_out == 0 or factor >= n_in) and (factor % n_in == 0 or factor < n_in)


def nearest(valid: list[int], wanted: int) -> int:
    """The valid factor closest to `wanted`; the smaller of two."""
    place = bisect_left(valid, wanted)
    around = valid[max(place - 1, 0) : place + 1]
    return min(around, key=lambda factor: (abs(factor - wanted), factor))


def kernel_sizes(layer: Any) -> tuple[int, int]:
    """Inputs and outputs per position of a dense layer or a convolution."""
    *inputs, outputs = (int(size) for size in kernel_of(layer).shape)
    total = 1
    for size in inputs:
        total *= size
    return total, outputs
