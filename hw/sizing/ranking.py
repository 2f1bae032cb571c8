"""Who is attacked next, by arrays: designs come by the ten thousand, and are ranked anew after every round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hw.sizing.points import Point, tie

Scores = NDArray[np.float64]  # (N,); NaN: unknown
Rows = NDArray[np.int64]


class Ranking:
    """The costs of some designs, all of them measured."""

    def __init__(self, points: Sequence[Point], axes: Sequence[str]) -> None:
        """`axes`: the costs that fronts are over."""
        self.points = points
        self._costs = [np.array([point.cost(axis) for point in points], np.int64) for axis in axes]
        self._places = np.empty(len(points), np.int64)  # in the order in which ties are broken
        self._places[sorted(range(len(points)), key=lambda row: tie(points[row]))] = np.arange(len(points))

    def hopeful(self, bounds: Scores, known: Scores) -> NDArray[np.bool_]:
        """Designs whose upper bound is enough for some axis' front among all of which something is known.

        So they would be on it if the bound were their score. Ties are broken as in `points.front` and in
        recommendations: who is left out would not have been named.

        Args:
            bounds: upper bounds of the designs' scores.
            known: what the scores are not below; equal to the bound where it is the score.
        """
        found = np.zeros(len(bounds), np.bool_)
        tested = np.flatnonzero(~np.isnan(known))
        for costs in self._costs:
            order = tested[np.lexsort((self._places[tested], -known[tested], costs[tested]))]
            best = np.maximum.accumulate(np.concatenate([[-1.0], known[order]]))  # of the first 0, 1, 2, ...
            below, upto = (np.searchsorted(costs[order], costs, side=side) for side in ("left", "right"))
            found |= bounds > best[upto]
            tied = np.flatnonzero((bounds == best[upto]) & (bounds > best[below]))  # with the first of the same cost
            found[tied] |= self._places[tied] < self._places[order[below[tied]]]
        return found

    def ranked(self, bounds: Scores, rows: Rows, count: int) -> list[Point]:
        """The fronts of some designs by the bound, then the fronts of the rest, until there are enough."""
        found: dict[int, None] = {}
        orders = [rows[np.lexsort((self._places[rows], -bounds[rows], costs[rows]))] for costs in self._costs]
        left = np.zeros(len(bounds), np.bool_)
        left[rows] = True
        while len(found) < count and left.any():
            orders = [order[left[order]] for order in orders]
            for order in orders:
                before = np.maximum.accumulate(np.concatenate([[-1.0], bounds[order]]))[:-1]
                layer = order[bounds[order] > before]
                found.update(dict.fromkeys(layer.tolist()))
                left[layer] = False
        return [self.points[row] for row in list(found)[:count]]
