"""Levels and steps that suit a kernel: by squared error, or by the spectral norm of what rounding changes."""

from __future__ import annotations

from itertools import product
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.quantize.codebook import fit_codebook
from qmodels.quantize.uniform import Clip
from qmodels.quantize.weights import (
    MAX_TYPE_BITS,
    Ints,
    Kernel,
    WeightCode,
    WeightConfig,
    largest_root,
    level_bits,
    power_of_two_levels,
    reshaped_spectral_norm,
    uniform_levels,
)

CLIP_CANDIDATES = 5  # the covering step and the four next finer ones
SWEEP_GAIN = 0.002  # a sweep of the search for channel steps that gains less is the last


def fit_code(kernel: NDArray[Any], config: WeightConfig, *, depthwise: bool = False) -> WeightCode:
    """The code that a config asks for, its steps (and codebook) fitted to a kernel.

    Args:
        kernel: as Keras has it: (..., in, out), depthwise (kh, kw, in, multiplier).
        config: method, bits, granularity, clip.
        depthwise: whether the output channels are the last two axes instead of the last one.
    """
    values = np.asarray(kernel, np.float64)
    if config.method == "codebook":
        return fit_codebook(values, config, depthwise)
    levels = uniform_levels(config.weight_bits)
    if config.method == "power-of-two":
        levels = power_of_two_levels(config.weight_bits)
    return fit_steps(values, levels, config, depthwise)


def fit_steps(kernel: Kernel, levels: Ints, config: WeightConfig, depthwise: bool) -> WeightCode:
    """The power-of-two step of a kernel, or of each of its channels, for given levels."""
    if config.granularity == "per-tensor":
        cover = _covering_exponent(kernel, levels)

        def error(difference: Kernel) -> float:
            spectral = config.clip == "dw2"
            return reshaped_spectral_norm(difference, depthwise) if spectral else float(np.sum(difference**2))

        tried = [WeightCode(config.method, levels, _powers(cover - finer)) for finer in _clips(config.clip)]
        return min(tried, key=lambda code: error(code.round(kernel) - kernel))  # of equals the coarsest
    axes = kernel.ndim - (2 if depthwise else 1)
    channels = kernel.reshape(-1, int(np.prod(kernel.shape[axes:])))
    room = MAX_TYPE_BITS - level_bits(levels)  # the hardware has one type for all channels
    exponents = _within(_channel_exponents(channels, levels, config), room)
    if config.clip == "dw2" and not depthwise:  # depthwise channels hardly mix: each one's least squares are it
        exponents = _descend(channels, levels, exponents, room)
    return WeightCode(config.method, levels, _powers(exponents.reshape(kernel.shape[axes:])))


def _clips(clip: Clip) -> range:
    return range(1 if clip == "max" else CLIP_CANDIDATES)


def _covering_exponent(kernel: Kernel, levels: Ints) -> int:
    """Of the finest step that clips nothing (beyond half a gap at the top)."""
    largest = float(np.max(np.abs(kernel), initial=0.0))
    reach = float(levels[-1] + (levels[-1] - levels[-2]) / 2)
    return ceil(log2(largest / reach)) if largest > 0 else -level_bits(levels)


def _channel_exponents(channels: Kernel, levels: Ints, config: WeightConfig) -> Ints:
    """Each column's exponent, by itself; a column of zeros follows the largest."""
    covers = np.array([_covering_exponent(column, levels) for column in channels.T])
    alive = channels.any(axis=0)
    covers[~alive] = covers[alive].max() if alive.any() else -level_bits(levels)
    candidates = [covers - finer for finer in _clips(config.clip)]
    errors = [
        ((WeightCode(config.method, levels, _powers(exponents)).round(channels) - channels) ** 2).sum(axis=0)
        for exponents in candidates
    ]
    return np.asarray(np.choose(np.argmin(errors, axis=0), candidates), np.int64)


def _within(exponents: Ints, room: int) -> Ints:
    """Raise exponents that are too far below the largest one for the hardware's type."""
    return np.asarray(np.maximum(exponents, exponents.max() - room), np.int64)


def _descend(channels: Kernel, levels: Ints, exponents: Ints, room: int) -> Ints:
    """Coordinate descent on the spectral norm, a channel's exponent at a time, until a sweep gains little."""

    def loss(channel: int, exponent: int) -> Kernel:
        column = channels[:, channel]
        return WeightCode("uniform", levels, _powers(exponent)).round(column) - column

    chosen = exponents.copy()
    difference = np.stack([loss(channel, int(exponent)) for channel, exponent in enumerate(chosen)], axis=1)
    gram = difference.T @ difference
    best, before = largest_root(gram), np.inf
    while best < before * (1 - SWEEP_GAIN):
        before = best
        for channel, change in product(range(len(chosen)), (-1, 1)):
            exponent = int(chosen[channel]) + change
            if np.ptp([*chosen[:channel], *chosen[channel + 1 :], exponent]) > room:
                continue
            column = loss(channel, exponent)
            products = difference.T @ column
            products[channel] = column @ column
            tried = gram.copy()
            tried[channel], tried[:, channel] = products, products
            if (found := largest_root(tried)) < best:
                best, gram = found, tried
                chosen[channel], difference[:, channel] = exponent, column
    return chosen


def _powers(exponents: Ints | int) -> Kernel:
    return np.asarray(np.ldexp(1.0, exponents), np.float64)
