"""What black-box attacks share: whole-LSB images, margins without NaN, a search over the images that still stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.base import LEVELS, Diagnostics, QueryCounter
from qmodels.victims import Images, Labels

Steps = NDArray[np.int32]  # images in whole LSBs, 0..255
Rows = NDArray[np.int64]  # indices of images
TOP = LEVELS - 1


def to_steps(x: Images) -> Steps:
    """Images in whole LSBs."""
    return np.rint(np.asarray(x, np.float64) * LEVELS).astype(np.int32)


def to_images(steps: NDArray[Any]) -> Images:
    """Whole LSBs, clipped to the cube, as images."""
    return np.asarray(np.clip(np.rint(steps), 0, TOP) / LEVELS, np.float32)


def margins(victim: QueryCounter, x: Images, y: Labels) -> NDArray[np.float64]:
    """Right logit minus best wrong one: negative where the victim is wrong, infinite where an output is not finite.

    A tie that the victim decides for a wrong class counts as wrong.
    """
    logits = victim.logits(x).astype(np.float64)
    finite = np.isfinite(logits).all(axis=1)
    logits[~finite] = 0.0
    rows = np.arange(len(y))
    wrong = logits.argmax(axis=1) != y
    right = logits[rows, y]
    logits[rows, y] = -np.inf
    gap = right - logits.max(axis=1)
    gap = np.where(wrong & (gap >= 0), -1e-9, gap)
    return np.where(finite, gap, np.inf)


def fooled(victim: QueryCounter, x: Images, y: Labels) -> NDArray[np.bool_]:
    """Where the victim's decision is a wrong class; all that a decision-based attack may know."""
    logits = victim.logits(x)
    wrong: NDArray[np.bool_] = (logits.argmax(axis=1) != y) & np.isfinite(logits).all(axis=1)
    return wrong


@dataclass
class Search:
    """The best example so far of every image, what it cost, and who still stands."""

    victim: QueryCounter
    y: Labels
    best: Steps
    margin: NDArray[np.float64]
    spent: NDArray[np.int64]
    fell_after: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.fell_after = np.where(self.margin < 0, self.spent, -1)

    @classmethod
    def begin(cls, victim: QueryCounter, start: Steps, y: Labels) -> Search:
        """Ask about the starting points, one query each."""
        return cls(victim, y, start.copy(), margins(victim, to_images(start), y), np.ones(len(y), np.int64))

    def standing(self, budget: int) -> Rows:
        """Images that have not fallen and have queries left."""
        return np.flatnonzero((self.margin >= 0) & (self.spent < budget))

    def ask(self, rows: Rows, candidates: Steps) -> NDArray[np.float64]:
        """Margins of one candidate per row, counted."""
        self.spent[rows] += 1
        return margins(self.victim, to_images(candidates), self.y[rows])

    def propose(self, rows: Rows, candidates: Steps) -> NDArray[np.bool_]:
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
