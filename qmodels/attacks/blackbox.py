"""What black-box attacks share: whole grid steps, and a search over the inputs that still stand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.base import Diagnostics, Problem
from qmodels.grid import Codes, Points

Steps = NDArray[np.int32]  # codes with room for differences
Rows = NDArray[np.int64]  # indices of images


def whole(points: Points, low: NDArray[Any], high: NDArray[Any]) -> Steps:
    """The nearest whole steps between two bounds."""
    return np.clip(np.rint(points), low, high).astype(np.int32)


@dataclass
class Search:
    """The best example so far of every image, what it cost, and who still stands."""

    problem: Problem
    best: Steps
    margin: NDArray[np.float64]
    spent: NDArray[np.int64]
    fell_after: NDArray[np.int64] = field(init=False)
    first: NDArray[np.float64] = field(init=False)  # margins at the start

    def __post_init__(self) -> None:
        self.fell_after = np.where(self.margin < 0, self.spent, -1)
        self.first = self.margin.copy()

    @classmethod
    def begin(cls, problem: Problem, start: Codes) -> Search:
        """Ask about the starting points, one query each."""
        margins = problem.margins(start)
        return cls(problem, start.astype(np.int32), margins, np.ones(len(start), np.int64))

    def standing(self, budget: int) -> Rows:
        """Images that have not fallen and have queries left."""
        return np.flatnonzero((self.margin >= 0) & (self.spent < budget))

    def ask(self, rows: Rows, candidates: Codes) -> NDArray[np.float64]:
        """Margins of one candidate per row, counted."""
        self.spent[rows] += 1
        return self.problem.margins(candidates, rows)

    def ask_many(self, rows: Rows, candidates: Codes) -> NDArray[np.float64]:
        """Margins of any number of candidates of each row, counted; a row's best one is kept if it is better.

        Args:
            rows: which image each candidate belongs to; those of one image are neighbours.
            candidates: (len(rows), ...).
        """
        found = self.problem.margins(candidates, rows)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        for start, end in itertools.pairwise([*starts, len(rows)]):
            row, nearest = rows[start], start + int(found[start:end].argmin())
            if found[nearest] < self.margin[row]:
                self.best[row], self.margin[row] = candidates[nearest], found[nearest]
                if found[nearest] < 0:
                    self.fell_after[row] = self.spent[row] + nearest - start + 1
            self.spent[row] += end - start
        return found

    def propose(self, rows: Rows, candidates: Codes) -> NDArray[np.bool_]:
        """Ask about one candidate per row and keep those that lower the margin; which were kept."""
        found = self.ask(rows, candidates)
        better: NDArray[np.bool_] = found < self.margin[rows]
        kept = rows[better]
        self.best[kept], self.margin[kept] = candidates[better], found[better]
        fallen = kept[self.margin[kept] < 0]
        self.fell_after[fallen] = self.spent[fallen]
        return better

    def diagnostics(self) -> Diagnostics:
        """The per-image query counts, for the accuracy-vs-queries curve."""
        return Diagnostics(queries_to_success=tuple(self.fell_after.tolist()))


def rise(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Difference of two margins; zero where either output was not finite."""
    known = np.isfinite(above) & np.isfinite(below)
    return np.where(known, np.where(known, above, 0.0) - np.where(known, below, 0.0), 0.0)


def lengths(delta: NDArray[Any]) -> NDArray[np.float64]:
    """Euclidean length per sample."""
    return np.asarray(np.linalg.norm(flat(delta).astype(np.float64), axis=1))


def flat(x: NDArray[Any]) -> NDArray[Any]:
    """(N, ...) to (N, size), also for N = 0."""
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def spread(per_sample: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """Shape (N,) to (N, 1, ...), to broadcast against images."""
    return per_sample.reshape((-1,) + (1,) * (like.ndim - 1))
