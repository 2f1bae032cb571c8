"""The user's arrays, checked: real numbers, or integer codes and what one step of them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import Element
from hw.simulate.bitsim.program import Value
from qmodels.errors import UserError

Array = NDArray[Any]
Arrays = Array | Sequence[Array]
Fractions = int | Sequence[int | None] | None

LARGEST_FRACTION = 100  # code * 2**-fraction stays a normal float32
_CODES = ("uint8", "int8", "uint16", "int16", "int32")


@dataclass(frozen=True, eq=False)
class Samples:
    """One input, (N, elements) and contiguous. `fraction`: an integer code stands for code * 2**-fraction."""

    array: Array
    fraction: int = 0

    @property
    def element(self) -> Element:
        """Its type, as the kernels number it."""
        return Element[self.array.dtype.name.upper()]


def read(x: Arrays, fraction: Fractions, values: tuple[Value, ...]) -> list[Samples]:
    """The user's arrays for the inputs `values`, as the kernels take them. Codes and float32 are not copied.

    Real numbers become float64 when the first array of them is float64, else float32.

    Raises:
        UserError: a wrong number of arrays or fractions, a shape or a type that the input does not take.
    """
    given = [np.asarray(array) for array in x] if isinstance(x, (list, tuple)) else [np.asarray(x)]
    if len(given) != len(values):
        raise UserError(f"the model has {len(values)} inputs ({', '.join(v.layer for v in values)}), got {len(given)}")
    real = np.float64 if next((a.dtype for a in given if a.dtype.kind == "f"), None) == np.float64 else np.float32
    samples = [
        _samples(array, part, value, real)
        for array, part, value in zip(given, _fractions(fraction, values), values, strict=True)
    ]
    if len({len(one.array) for one in samples}) > 1:
        raise UserError(f"the inputs have different numbers of samples: {[len(one.array) for one in samples]}")
    return samples


def _fractions(fraction: Fractions, values: tuple[Value, ...]) -> list[int | None]:
    """One for each input."""
    if fraction is None or not isinstance(fraction, Sequence):
        return [fraction] * len(values)
    if len(fraction) != len(values):
        raise UserError(f"fraction is a list of {len(fraction)}, and the model has {len(values)} inputs")
    return list(fraction)


def _samples(array: Array, fraction: int | None, value: Value, real: type[np.floating[Any]]) -> Samples:
    what = f"input {value.layer!r}"
    if array.size % value.size or array.shape[1:] not in (value.shape, (value.size,)):
        raise UserError(f"{what} takes arrays of shape (N, {', '.join(map(str, value.shape))}), got {array.shape}")
    kind = array.dtype.kind
    if kind == "f":
        if fraction is not None:
            raise UserError(f"{what} contains real numbers ({array.dtype}): fraction={fraction} is for integer codes")
        return Samples(np.ascontiguousarray(array, dtype=real).reshape(-1, value.size))
    if array.dtype.name not in _CODES:
        raise UserError(f"{what} contains {array.dtype}: allowed are floats, and codes as {', '.join(_CODES)}")
    if fraction is None:
        raise UserError(
            f"{what} contains integer codes ({array.dtype}): say what one step is worth, fraction=8 for steps of 2**-8"
        )
    if not isinstance(fraction, (int, np.integer)) or abs(fraction) > LARGEST_FRACTION:
        raise UserError(
            f"{what}: fraction={fraction!r} must be a whole number from -{LARGEST_FRACTION} to {LARGEST_FRACTION}"
        )
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return Samples(native.reshape(-1, value.size), int(fraction))
