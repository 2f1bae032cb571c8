"""How far a classifier's decision reaches along random directions: m(x, d) = min{t > 0: argmax f(x + t d) != y}.

Needs outputs only, so it measures the float model, the quantized model and the accelerator alike. The scheme
(orthonormal random directions, geometric bracketing, bisection) is our choice; feedback learning
(arXiv:1909.05443) only says that margins along directions are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.grid import Points
from qmodels.victims import Labels, Logits, decisions

LogitsFn = Callable[[Points], Logits]
Directions = NDArray[np.float32]  # (D, pixels), rows of unit length
BATCH = 1000


class Margins(NamedTuple):
    """Margins along +d of every direction, then along -d, and what measuring them cost."""

    values: NDArray[np.float32]  # (N, 2 D); infinite where nothing was found
    evaluations: int  # images shown to the model


def random_directions(count: int, dimension: int, rng: np.random.Generator) -> Directions:
    """`count` random unit vectors, orthonormal as far as the dimension allows.

    Where `count` exceeds the dimension (digits: 64 pixels), further bases are drawn: directions are orthonormal
    within each block of `dimension`.
    """
    blocks = []
    for start in range(0, count, dimension):
        size = min(dimension, count - start)
        blocks.append(np.linalg.qr(rng.standard_normal((dimension, size)))[0].T)
    rows: Directions = np.concatenate(blocks).astype(np.float32)
    return rows


def measure_margins(
    logits_fn: LogitsFn,
    x: Points,
    y: Labels,
    directions: Directions,
    *,
    t_start: float,
    t_max: float,
    growth: float = 1.5,
    tolerance: float = 0.02,
    smallest: int | None = None,
    snap: Callable[[Points], Points] | None = None,
    batch_size: int = BATCH,
) -> Margins:
    """Margins of every sample along both signs of every direction.

    The returned t is the upper end of the last bracket, so that the label at x + t d is really wrong. Regions of
    wrong label that are narrower than a bracketing step can be missed, as in every line search.

    Args:
        logits_fn: images (n, ...) -> logits (n, classes), n <= batch_size.
        x: images (N, ...). A sample that is misclassified as it is has margin 0 everywhere.
        y: true labels (N,).
        directions: unit vectors (D, pixels).
        t_start: first L2 distance tried.
        t_max: last L2 distance tried; margins beyond it are infinite.
        growth: ratio of successive distances while bracketing.
        tolerance: bisection stops when the bracket is narrower than this share of its upper end.
        smallest: measure only so many smallest margins of each sample, all others are reported as infinite.
            Exact, and several times cheaper: what cannot be among them is dropped early.
        snap: takes points to the input grid, which is all that an accelerator can be shown.
        batch_size: images per call of `logits_fn`.
    """
    search = _Search(logits_fn, x, y, directions, snap, batch_size)
    keep = search.pairs_per_sample if smallest is None else min(smallest, search.pairs_per_sample)
    low, high = _bracket(search, t_start, t_max, growth, keep)
    _bisect(search, low, high, tolerance, keep)
    return Margins(_keep_smallest(high, keep).astype(np.float32), search.evaluations)


class _Search:
    """Evaluates (sample, signed direction, distance) triples in full batches."""

    def __init__(
        self,
        logits_fn: LogitsFn,
        x: Points,
        y: Labels,
        directions: Directions,
        snap: Callable[[Points], Points] | None,
        batch_size: int,
    ) -> None:
        self.logits_fn = logits_fn
        self.shape = x.shape[1:]
        self.x = np.ascontiguousarray(x.reshape(len(x), -1), np.float32)
        self.y = y
        self.directions = np.ascontiguousarray(np.concatenate([directions, -directions]), np.float32)
        self.snap = snap
        self.pairs_per_sample = len(self.directions)
        self.evaluations = 0
        # Filled anew for every batch: allocating megabytes each time would cost more than the arithmetic.
        self._point = np.empty((batch_size, self.x.shape[1]), np.float32)
        self._step = np.empty_like(self._point)

    def wrong(self, pairs: NDArray[np.intp], t: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the label is wrong at distance `t` of each pair (flat index: sample x signed direction)."""
        found = np.empty(len(pairs), np.bool_)
        batch = len(self._point)
        for start in range(0, len(pairs), batch):
            part = slice(start, start + batch)
            found[part] = self._wrong_batch(pairs[part], t[part])
        self.evaluations += len(pairs)
        return found

    def _wrong_batch(self, pairs: NDArray[np.intp], t: NDArray[np.float64]) -> NDArray[np.bool_]:
        samples, rows = np.divmod(pairs, self.pairs_per_sample)
        point, step = self._point[: len(pairs)], self._step[: len(pairs)]
        np.take(self.x, samples, axis=0, out=point, mode="clip")
        np.take(self.directions, rows, axis=0, out=step, mode="clip")
        step *= t.astype(np.float32)[:, None]
        point += step
        images = point.reshape(len(pairs), *self.shape)
        classes = decisions(self.logits_fn(images if self.snap is None else self.snap(images)))
        return np.asarray((classes != self.y[samples]) & (classes >= 0))  # NaN is no decision for another class


def _bracket(
    search: _Search, t_start: float, t_max: float, growth: float, keep: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Last right and first wrong distance of every pair on a geometric ladder; (N, 2 D) each."""
    shape = (len(search.x), search.pairs_per_sample)
    low, high = np.zeros(shape), np.full(shape, inf)
    at_once = search.wrong(np.arange(shape[0]) * shape[1], np.zeros(shape[0]))
    high[at_once] = 0.0
    t = min(t_start, t_max)
    while True:
        # Once a sample has `keep` brackets, its other pairs lie farther out than all of these.
        waiting = np.isinf(high) & (np.isfinite(high).sum(axis=1) < keep)[:, None]
        pairs = np.flatnonzero(waiting)
        wrong = search.wrong(pairs, np.full(len(pairs), t))
        high.reshape(-1)[pairs[wrong]] = t
        low.reshape(-1)[pairs[~wrong]] = t
        if t >= t_max or not len(pairs):
            return low, high
        t = min(t * growth, t_max)


def _bisect(search: _Search, low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float, keep: int) -> None:
    """Narrow the brackets in place; those that cannot be among the `keep` smallest of their sample are left."""
    while True:
        last = np.partition(high, keep - 1, axis=1)[:, keep - 1 : keep]
        wide = np.isfinite(high) & (high - low > tolerance * np.where(np.isfinite(high), high, 0.0)) & (low < last)
        pairs = np.flatnonzero(wide)
        if not len(pairs):
            return
        middle = (low.reshape(-1)[pairs] + high.reshape(-1)[pairs]) / 2
        wrong = search.wrong(pairs, middle)
        high.reshape(-1)[pairs[wrong]] = middle[wrong]
        low.reshape(-1)[pairs[~wrong]] = middle[~wrong]


def _keep_smallest(values: NDArray[np.float64], keep: int) -> NDArray[np.float64]:
    """All but the `keep` smallest of each row become infinite."""
    kept = np.full_like(values, inf)
    columns = np.argpartition(values, keep - 1, axis=1)[:, :keep]
    np.put_along_axis(kept, columns, np.take_along_axis(values, columns, axis=1), axis=1)
    return kept
