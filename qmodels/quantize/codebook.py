"""The µ-law codebook: b-bit codes k, levels F^-1(k / 2^(b-1)) of the µ-law, snapped to a fixed-point grid.

Small weights get finer levels, as the µ-law mapping gives them, but here the mapping is inverted: the weights keep
their values. The levels' scale is free (not a power of two), and the grid is chosen twice over: by error, and by
cost, the signed digits (canonical form) of the weights' levels: each one is an adder where products are unrolled.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, log2, sqrt
from typing import NamedTuple

import numpy as np

from qmodels.quantize.constants import signed_digits
from qmodels.quantize.mulaw import inverse_mu_law
from qmodels.quantize.weights import (
    MAX_TYPE_BITS,
    Ints,
    Kernel,
    WeightCode,
    WeightConfig,
    level_bits,
    reshaped_spectral_norm,
)

#: Scales tried, as shares of the one that clips nothing; our choice. Eighths of an octave down to 0.18.
SHARES = tuple(2.0 ** (-eighth / 8) for eighth in range(21))

SHORTLIST = 12  # grids of least squared error that the spectral norm is worked out for


class _Grid(NamedTuple):
    """A candidate: its levels and exponent, what it loses and what it costs."""

    levels: Ints
    exponent: int
    error: float
    digits: float  # signed digits per weight


def unit_levels(bits: int, mu: float) -> tuple[Kernel, Kernel]:
    """F^-1 of b-bit codes, two shapes: k / 2^(b-1) as in two's complement, and without its lowest, symmetric to ±1."""
    half = 1 << (bits - 1)
    codes = np.arange(-half, half)
    return inverse_mu_law(codes / half, mu), inverse_mu_law(codes[1:] / (half - 1), mu)


def fit_codebook(kernel: Kernel, config: WeightConfig, depthwise: bool) -> WeightCode:
    """The codebook of a kernel; with per-channel steps the channels share it.

    Args:
        kernel: as in `fit_code`.
        config: `codebook` has µ, the widest grid, and what error a cheaper grid may cost.
        depthwise: as in `fit_code`.
    """
    axes = kernel.ndim - (2 if depthwise else 1)
    shape = kernel.shape[axes:] if config.granularity == "per-channel" else ()
    scale = _channel_scales(kernel, shape, room=MAX_TYPE_BITS - _grid_bits(config))
    chosen = _choose_grid(kernel / scale, kernel, scale, config, depthwise)
    return WeightCode("codebook", chosen.levels, np.asarray(scale * 2.0**chosen.exponent))


def _grid_bits(config: WeightConfig) -> int:
    """The widest grid tried."""
    return max(config.codebook.grid_bits or min(config.weight_bits + 4, MAX_TYPE_BITS), config.weight_bits)


def _channel_scales(kernel: Kernel, shape: tuple[int, ...], room: int) -> Kernel:
    """Power-of-two scales that bring the channels' root mean squares together; 1 for the whole tensor."""
    if not shape:
        return np.ones(())
    size = np.sqrt((kernel.reshape(-1, *shape) ** 2).mean(axis=0))
    size[size == 0] = size.max() or 1.0
    exponents = np.rint(np.log2(size))
    return np.asarray(2.0 ** np.maximum(exponents, exponents.max() - room))


def _choose_grid(normal: Kernel, kernel: Kernel, scale: Kernel, config: WeightConfig, depthwise: bool) -> _Grid:
    """The cheapest of those grids whose error is within the slack of the least one."""
    measure = _Measure(normal, scale)
    grids = [measure.grid(levels, exponent) for levels, exponent in _candidates(measure.largest, config)]
    if config.clip == "dw2":  # what has the least spectral norm has a small squared error too
        grids = sorted(grids, key=lambda grid: grid.error)[:SHORTLIST]
        grids = [grid._replace(error=_spectral(grid, normal, kernel, scale, depthwise)) for grid in grids]
    least = min(grid.error for grid in grids)
    good = [grid for grid in grids if grid.error <= least * (1 + config.codebook.slack)]
    return min(good, key=lambda grid: (grid.digits, grid.error, level_bits(grid.levels)))


def _candidates(largest: float, config: WeightConfig) -> Iterator[tuple[Ints, int]]:
    """Levels and their step's exponent: both shapes, all scales, all grids."""
    shares = SHARES[:1] if config.clip == "max" else SHARES
    widths = range(config.weight_bits, _grid_bits(config) + 1)
    for unit in unit_levels(config.weight_bits, config.codebook.mu):
        reach = unit[-1] + (unit[-1] - unit[-2]) / 2  # a larger weight loses more than half a gap
        for share, width in product(shares, widths):
            size = share * largest / reach
            exponent = ceil(log2(size)) - (width - 1)
            yield np.unique(np.rint(np.ldexp(size * unit, -exponent)).astype(np.int64)), exponent


class _Measure:
    """Squared error and digits of many codebooks on the same weights, from sums over the sorted weights."""

    def __init__(self, normal: Kernel, scale: Kernel) -> None:
        order = np.argsort(normal, axis=None)
        self.sorted = normal.reshape(-1)[order]
        weight = np.broadcast_to(scale**2, normal.shape).reshape(-1)[order]
        moments = [weight, weight * self.sorted, weight * self.sorted**2]
        self.moments = [np.concatenate([[0.0], np.cumsum(moment)]) for moment in moments]
        self.largest = float(np.abs(self.sorted).max()) or 1.0

    def grid(self, levels: Ints, exponent: int) -> _Grid:
        values = np.ldexp(levels.astype(np.float64), exponent)
        inner = np.searchsorted(self.sorted, (values[1:] + values[:-1]) / 2)
        borders = np.concatenate([[0], inner, [len(self.sorted)]])
        count, first, second = (np.diff(moment[borders]) for moment in self.moments)
        squares = float(np.sum(second - 2 * values * first + values**2 * count))
        digits = float(signed_digits(levels) @ np.diff(borders)) / len(self.sorted)
        return _Grid(levels, exponent, sqrt(max(squares, 0.0)), digits)


def _spectral(grid: _Grid, normal: Kernel, kernel: Kernel, scale: Kernel, depthwise: bool) -> float:
    rounded = WeightCode("codebook", grid.levels, np.ldexp(1.0, grid.exponent)).round(normal)
    return reshaped_spectral_norm(rounded * scale - kernel, depthwise)
