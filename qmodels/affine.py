"""What scales numbers before a device reads them: a subtraction and a division for each feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """value = (number - offset) / divisor, for every feature of one input; divisors are above 0."""

    offset: FloatArray  # (features,)
    divisor: FloatArray  # (features,)

    @property
    def number(self) -> float | None:
        """What all numbers are divided by, if that is all; None where features differ or something is subtracted."""
        plain = not self.offset.any() and np.all(self.divisor == self.divisor[0])
        return float(self.divisor[0]) if plain else None

    def behind(self, first: Affine) -> Affine:
        """`first`, and then this one."""
        return Affine(first.offset + self.offset * first.divisor, first.divisor * self.divisor)

    def __str__(self) -> str:
        if self.number is not None:
            return f"divided by {self.number:g}"
        same = np.all(self.offset == self.offset[0]) and np.all(self.divisor == self.divisor[0])
        if same:
            return f"moved by {-self.offset[0]:g}, then divided by {self.divisor[0]:g}"
        return "moved and divided, each feature by its own numbers"
