"""A prequantized Keras model as integers: what `encode` makes programs of.

Every tensor holds whole numbers; one of them is worth 2^-fraction. Bounds are proved on the way, so that activations
fit 16 bits and sums 32. A model that is not of these layers, or does not fit, is left to TensorFlow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INT16, INT32 = 2**15 - 1, 2**31 - 1
Integers = NDArray[np.int64]


class NotCovered(Exception):
    """The model has something that is not computed here."""


@dataclass(frozen=True)
class Activation:
    """Rounds a sum by `shift` bits, halves to even (below 0: shifts it up), and clips it.

    Gradients pass where 0 < sum < `open`, or always.
    """

    shift: int
    low: int
    high: int
    open: int | None


@dataclass(frozen=True)
class Tensor:
    """What one layer gives."""

    shape: tuple[int, int, int]  # rows, columns, channels
    fraction: int
    low: int
    high: int
    activation: Activation | None = None

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)

    @property
    def wide(self) -> bool:
        """Whether its numbers are 32 bits wide; they are sums then that no activation has rounded."""
        return self.low < -INT16 or self.high > INT16


@dataclass(frozen=True)
class Layer:
    """One operation; `sources` and `result` are numbers of tensors."""

    kind: str  # linear, add, max-pool or sum-pool
    sources: tuple[int, ...]
    result: int
    kernel: Integers | None = None  # (kh, kw, in, out) of a linear layer
    back: Integers | None = None  # the kernel for gradients, with the powers of two of its channels moved (balance.py)
    unit: float = 1.0  # what one of the kernel's units is worth, or of a pool's gradient
    bias: Integers | None = None  # (out,), in units of the sum
    scale: int = 0  # bits by which the kernel is shifted up for the sum
    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)  # rows and columns of zeros above and to the left
    ups: tuple[int, ...] = ()  # bits by which the summands of `add` are shifted up
    products: int = 0  # multiplications of one sample


@dataclass(frozen=True)
class Network:
    """Tensors, and layers in the order of computation; the first tensor is the input, the last one the output."""

    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    input_size: int
    step: float  # of the input grid
