"""InputGrid: what a device's input can be.

Everything that is shown to a device is integer *codes* on its grid; code k stands for the value k * 2**-F. Data,
attacks, example files, the exactness gate and the test bench hold codes. A float appears once, in the victim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.formats import FixedPoint

Codes = NDArray[Any]  # (N, ...) whole numbers in the grid's dtype
Values = NDArray[np.float32]  # (N, ...) the numbers that codes stand for
Points = NDArray[Any]  # (N, ...) real numbers in grid steps: codes, or something between them

#: float32, in which Keras computes, holds whole numbers up to 24 bits.
MAX_INPUT_BITS = 24
_DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.int32)


@dataclass(frozen=True, eq=False)
class InputGrid:
    """A number format, the bounds of every feature, and the features that nobody can touch.

    Args:
        format: of one input number; up to 24 bits.
        lower: smallest code, one for all features or an array of one sample's shape; None: the format's.
        upper: largest code, likewise.
        frozen: features that an attacker cannot change, an array of one sample's shape; None: none.

    Raises:
        UserError: the format is too wide, or the bounds are not inside it.
    """

    format: FixedPoint
    lower: Any = None
    upper: Any = None
    frozen: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.format.width > MAX_INPUT_BITS:
            raise UserError(
                f"input format {self.format}: has {self.format.width} bits; allowed: up to {MAX_INPUT_BITS}"
            )
        low, high = self.format.raw_min, self.format.raw_max
        for name, default in (("lower", low), ("upper", high)):
            given = getattr(self, name)
            bound = np.asarray(default if given is None else given)
            if not np.array_equal(bound, np.rint(bound)) or bound.min() < low or bound.max() > high:
                raise UserError(
                    f"input grid: {name} must be whole codes from {low} to {high}, the range of {self.format}"
                )
            whole = bound.astype(np.int32)
            object.__setattr__(self, name, whole if whole.ndim else int(whole))
        if np.any(np.asarray(self.lower) > np.asarray(self.upper)):
            raise UserError("input grid: a lower bound lies above its upper bound")

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The smallest integer type that holds every code."""
        low, high = self.format.raw_min, self.format.raw_max
        return next(np.dtype(t) for t in _DTYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)

    @property
    def step(self) -> np.float32:
        """Value of one grid step (one LSB)."""
        return np.float32(self.format.lsb)

    @cached_property
    def span(self) -> int:
        """Number of codes of the widest feature: 256 for images."""
        return int(np.max(np.asarray(self.upper) - np.asarray(self.lower))) + 1

    @property
    def scale(self) -> float:
        """The span, rounded up to a power of two: dividing by it is exact. Settings may be shares of it."""
        return float(2 ** (self.span - 1).bit_length())

    def to_values(self, codes: Points) -> Values:
        """The numbers that codes stand for, exactly."""
        return np.multiply(codes, self.step, dtype=np.float32)

    def to_codes(self, values: NDArray[Any]) -> Codes:
        """The nearest codes within the bounds, ties to even; NaN becomes the lower bound."""
        return self.nearest(np.asarray(values, np.float64) / float(self.step))

    def nearest(self, points: Points) -> Codes:
        """The nearest codes to points in grid steps, within the bounds; NaN becomes the code nearest to 0."""
        steps = np.nan_to_num(np.rint(np.asarray(points, np.float64)), nan=0.0)
        codes: Codes = np.clip(steps, self.lower, self.upper).astype(self.dtype)
        return codes

    def random(self, count: int, shape: tuple[int, ...], rng: np.random.Generator) -> Codes:
        """`count` samples of codes, uniform within the bounds."""
        return rng.integers(self.lower, np.asarray(self.upper) + 1, (count, *shape)).astype(self.dtype)

    def random_ends(self, count: int, shape: tuple[int, ...], rng: np.random.Generator) -> Codes:
        """`count` samples whose every feature is its smallest or its largest code."""
        high = rng.choice([False, True], (count, *shape))
        codes: Codes = np.where(high, self.upper, self.lower).astype(self.dtype)
        return codes

    def extremes(self, shape: tuple[int, ...]) -> Codes:
        """Seven inputs at the edges: all lowest, all highest, two checkerboards, a ramp, one high feature twice."""
        lower, upper = (np.broadcast_to(bound, shape) for bound in (self.lower, self.upper))
        odd = np.indices(shape).sum(axis=0) % 2 == 1
        ramp = lower + np.arange(np.prod(shape)).reshape(shape) % (upper - lower + 1)
        ones = [lower.copy(), lower.copy()]
        ones[0].flat[0], ones[1].flat[-1] = upper.flat[0], upper.flat[-1]
        boards = [np.where(odd, upper, lower), np.where(odd, lower, upper)]
        return np.stack([lower, upper, *boards, ramp, *ones]).astype(self.dtype)

    def as_json(self) -> dict[str, Any]:
        """For digests and records."""
        bounds = {name: np.asarray(getattr(self, name)).tolist() for name in ("lower", "upper")}
        return {"format": str(self.format), **bounds, "frozen": None if self.frozen is None else self.frozen.tolist()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InputGrid) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash((self.format, self.span))

    def __repr__(self) -> str:
        full = np.all(self.lower == self.format.raw_min) and np.all(self.upper == self.format.raw_max)
        bounds = "" if full else ", bounded"
        kept = "" if self.frozen is None else f", {int(self.frozen.sum())} frozen"
        return f"InputGrid({self.format}{bounds}{kept})"


#: Number of inputs that `InputGrid.extremes` gives.
EXTREMES = 7
#: Images: pixels k/256, k in 0..255. k/255 is no binary fraction and would cost bit-exactness.
IMAGE_GRID = InputGrid(FixedPoint(8, 0, signed=False))
