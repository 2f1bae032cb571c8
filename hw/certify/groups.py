"""Elements of a leaf that depend on each other: which combinations of their values may occur."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.interval import Integers
from hw.certify.matrix import check_products


@dataclass(frozen=True, eq=False)
class Group:
    """Elements (n,) of a value, and all that they can be together (count, n)."""

    elements: NDArray[np.int64]
    combinations: NDArray[np.int64]

    @cached_property
    def _floats(self) -> NDArray[np.float64]:
        return self.combinations.astype(np.float64)

    def best(self, mu: Any) -> Integers:
        """The combination (rows, n) at which mu * value (mu of all the leaf's elements) is least: exact for integers.

        Raises:
            TooLarge: int64 may not hold it.
        """
        mine = mu[:, self.elements]
        check_products(mine, self.combinations, terms=len(self.elements))
        possible = self._floats if mine.dtype == np.float64 else self.combinations
        found: NDArray[np.int64] = self.combinations[(mine @ possible.T).argmin(axis=1)]
        return found
