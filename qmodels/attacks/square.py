"""Square attack: random squares, kept when they lower the margin (L-infinity and L2).

Source: Andriushchenko et al. 2020, arXiv:1912.00049. All standing images move together, so that the victim is
asked about one large batch per iteration.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball, Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Knowledge, Problem
from qmodels.attacks.blackbox import Rows, Search, Steps, lengths, spread
from qmodels.grid import Points

#: The paper halves the area of the squares at these shares of the budget.
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
Delta = NDArray[np.float64]


class Square(Attack):
    """Square attack in the L-infinity ball."""

    kind: ClassVar[str] = "square"
    knowledge: ClassVar[Knowledge] = "black-box"
    family: ClassVar[Family] = "score"

    queries: int = Field(1000, ge=2, description="budget per image")
    area: float = Field(0.8, gt=0, le=1, description="share of the image that the first squares cover")

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Stripes first, then ever smaller windows."""
        ball = problem.ball
        shape = (-1, *ball.shape)
        canvas = Canvas(ball)
        search = Search.begin(problem, self.start(canvas, rng).reshape(shape))
        while len(rows := search.standing(self.queries)):
            window = self.window(float(search.spent[rows[0]]) / self.queries, canvas.clean.shape)
            moved = self.move(as_pictures(search.best[rows]), canvas, rows, window, rng)
            search.propose(rows, moved.reshape(shape))
        return search.best, search.diagnostics()

    def window(self, progress: float, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the windows after that share of the budget: squares, or stretches of a sequence."""
        area = self.area / 2 ** sum(progress > halving for halving in HALVINGS)
        if shape[2] == 1:
            return int(np.clip(round(area * shape[1]), 1, shape[1])), 1
        side = int(np.clip(round(float(np.sqrt(area * shape[1] * shape[2]))), 1, min(shape[1:3])))
        return side, side

    def start(self, canvas: Canvas, rng: np.random.Generator) -> Steps:
        """Vertical stripes of plus or minus epsilon; for vectors and sequences a sign for each place."""
        count, height, width, channels = canvas.clean.shape
        stripes = rng.choice([-1, 1], (count, 1 if width > 1 else height, width, channels))
        return np.asarray(np.clip(canvas.clean + stripes * canvas.reach, canvas.low, canvas.high), np.int32)

    def move(self, best: Steps, canvas: Canvas, rows: Rows, window: tuple[int, int], rng: np.random.Generator) -> Steps:
        """A window of one sign per channel; one channel is flipped where that would change nothing."""
        at = windows(best.shape, window, rng)
        signs = rng.choice([-1, 1], (len(best), 1, 1, best.shape[3]))
        there = (rows[at[0]], *at[1:])
        low, high, clean = canvas.low[there], canvas.high[there], canvas.clean[there]
        reach = canvas.reach[0][at[1:]]
        fresh = np.clip(clean + signs * reach, low, high)
        same = (fresh == best[at]).all(axis=(1, 2, 3))
        channel = rng.integers(best.shape[3])
        signs[same, :, :, channel] *= -1
        moved = best.copy()
        moved[at] = np.clip(clean + signs * reach, low, high)
        return moved


class Canvas:
    """A ball whose inputs are pictures (N, H, W, C)."""

    def __init__(self, ball: Ball) -> None:
        self.ball = ball
        self.clean = as_pictures(ball.clean.astype(np.int32))
        self.low, self.high = (as_pictures(end) for end in ball.box)
        weight = np.broadcast_to(ball.weight, (1, *ball.shape))
        self.reach = as_pictures(np.floor(np.floor(ball.radius) * weight).astype(np.int32))

    def in_ball(self, delta: Delta, rows: Rows) -> Steps:
        """`clean + delta` of some rows, the change scaled to the radius, on the grid and in the ball."""
        ball = self.ball.take(rows)
        delta = delta * as_pictures(np.broadcast_to(ball.weight, (1, *ball.shape)))
        scaled = delta * spread(ball.radius / np.maximum(lengths(delta), 1e-10), delta)
        points = (self.clean[rows] + scaled).astype(np.float32).reshape(ball.clean.shape)
        return as_pictures(ball.project(points).astype(np.int32))


class SquareL2(Square):
    """Square attack in the L2 ball: moves the budget of change from one window to another."""

    kind: ClassVar[str] = "square-l2"
    norm: ClassVar[Norm] = "l2"
    area: float = Field(0.1, gt=0, le=1)

    def window(self, progress: float, shape: tuple[int, ...]) -> tuple[int, int]:
        """At least three pixels, where they fit, so that the bump has a shape; odd."""
        height, width = super().window(progress, shape)
        return _odd(max(height, min(3, shape[1]))), _odd(max(width, min(3, shape[2])))

    def start(self, canvas: Canvas, rng: np.random.Generator) -> Steps:
        """A tiling of bumps with random signs, scaled to the ball."""
        count, height, width, channels = canvas.clean.shape
        tall = max(1, (min(height, width) if width > 1 else height) // 5)
        wide = min(tall, width)
        tiles = (-(-height // tall), -(-width // wide))
        bumps = np.tile(bump(tall, wide), tiles)[:height, :width]
        signs = rng.choice([-1.0, 1.0], (count, *tiles, channels))
        signs = signs.repeat(tall, axis=1).repeat(wide, axis=2)[:, :height, :width]
        return canvas.in_ball(signs * bumps[None, :, :, None], np.arange(count))

    def move(self, best: Steps, canvas: Canvas, rows: Rows, window: tuple[int, int], rng: np.random.Generator) -> Steps:
        """Empty one window and put its length, and what is left of epsilon, into a bump in another."""
        delta = (best - canvas.clean[rows]).astype(np.float64)
        into, out = windows(best.shape, window, rng), windows(best.shape, window, rng)
        unused = np.maximum(canvas.ball.radius**2 - lengths(delta) ** 2, 0.0)
        freed = _channel_lengths(delta[into]) ** 2 + _channel_lengths(delta[out]) ** 2
        signs = rng.choice([-1.0, 1.0], freed.shape)
        old = delta[into]
        fresh = bump(*window)[None, :, :, None] * signs + old / np.maximum(_channel_lengths(old), 1e-10)
        fresh *= np.sqrt(freed + spread(unused, freed) / best.shape[3]) / np.maximum(_channel_lengths(fresh), 1e-10)
        delta[out] = 0.0
        delta[into] = fresh
        return canvas.in_ball(delta, rows)


def _odd(side: int) -> int:
    return side if side % 2 else max(side - 1, 1)


def windows(shape: tuple[int, ...], window: tuple[int, int], rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    """A random window of that height and width in each of `shape[0]` pictures."""
    count, height, width = shape[:3]
    top, left = rng.integers(0, height - window[0] + 1, count), rng.integers(0, width - window[1] + 1, count)
    return (
        np.arange(count)[:, None, None],
        (top[:, None] + np.arange(window[0]))[:, :, None],
        (left[:, None] + np.arange(window[1]))[:, None, :],
    )


def bump(height: int, width: int) -> NDArray[np.float64]:
    """A tapering bump of unit length, positive above and negative below, turned by chance through its sign."""
    columns, rows = (np.abs(np.arange(size) + 0.5 - size / 2.0) for size in (width, height))
    shape = 1.0 / (np.maximum(rows[:, None], columns[None, :]) + 1.0) ** 2
    if height > 1:
        shape[height // 2 :] *= -1.0
    return np.asarray(shape / np.linalg.norm(shape))


def as_pictures(x: NDArray[Any]) -> NDArray[Any]:
    """(N, H, W, C) of any inputs: a vector becomes one column, a sequence (N, T, C) one column with channels."""
    if x.ndim == 3:
        return x[:, :, None, :]
    return x if x.ndim == 4 else x.reshape(len(x), -1, 1, 1)


def _channel_lengths(window: Delta) -> Delta:
    return np.asarray(np.sqrt(np.sum(window**2, axis=(1, 2), keepdims=True)))
