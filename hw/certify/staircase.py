"""A quantizer with its activation as what it is: a staircase that never goes down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hw.certify.interval import Integers, Interval
from hw.certify.matrix import check_products
from hw.certify.recipes import apply
from hw.simulate.bitsim.program import Value
from hw.simulate.bitsim.recipes import Recipe

#: Numbers that a recipe is tried on, one by one, to see its steps.
MOST_POINTS = 1 << 23
_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class Staircase:
    """g(a) = values[i] for starts[i] <= a < starts[i + 1], on [starts[0], last]; values never decrease.

    Args:
        starts: the first number of every step, increasing.
        values: what it gives, increasing.
        last: the largest number that was tried.
    """

    starts: NDArray[np.int64]
    values: NDArray[np.int64]
    last: int

    @classmethod
    def of(cls, recipe: Recipe, value: Value, low: int, high: int) -> Staircase | None:
        """The staircase of a recipe on [low, high]; None where it is none, or too long to be tried."""
        if not recipe.uniform or not 0 <= high - low < MOST_POINTS:
            return None
        single = Value(value.index, value.layer, (1,), value.format)
        starts, values = [], []
        before: int | None = None
        for first in range(low, high + 1, _PIECE):
            points = np.arange(first, min(first + _PIECE, high + 1))
            found = apply(recipe, points[:, None], single)[:, 0]
            if found.dtype == object:
                return None
            changed = np.flatnonzero(np.diff(found, prepend=found[0] if before is None else before))
            if before is None:
                changed = np.concatenate([[0], changed])
            starts.append(points[changed])
            values.append(found[changed])
            before = int(found[-1])
        steps = np.concatenate(values)
        if np.any(np.diff(steps) < 0):
            return None
        return cls(np.concatenate(starts), steps, high)

    def part(self, low: int, high: int) -> Staircase:
        """The same on a part of its numbers."""
        first, last = (int(i) for i in self.index(np.array([low, high])))
        starts = self.starts[first : last + 1].copy()
        starts[0] = low
        return Staircase(starts, self.values[first : last + 1], high)

    def index(self, a: Integers) -> NDArray[np.int64]:
        """The step each number is on."""
        return np.searchsorted(self.starts, a, "right") - 1

    def __call__(self, a: Integers) -> NDArray[np.int64]:
        """g(a)."""
        found: NDArray[np.int64] = self.values[self.index(a)]
        return found

    def image(self, what: Interval) -> Interval:
        """g of an interval."""
        return Interval(self(what.low), self(what.high))

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The last number of every step."""
        return np.append(self.starts[1:] - 1, self.last)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """How many numbers share a step."""
        return self.ends - self.starts + 1

    @cached_property
    def usual(self) -> float:
        """The usual width of a step."""
        return float(np.median(self.widths))

    @cached_property
    def identity(self) -> bool:
        """Whether every number stays what it is."""
        return bool((self.widths == 1).all() and (self.values == self.starts).all())

    @cached_property
    def regular(self) -> bool:
        """Whether all inner steps are alike, or every second one is (ties to even): then minima lie at the ends."""
        inner = slice(1, None)
        return all(len(np.unique(part[inner][2:] - part[inner][:-2])) <= 1 for part in (self.starts, self.values))

    def minimum(self, mu: Integers, lam: Integers, low: Integers, high: Integers) -> tuple[Integers, Integers]:
        """min over a in [low, high] of mu * g(a) - lam * a, and an a that attains it; all arrays of one shape.

        On a step the best a is its last number where lam > 0, its first one else. int64 is exact, floats are allowed.

        Raises:
            TooLarge: int64 may not hold it.
        """
        check_products(mu, self.values)
        check_products(lam, low, high)
        first, last = self.index(low), self.index(high)
        best = at = None
        for index in self._candidates(first, last):
            edge = np.where(lam > 0, np.minimum(self.ends[index], high), np.maximum(self.starts[index], low))
            found = mu * self.values[index] - lam * edge
            if best is None or at is None:
                best, at = found, edge
            else:
                better = found < best
                best, at = np.where(better, found, best), np.where(better, edge, at)
        assert best is not None and at is not None
        return best, at

    def _candidates(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        most = int((last - first).max(initial=0))
        if self.regular and most > 5:
            up = [np.minimum(first + k, last) for k in range(3)]
            return up + [np.maximum(last - k, first) for k in range(3)]
        return [np.minimum(first + k, last) for k in range(most + 1)]
