"""InputGrid: what a device's input can be.

Everything that is shown to a device is integer *codes* on its grid; code k stands for the value k * 2**-F. Data,
attacks, example files, the exactness gate and the test bench hold codes. A float appears once, in the victim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.runtime import runtime

Codes = NDArray[Any]  # (N, ...) whole numbers in the grid's dtype
Values = NDArray[np.float32]  # (N, ...) the numbers that codes stand for
Points = NDArray[Any]  # (N, ...) real numbers in grid steps: codes, or something between them

#: float32, in which Keras computes, holds whole numbers up to 24 bits.
MAX_INPUT_BITS = 24
_DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.int32)


class Port(NamedTuple):
    """One of several inputs of a device: its name, the shape of one sample, and the format of its numbers."""

    name: str
    shape: tuple[int, ...]
    format: FixedPoint

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return prod(self.shape)


def _joined(formats: Sequence[FixedPoint]) -> FixedPoint:
    """One format for all inputs: theirs, or where they differ whole numbers that hold each code."""
    signed = any(fmt.signed for fmt in formats)
    width = max(fmt.width + (signed and not fmt.signed) for fmt in formats)
    return formats[0] if len(set(formats)) == 1 else FixedPoint(width, width, signed)


@dataclass(frozen=True, eq=False)
class InputGrid:
    """A number format, the bounds of every feature, and the features that nobody can touch.

    A device of several inputs has one grid as well (`InputGrid.join`): a sample is the flat vector (F,) of all their
    codes, input after input, and only models and simulators are given the parts (`feed`).

    Args:
        format: of one input number; up to 24 bits. Where inputs have different ones: whole numbers that hold each code.
        lower: smallest code, one for all features or an array of one sample's shape; None: the format's.
        upper: largest code, likewise.
        frozen: features that an attacker cannot change, an array of one sample's shape; None: none.
        ports: the inputs, where there are several.

    Raises:
        UserError: the format is too wide, or the bounds are not inside it.
    """

    format: FixedPoint
    lower: Any = None
    upper: Any = None
    frozen: NDArray[np.bool_] | None = None
    ports: tuple[Port, ...] = ()

    @classmethod
    def join(cls, parts: Sequence[tuple[str, tuple[int, ...], InputGrid]]) -> InputGrid:
        """The grid of a device of several inputs.

        Args:
            parts: name, shape of one sample and grid of every input, in the model's order.
        """
        joined = _joined([grid.format for _, _, grid in parts])

        def flat(values: Iterable[Any]) -> NDArray[Any]:
            shaped = zip(values, (shape for _, shape, _ in parts), strict=True)
            return np.concatenate([np.broadcast_to(value, shape).reshape(-1) for value, shape in shaped])

        lower, upper = flat(grid.lower for _, _, grid in parts), flat(grid.upper for _, _, grid in parts)
        frozen = flat(np.False_ if grid.frozen is None else grid.frozen for _, _, grid in parts)
        ports = tuple(Port(name, tuple(shape), grid.format) for name, shape, grid in parts)
        return cls(joined, lower, upper, frozen if frozen.any() else None, ports)

    def moved(self, shifts: Sequence[int]) -> InputGrid:
        """The same codes, each input's worth 2**shift as much."""
        formats = [fmt._replace(integer=fmt.integer + shift) for fmt, shift in zip(self.formats, shifts, strict=True)]
        ports = tuple(port._replace(format=fmt) for port, fmt in zip(self.ports, formats, strict=False))
        return replace(self, format=_joined(formats), ports=ports)

    def __post_init__(self) -> None:
        if self.format.width > MAX_INPUT_BITS:
            raise UserError(
                f"input format {self.format}: has {self.format.width} bits; allowed: up to {MAX_INPUT_BITS}"
            )
        low, high = self._of_each("raw_min"), self._of_each("raw_max")
        for name, default in (("lower", low), ("upper", high)):
            given = getattr(self, name)
            bound = np.asarray(default if given is None else given)
            if not np.array_equal(bound, np.rint(bound)) or np.any(bound < low) or np.any(bound > high):
                raise UserError(
                    f"input grid: {name} must be whole codes from {np.min(low)} to {np.max(high)}, the range of "
                    f"{', '.join(str(fmt) for fmt in dict.fromkeys(self.formats))}"
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

    def _of_each(self, what: str) -> Any:
        """A number of the format: one for all features, or one for each where inputs have different formats."""
        if len(set(self.formats)) == 1:
            return getattr(self.formats[0], what)
        return np.concatenate([np.full(port.size, getattr(port.format, what)) for port in self.ports])

    @property
    def formats(self) -> tuple[FixedPoint, ...]:
        """Of every input, in order."""
        return tuple(port.format for port in self.ports) or (self.format,)

    @cached_property
    def step(self) -> np.float32 | NDArray[np.float32]:
        """Value of one grid step (one LSB): one number, or (F,) where inputs have different formats."""
        lsb = np.asarray(self._of_each("lsb"), np.float32)
        return lsb if lsb.ndim else np.float32(lsb)

    def feed(self, values: Any) -> Any:
        """Values or codes as a model or a simulator takes them: as they are, or a list, one for each of several inputs.

        Args:
            values: array or tensor, (N, ...), of several inputs (N, F).

        Raises:
            UserError: several inputs, and another shape.
        """
        if not self.ports:
            return values
        numbers = sum(port.size for port in self.ports)
        if tuple(values.shape[1:]) != (numbers,):
            raise UserError(f"{self}: flat samples of several inputs have shape (N, {numbers}); got {values.shape}")
        parts, start = [], 0
        for port in self.ports:
            part, start = values[:, start : start + port.size], start + port.size
            if len(port.shape) > 1:
                array = isinstance(part, np.ndarray)
                part = part.reshape(len(part), *port.shape) if array else runtime().tf.reshape(part, (-1, *port.shape))
            parts.append(part)
        return parts

    def over(self, inputs: Sequence[tuple[str, tuple[int, ...]]]) -> InputGrid:
        """This grid for a device with these inputs (name, shape): of several, each has this one.

        Raises:
            UserError: it is a grid of other inputs, or its bounds are those of one input.
        """
        if len(inputs) < 2 and not self.ports:
            return self
        if self.ports:
            if [port.shape for port in self.ports] != [shape for _, shape in inputs]:
                told = ", ".join(f"{name} {shape}" for name, shape in inputs)
                raise UserError(f"{self} is the grid of other inputs; the model has {told}")
            return self
        if np.ndim(self.lower) or np.ndim(self.upper) or self.frozen is not None:
            raise UserError(f"the model has {len(inputs)} inputs: give a grid for each of them, by InputGrid.join")
        return InputGrid.join([(name, shape, self) for name, shape in inputs])

    def flat(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The flat samples (N, F) of one array (N, *shape) for each of several inputs: the reverse of `feed`.

        Raises:
            UserError: another number of arrays, or a shape that the input does not have.
        """
        arrays = [np.asarray(part) for part in parts]
        wanted = [(port.name, port.shape) for port in self.ports]
        if [array.shape[1:] for array in arrays] != [shape for _, shape in wanted]:
            told = ", ".join(f"{name} (N, {', '.join(map(str, shape))})" for name, shape in wanted)
            raise UserError(f"input grid: wanted arrays {told}; got {', '.join(str(array.shape) for array in arrays)}")
        return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)

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
        return self.nearest(np.asarray(values, np.float64) / np.asarray(self.step, np.float64))

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
        ports = {"ports": [[name, list(shape), str(fmt)] for name, shape, fmt in self.ports]} if self.ports else {}
        kept = None if self.frozen is None else self.frozen.tolist()
        return {"format": str(self.format), **bounds, "frozen": kept, **ports}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InputGrid) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash((self.format, self.span))

    def __repr__(self) -> str:
        full = np.all(self.lower == self._of_each("raw_min")) and np.all(self.upper == self._of_each("raw_max"))
        bounds = "" if full else ", bounded"
        kept = "" if self.frozen is None else f", {int(self.frozen.sum())} frozen"
        told = ", ".join(f"{name}: {fmt}" for name, _, fmt in self.ports) or str(self.format)
        return f"InputGrid({told}{bounds}{kept})"


#: Number of inputs that `InputGrid.extremes` gives.
EXTREMES = 7
#: Images: pixels k/256, k in 0..255. k/255 is no binary fraction and would cost bit-exactness.
IMAGE_GRID = InputGrid(FixedPoint(8, 0, signed=False))
