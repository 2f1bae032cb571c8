"""L1, L2 and L0 balls: what changes add up to bounds the first layer's sums more closely than the box around the ball.

A sum of the first layer is a(clean) + w.d for a change d of the input. With integers for w and d:

- L1, sum |d| <= k: the k steps with the largest |w|, each feature no further than its own room;
- L2, sum d^2 <= k: |w.d| <= sqrt(sum w^2 * k), by Cauchy and Schwarz, rounded down since w.d is a whole number;
- L0, k features move: the k that are worth most, each moved as far as it can.

The first and the last one are attained. All is exact in int64; where it may not fit, the box is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.interval import Integers, Interval
from hw.certify.linear import Sums
from hw.simulate.bitsim.program import Alias, Gather, Input, Op, Pad, sources
from qmodels.attacks.ball import Ball, Norm
from qmodels.formats import FixedPoint

_EXACT = 2.0**52  # float64 holds square roots of whole numbers below it to within one


@dataclass(frozen=True, eq=False)
class Budget:
    """How much changes of N inputs may add up to.

    Args:
        norm: l1, l2 or l0.
        most: the largest sum of |d|, of d^2, or number of features that move.
        centre: clean codes (N, features).
        box: lowest and highest codes (N, features) of the ball.
    """

    norm: Norm
    most: int
    centre: NDArray[np.int64]
    box: Interval

    @classmethod
    def of(cls, ball: Ball) -> Budget | None:
        """The ball's; None where the box says it all."""
        epsilon = float(np.max(ball.epsilon))
        if ball.norm == "linf" or not np.isfinite(epsilon):
            return None
        low, high, centre = (part.reshape(len(ball), -1).astype(np.int64) for part in (*ball.box, ball.clean))
        radius = ball.radius  # no more than the whole grid holds
        most = int(np.floor(radius))
        if ball.norm == "l2":
            most = int(np.floor(radius**2))
            while np.sqrt(float(most + 1)) <= radius:  # as `Ball.contains` compares
                most += 1
        return cls(ball.norm, most, centre, Interval(low, high))

    def closer(self, sums: Sums, reach: Interval, source: Interval, origin: NDArray[np.int64], scale: int) -> Interval:
        """Bounds (N, outputs) of the exact sums of a layer that reads codes: never wider than `reach`, the box's.

        Args:
            sums: the layer's.
            reach: what the box says of them.
            source: the box of what it reads (N, elements).
            origin: the feature that each element is `scale` times the code of; -1: it cannot change.
            scale: a power of two.
        """
        seen = origin[origin >= 0]
        if sums.op.depthwise or len(np.unique(seen)) < len(seen):
            return reach
        at, moving = np.maximum(origin, 0), origin >= 0
        up = _tapped(np.where(moving, (self.box.high - self.centre)[:, at], 0), sums)
        down = _tapped(np.where(moving, (self.centre - self.box.low)[:, at], 0), sums)
        value = _tapped(np.where(moving, self.centre[:, at] * scale, source.low), sums)
        factor = scale << sums.shift
        low, high = [], []
        for weights, bias in zip(sums.weights, sums.op.bias, strict=True):
            middle = ((value @ weights) << sums.shift) + bias  # exact: `exact` has bounded it
            high.append(middle + self._most(weights, up, down) * factor)
            low.append(middle - self._most(-weights, up, down) * factor)
        least, greatest = (np.stack(end, axis=-1).reshape(len(up), -1) for end in (low, high))
        return Interval(np.maximum(reach.low, least), np.minimum(reach.high, greatest))

    def _most(self, weights: NDArray[np.int64], up: Integers, down: Integers) -> Integers:
        """The largest w.d (N, positions), for room (N, positions, taps) in both directions."""
        size = np.abs(weights)
        room = np.where(weights > 0, up, down)
        if self.norm == "l1":
            order = np.argsort(-size, kind="stable")
            used = np.minimum(np.cumsum(room[..., order], axis=-1), self.most)
            return np.asarray(np.diff(used, axis=-1, prepend=0) @ size[order])
        worth = room * size
        if self.norm == "l0":
            kept = min(self.most, worth.shape[-1])
            return np.asarray(np.sort(worth, axis=-1)[..., worth.shape[-1] - kept :].sum(axis=-1))
        box = worth.sum(axis=-1)
        squares = ((up + down) > 0).astype(np.int64) @ size**2
        small = squares * float(self.most) < _EXACT
        product = np.where(small, squares, 0) * self.most
        root = np.floor(np.sqrt(product.astype(np.float64))).astype(np.int64) + 1
        root -= root**2 > product
        root -= root**2 > product
        return np.asarray(np.where(small, np.minimum(root, box), box))


def scale_of(op: Op, codes: FixedPoint, scales: dict[int, int]) -> int | None:
    """What an operation's values are times the codes of the input that they come from; None: no such number."""
    if isinstance(op, Input):
        out = op.out.format
        shift = out.fraction - codes.fraction
        held = out.raw_min <= codes.raw_min << max(shift, 0) and codes.raw_max << max(shift, 0) <= out.raw_max
        return 1 << shift if shift >= 0 and held else None
    plain = isinstance(op, (Alias, Pad)) or (isinstance(op, Gather) and not op.recipe.actions)
    return scales.get(sources(op)[0].index) if plain else None


def _tapped(elements: Integers, sums: Sums) -> Integers:
    """(N, positions, taps) of what a layer reads (N, elements); 0 beyond the image."""
    padded: Any = np.concatenate([elements, np.zeros((len(elements), 1), np.int64)], axis=1)
    found: Integers = padded[:, sums.taps]
    return found
