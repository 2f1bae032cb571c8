"""The lowered accelerator: pure data, in integers. No hls4ml, no C++.

A `Network` is a list of operations on `Value`s in the order csim runs them. What an operation does to each result
is a *recipe* (recipes.py): a tuple of small actions (casts, tables, comparisons), which encode/compiler.py turns into
machine steps once the range of the numbers that reach it is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import Merge, SoftmaxKind
from hw.simulate.bitsim.recipes import Recipe
from qmodels.formats import FixedPoint

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Value:
    """One tensor between layers: `shape` without the batch, channels last; `layer` made it."""

    index: int
    layer: str
    shape: tuple[int, ...]
    format: FixedPoint

    @property
    def size(self) -> int:
        """How many elements one sample has."""
        return int(np.prod(self.shape))

    @property
    def image(self) -> tuple[int, int, int]:
        """The same elements in the same order as (height, width, channels)."""
        if len(self.shape) == 1:
            return 1, 1, self.shape[0]
        if len(self.shape) == 3:
            return self.shape[0], self.shape[1], self.shape[2]
        return 1, int(np.prod(self.shape[:-1])), self.shape[-1]


@dataclass(frozen=True)
class Input:
    """The user's array `which`, converted to the value's format as `ap_fixed(double)` does."""

    out: Value
    which: int


@dataclass(frozen=True)
class Window:
    """Where a kernel looks: its size, its strides, and how far it begins above and left of the image.

    Beyond the image it sees zeros, or the pooling layer's own value.
    """

    height: int = 1
    width: int = 1
    stride_y: int = 1
    stride_x: int = 1
    pad_top: int = 0
    pad_left: int = 0


@dataclass(frozen=True)
class Linear:
    """Dense or convolution: out[f] = sum over the window of x * weights[f] + bias[f], in an accumulator.

    `weights` are raw integers: (filters, rows, columns, channels), or (channels, rows, columns, 1) when depthwise.
    `bias` (filters,) is raw in the accumulator's format. `order` lists the products of every filter as csim adds them,
    as flat indices into a filter's weights; None: as they lie. `recipe` starts from the accumulator and gives `out`.
    `layer` is the layer that made it, whatever has been fused into it since.
    """

    source: Value
    out: Value
    window: Window
    weights: Ints
    weight_format: FixedPoint
    bias: Ints
    accumulator: FixedPoint
    recipe: Recipe
    layer: str
    depthwise: bool = False
    order: Ints | None = None


@dataclass(frozen=True)
class Map:
    """out[i] = recipe(source[i]), element by element. Only `Param` actions tell elements apart."""

    source: Value
    out: Value
    recipe: Recipe


@dataclass(frozen=True)
class Binary:
    """out[i] = recipe(merge(on_one(one[i]), on_two(two[i]))), element by element."""

    one: Value
    two: Value
    out: Value
    merge: Merge
    on_one: Recipe
    on_two: Recipe
    recipe: Recipe


@dataclass(frozen=True)
class Pool:
    """The largest value or the average of every window, channel by channel.

    Every element goes through `on_input`, the window's result through `recipe`. For averages, `on_sum` follows every
    addition, and the sum goes through `divide` first: one recipe for each number of elements inside the image, or one
    for all windows. `tree`: elements are added as a balanced tree, not one by one. `pad_value` is what is seen beyond
    the image.
    """

    source: Value
    out: Value
    window: Window
    maximum: bool
    tree: bool
    pad_value: int
    on_input: Recipe
    on_sum: Recipe
    divide: tuple[Recipe, ...]
    recipe: Recipe


@dataclass(frozen=True)
class Gather:
    """out[to[i]] = recipe(source[from_[i]]), or 0 where `from_` is negative. Both index flat, channels last.

    Other elements of `out` are left as they are: several gathers into one value make a concatenation.
    """

    source: Value
    out: Value
    from_: NDArray[np.int32]
    to: NDArray[np.int32]
    recipe: Recipe


@dataclass(frozen=True)
class Pad:
    """An image with zeros around it. `fuse` drops it where only convolutions read it: they look beyond the edge."""

    source: Value
    out: Value
    top: int
    left: int
    bottom: int
    right: int

    def gather(self) -> Gather:
        """The same as a Gather."""
        height, width, channels = self.source.image
        inside = np.arange(self.source.size, dtype=np.int32).reshape(height, width, channels)
        around = ((self.top, self.bottom), (self.left, self.right), (0, 0))
        index = np.pad(inside, around, constant_values=-1)
        return Gather(self.source, self.out, index.reshape(-1), np.arange(self.out.size, dtype=np.int32), Recipe())


@dataclass(frozen=True)
class Alias:
    """The same elements in the same order under another shape."""

    source: Value
    out: Value


@dataclass(frozen=True)
class Softmax:
    """Softmax over the last axis, with csim's tables and casts.

    latency, stable: recipe(exp(d) * inverse(sum of exps)), where d is x, or on_difference(largest - x) when stable.
    legacy: recipe(inverse(sum over j of exp(x[j] - x[i]))), and `diagonal` is exp(0). argmax: recipe(1 or 0).
    `to_index` and `to_inverse_index` find places in the tables; sums lie within `sum_range` before `on_sum` casts them.
    """

    source: Value
    out: Value
    kind: SoftmaxKind
    exp_table: Ints
    inverse_table: Ints
    diagonal: int
    on_difference: Recipe
    to_index: Recipe
    sum_range: tuple[int, int]
    on_sum: Recipe
    to_inverse_index: Recipe
    recipe: Recipe


Op = Input | Linear | Map | Binary | Pool | Gather | Pad | Alias | Softmax


def sources(op: Op) -> tuple[Value, ...]:
    """The values that the operation reads."""
    if isinstance(op, Input):
        return ()
    return (op.one, op.two) if isinstance(op, Binary) else (op.source,)


@dataclass(frozen=True)
class Network:
    """The whole accelerator: its operations in csim's order, inputs and outputs in hls4ml's, and what trace shows."""

    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    traced: dict[str, Value] = field(default_factory=dict)
