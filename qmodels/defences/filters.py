"""Filters before the network: input codes to input codes, on the grid, and how an attacker differentiates through them.

An attacker who knows a filter follows its gradient where it has one, else takes it for the identity while going
backward (BPDA: Athalye, Carlini, Wagner 2018, arXiv:1802.00420). Going forward he always meets the filter itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.grid import Codes, InputGrid
from qmodels.runtime import runtime

Tensor = Any
Place = Literal["hardware", "host"]


class Filter(Protocol):
    """A function of single inputs that keeps them on the grid."""

    @property
    def place(self) -> Place:
        """Where it can be: in the accelerator, exactly, or only before it."""
        ...

    def codes(self, x: Codes) -> Codes:
        """(N, ...) -> (N, ...): what the network is shown."""
        ...

    def tensors(self, points: Tensor) -> Tensor:
        """The same for tensors in grid steps, with the gradient that the attacker follows."""
        ...


@dataclass(frozen=True)
class Identity:
    """Nothing."""

    place: Place = "hardware"

    def codes(self, x: Codes) -> Codes:
        """The same codes."""
        return x

    def tensors(self, points: Tensor) -> Tensor:
        """The same points."""
        return points


@dataclass(frozen=True)
class BitDepth:
    """The nearest number of fewer bits, ties upwards: what an input type of that width does (`hardware_type`).

    Ours: Xu et al. round to 2^bits - 1 equal steps from 0 to 1, which are no binary fractions.
    """

    grid: InputGrid
    bits: int

    @property
    def place(self) -> Place:
        """It is the accelerator's input type."""
        return "hardware"

    @property
    def hardware_type(self) -> FixedPoint:
        """The input type that does the same."""
        fmt = self.grid.format
        return FixedPoint(fmt.width - self._dropped, fmt.integer, fmt.signed, Rounding.RND, Overflow.SAT)

    @property
    def _dropped(self) -> int:
        return max(0, self.grid.format.width - self.bits)

    def codes(self, x: Codes) -> Codes:
        """Codes of the finer grid that the coarser one has too."""
        dropped, coarse = self._dropped, self.hardware_type
        half = (1 << dropped) >> 1
        steps = np.clip((x.astype(np.int64) + half) >> dropped, coarse.raw_min, coarse.raw_max)
        shorter: Codes = (steps << dropped).astype(x.dtype)
        return shorter

    def tensors(self, points: Tensor) -> Tensor:
        """Rounded forward, the identity backward."""
        tf, step, coarse = runtime().tf, float(1 << self._dropped), self.hardware_type
        steps = tf.clip_by_value(tf.floor(points / step + 0.5), float(coarse.raw_min), float(coarse.raw_max))
        return _straight(points, steps * step)


@dataclass(frozen=True)
class Median:
    """Each pixel becomes the median of a square around it, channel by channel; of an even number the upper one.

    As SciPy's `median_filter` with mirrored edges, which the source used. An even window reaches further up and left.
    """

    window: int

    @property
    def place(self) -> Place:
        """hls4ml has no such layer."""
        return "host"

    def codes(self, x: Codes) -> Codes:
        """(N, H, W, C) -> the same shape."""
        from scipy.ndimage import median_filter

        filtered: Codes = median_filter(x, size=(1, self.window, self.window, 1), mode="reflect")
        return filtered

    def tensors(self, points: Tensor) -> Tensor:
        """With its own gradient: that of the pixel which is the median."""
        tf, window = runtime().tf, self.window
        before, after = window // 2, (window - 1) // 2
        wide = tf.pad(points, [[0, 0], [before, after], [before, after], [0, 0]], mode="SYMMETRIC")
        height, width = points.shape[1], points.shape[2]
        moved = [wide[:, row : row + height, column : column + width] for row, column in np.ndindex(window, window)]
        return tf.sort(tf.stack(moved, axis=-1), axis=-1)[..., window * window // 2]


@dataclass(frozen=True)
class Chain:
    """One filter after the other."""

    parts: tuple[Filter, ...]

    @property
    def place(self) -> Place:
        """In hardware only where all are."""
        return "hardware" if all(part.place == "hardware" for part in self.parts) else "host"

    def codes(self, x: Codes) -> Codes:
        """Through all of them."""
        for part in self.parts:
            x = part.codes(x)
        return x

    def tensors(self, points: Tensor) -> Tensor:
        """Through all of them."""
        for part in self.parts:
            points = part.tensors(points)
        return points


def straight_through(filtered: Filter, grid: InputGrid, points: Tensor) -> Tensor:
    """A filter that is worked out in NumPy, as the identity backward."""
    tf = runtime().tf

    def forward(x: Any) -> Any:
        return filtered.codes(grid.nearest(x)).astype(np.float32)

    found = tf.numpy_function(forward, [points], tf.float32)
    found.set_shape(points.shape)
    return _straight(points, found)


def _straight(points: Tensor, filtered: Tensor) -> Tensor:
    """The second forward, the identity backward; whole numbers of up to 24 bits stay exact."""
    return points + runtime().tf.stop_gradient(filtered - points)
