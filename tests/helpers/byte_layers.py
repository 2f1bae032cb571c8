"""Layers of bytes at their extremes, with what they compute by NumPy: for every instruction set's kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.program import Input, Linear, Network, Value, Window
from hw.simulate.bitsim.recipes import Cast, recipe
from hw.simulate.bitsim.scalars import quantize
from qmodels.formats import FixedPoint, Overflow, Rounding

SAMPLES = 35
_BYTE, _WIDE = FixedPoint(8, 8, False), FixedPoint(32, 32)
_RELU = FixedPoint(8, 12, False, Rounding.RND_CONV, Overflow.SAT)


@dataclass(frozen=True)
class ByteLayer:
    """One layer on codes (N, height, width, channels) of uint8, its kernel with quads, its results (N, elements)."""

    network: Network
    codes: NDArray[np.uint8]
    kernel: str
    wanted: NDArray[np.float32]


def _layer(
    kernel: str,
    image: tuple[int, int, int],
    filters: int,
    size: int,
    weights: tuple[int, int],
    accumulator: FixedPoint = _WIDE,
    result: FixedPoint | None = None,
) -> ByteLayer:
    """A convolution with 'same' padding. A third of the weights is `weights[0]`, a third `weights[1]`."""
    rng, (height, width, channels), pad = np.random.default_rng(filters), image, size // 2
    result = result or accumulator
    kernels = rng.integers(weights[0], weights[1] + 1, (filters, size, size, channels))
    kernels[rng.random(kernels.shape) < 1 / 3] = weights[0]
    kernels[rng.random(kernels.shape) < 1 / 3] = weights[1]
    kernels[0], kernels[-1] = weights
    bias = rng.integers(-100, 100, filters)
    source, out = Value(0, "x", image, _BYTE), Value(1, "layer", (height, width, filters), result)
    window, cast = Window(size, size, 1, 1, pad, pad), recipe(Cast(accumulator, result, "layer"))
    layer = Linear(source, out, window, kernels, FixedPoint(8, 8), bias, accumulator, cast, "layer")
    codes = rng.choice([0, 1, 127, 128, 254, 255], (SAMPLES, *image)).astype(np.uint8)
    codes[0], codes[1] = 0, 255
    padded = np.pad(codes.astype(np.int64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))  # (N, h, w, channels, y, x)
    sums = np.einsum("nhwcyx,fyxc->nhwf", windows, kernels) + bias
    half = 1 << (accumulator.width - 1)
    wrapped = (sums + half) % (2 * half) - half
    raw = np.array([quantize(int(v), accumulator, result) for v in wrapped.reshape(-1)], dtype=np.int64)
    wanted = (raw * 2.0**-result.fraction).astype(np.float32).reshape(SAMPLES, -1)
    return ByteLayer(Network((Input(source, 0), layer), (source,), (out,)), codes, kernel, wanted)


def byte_layers() -> list[ByteLayer]:
    """Every kernel of bytes: blocks of 8, 4 and 2 filters, three tiles, odd and even windows, many pixels, all ends."""
    sixteen = FixedPoint(16, 16)
    return [
        _layer("int8", (1, 1, 9), 7, 1, (-64, 63), sixteen),  # sums that wrap
        _layer("int8", (3, 5, 1), 4, 3, (-14, 14), result=_RELU),
        _layer("int8", (4, 3, 2), 14, 3, (-7, 6), FixedPoint(14, 14), FixedPoint(9, 8)),
        _layer("int8_chunked", (1, 1, 256), 10, 1, (-8, 7)),
        _layer("int8_chunked", (2, 3, 20), 6, 3, (-4, 3), result=_RELU),
        _layer("int8_wide", (1, 1, 33), 13, 1, (-128, 127)),
        _layer("int8_wide", (1, 5, 6), 2, 1, (-128, 127), FixedPoint(17, 17), sixteen),
        _layer("int8_wide", (3, 3, 5), 37, 3, (-128, 127), result=_RELU),
        _layer("int8_wide", (4, 5, 3), 9, 3, (-128, 127), result=_RELU),
        _layer("int8_wide", (2, 2, 64), 8, 3, (-128, 127), FixedPoint(40, 40), FixedPoint(20, 24, True, Rounding.RND)),
    ]
