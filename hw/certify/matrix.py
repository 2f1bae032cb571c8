"""Integer matrices that multiply whole batches: exactly where integers come in, in float64 where floats do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.interval import SAFE_BITS, Interval

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_FLOAT_LIMIT = 2.0**53
_PRODUCT_BITS = SAFE_BITS - 2  # so that a few products can be added
_DENSE = 0.1  # share of numbers that are not 0 from which on a dense product is faster
_DENSE_CELLS = 1 << 24


class TooLarge(Exception):
    """A product may not fit the machine's integers: no proof, not a failure."""


def check_products(factor: Any, *others: Any, terms: int = 1) -> None:
    """Before whole numbers are multiplied: a product that int64 does not hold wraps, and would look like a small one.

    Args:
        factor: an array; of floats nothing is asked.
        others: arrays, each multiplied by it.
        terms: how many such products are added up.

    Raises:
        TooLarge: by the largest magnitudes they may not fit.
    """
    if np.asarray(factor).dtype == np.float64:
        return
    largest = max(float(np.abs(other).max(initial=0)) for other in others)
    if terms * largest * float(np.abs(factor).max(initial=0)) >= 2.0**_PRODUCT_BITS:
        raise TooLarge


@dataclass(frozen=True, eq=False)
class Matrix:
    """(outputs, inputs), int64."""

    sparse: csr_matrix

    @cached_property
    def _forward(self) -> Any:
        return self._float(self.sparse)

    @cached_property
    def _backward(self) -> Any:
        return self._float(self.sparse.T.tocsr())

    @cached_property
    def up(self) -> Matrix:
        """What is above zero."""
        return Matrix(self.sparse.maximum(0).tocsr())

    @cached_property
    def down(self) -> Matrix:
        """What is below zero."""
        return Matrix(self.sparse.minimum(0).tocsr())

    @staticmethod
    def _float(matrix: csr_matrix) -> Any:
        cells = matrix.shape[0] * matrix.shape[1]
        dense = cells <= _DENSE_CELLS and matrix.nnz > _DENSE * cells
        return matrix.toarray().astype(np.float64) if dense else matrix.astype(np.float64)

    @cached_property
    def _heaviest(self) -> tuple[int, int]:
        """Largest sum of magnitudes of a row, and of a column."""
        size = abs(self.sparse)
        return tuple(int(size.sum(axis=axis).max()) if size.nnz else 0 for axis in (1, 0))  # type: ignore[return-value]

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """matrix @ x for every row of x (N, inputs)."""
        return self._product(self._forward, x, self._heaviest[0], backward=False)

    def backward(self, y: NDArray[Any]) -> NDArray[Any]:
        """y @ matrix for every row of y (N, outputs)."""
        return self._product(self._backward, y, self._heaviest[1], backward=True)

    def interval(self, what: Interval) -> Interval:
        """Bounds (N, outputs) from bounds (N, inputs)."""
        one, two = self.up, self.down
        low = one.forward(what.low) + two.forward(what.high)
        return Interval(low, one.forward(what.high) + two.forward(what.low))

    def _product(self, fast: Any, x: NDArray[Any], heaviest: int, backward: bool) -> NDArray[Any]:
        if x.dtype == np.float64:
            return np.ascontiguousarray((fast @ x.T).T)
        most = heaviest * float(np.abs(x).max(initial=0))
        if most < _FLOAT_LIMIT:  # every partial sum is an integer that float64 holds
            return np.ascontiguousarray((fast @ x.T.astype(np.float64)).T).astype(np.int64)
        if most >= 2.0**SAFE_BITS:
            raise TooLarge
        return np.ascontiguousarray(((self.sparse.T if backward else self.sparse) @ x.T).T)
