"""Kernels for gradients: powers of two of a channel go from one layer to the next, so that 15 bits are enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.gradients.network import INT16, INT32, Integers, Layer, NotCovered, Tensor

#: Bits by which channels may stay apart: the rounding of the smallest gradients weighs as much more at the end.
_APART = 3
#: Sums of so many units of weights times 15 bits fit 32, with what rounding adds.
_MOST_BACK = (INT32 - 2**24) // (INT16 + 1)


def balanced(layers: list[Layer], tensors: list[Tensor]) -> tuple[Layer, ...]:
    """The layers with kernels for gradients: powers of two of a channel go to the layer that alone reads it.

    Weights of equalized channels differ by powers of two, up and then down again. The gradients between would differ as
    much, and they share 15 bits.

    Raises:
        NotCovered: sums of gradients would not fit 32 bits, or 15 bits would not hold what they share.
    """
    found = list(layers)
    for number, layer in reversed(list(enumerate(layers))):
        reader = _only_reader(layers, layer.result)
        before, after = found[number].back, None if reader is None else found[reader].back
        if reader is None or before is None or after is None:
            continue
        largest = np.abs(after).max(axis=(0, 1, 3))
        most = np.maximum(_met(found[reader], tensors), 2 * largest)  # one weight alone has 16 bits
        room = np.log2(_MOST_BACK / np.maximum(most, 1)).astype(np.int64)
        powers = _powers_of_two(before)
        if (powers - room).max() > _APART:
            raise NotCovered("gradients of channels that differ too much")
        powers = np.minimum(powers, np.maximum(room, 0))
        found[number] = replace(found[number], back=before >> powers)
        found[reader] = replace(found[reader], back=after << powers[:, None])
    for layer in found:
        if layer.back is not None and _met(layer, tensors).max() > _MOST_BACK:
            raise NotCovered("gradients do not fit 32 bits")
    return tuple(found)


def _only_reader(layers: list[Layer], tensor: int) -> int | None:
    """The number of the linear layer that alone reads a tensor, behind any pooling."""
    while True:
        readers = [number for number, layer in enumerate(layers) if tensor in layer.sources]
        if len(readers) != 1 or layers[readers[0]].kind == "add":
            return None
        if layers[readers[0]].kind == "linear":
            return readers[0]
        tensor = layers[readers[0]].result


def _powers_of_two(kernel: Integers) -> Integers:
    """How often two divides all weights of an output channel, more than those of the others."""
    merged = np.bitwise_or.reduce(np.abs(kernel).reshape(-1, kernel.shape[3]), axis=0)
    powers = np.frexp(merged & -merged)[1].astype(np.int64)
    return np.where(merged > 0, powers - powers[merged > 0].min(initial=63), 0)


def _met(layer: Layer, tensors: list[Tensor]) -> Integers:
    """By input channel, the largest sum of magnitudes of weights that one input meets."""
    assert layer.back is not None
    once = tensors[layer.result].shape[:2] == (1, 1)  # one window, which has every input once
    found: Integers = by_phase(np.abs(layer.back), layer.window if once else layer.strides).max(axis=0)
    return found


def by_phase(numbers: NDArray[Any], strides: tuple[int, int]) -> NDArray[Any]:
    """Sums (phases, in) over what an input meets of a kernel (kh, kw, in, out), by its place between the windows."""
    down, right = (min(stride, size) for stride, size in zip(strides, numbers.shape, strict=False))
    return np.stack([
        numbers[y::down, x::right].sum(axis=(0, 1, 3)) for y in range(down) for x in range(right)
    ])  # fmt: skip
