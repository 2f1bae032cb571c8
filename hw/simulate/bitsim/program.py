"""The lowered accelerator: pure data, in integers. No hls4ml, no C++.

A `Network` is a list of operations on `Value`s in the order csim runs them. What an operation does to each result
is a *recipe*: a tuple of small actions (casts, tables, comparisons) that `recipes.py` turns into machine steps once
the range of the numbers that reach it is known.
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
        """Number of elements a sample."""
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
    """Where a kernel looks: sizes, strides, and zeros (or pooling's own value) above and left of the image."""

    height: int = 1
    width: int = 1
    stride_y: int = 1
    stride_x: int = 1
    pad_top: int = 0
    pad_left: int = 0


@dataclass(frozen=True)
class Linear:
    """Dense or convolution: out[f] = sum over the window of x * weights[f] + bias[f], in an accumulator.

    `weights` (filters, rows, columns, channels), or (channels, rows, columns, 1) when depthwise, are raw integers;
    `bias` is raw in the accumulator's format. `order[f]` lists each filter's products (flat indices into its
    weights) as csim adds them. `recipe` starts from the accumulator. `layer` names it, whatever is fused into it.
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
    """Every element through the recipe. `channelwise` parameters follow the last axis, others every element."""

    source: Value
    out: Value
    recipe: Recipe


@dataclass(frozen=True)
class Binary:
    """Two values, each through its own recipe, met element by element, and the result through a third."""

    one: Value
    two: Value
    out: Value
    merge: Merge
    on_one: Recipe
    on_two: Recipe
    recipe: Recipe


@dataclass(frozen=True)
class Pool:
    """Max or average over windows. `divide` holds a recipe for each number of elements inside the image, or one."""

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
    """out[to[i]] = source[from_[i]] through the recipe, 0 where `from_` is negative; the other elements are kept.

    Several gathers into one value make a concatenation.
    """

    source: Value
    out: Value
    from_: NDArray[np.int32]
    to: NDArray[np.int32]
    recipe: Recipe


@dataclass(frozen=True)
class Pad:
    """Zeros around an image. A convolution that reads it can look beyond its input's edge instead."""

    source: Value
    out: Value
    top: int
    left: int
    bottom: int
    right: int

    def gather(self) -> Gather:
        """The same as a move."""
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
    """Softmax over the last axis, with csim's tables. Kinds: 0 latency, 1 stable, 2 legacy, 3 argmax."""

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
    """Values the operation reads."""
    if isinstance(op, Input):
        return ()
    return (op.one, op.two) if isinstance(op, Binary) else (op.source,)


@dataclass(frozen=True)
class Network:
    """The whole accelerator, and which values its users see."""

    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    traced: dict[str, Value] = field(default_factory=dict)
