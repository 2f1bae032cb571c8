"""Square attack: random squares, kept when they lower the margin (L-infinity and L2).

Source: Andriushchenko et al. 2020, arXiv:1912.00049. All standing images move together, so that the victim is
asked about one large batch per iteration.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.base import Attack, Diagnostics, Family, Knowledge, Norm, QueryCounter, project_l2
from qmodels.attacks.blackbox import TOP, Rows, Search, Steps, lengths, spread, to_images, to_steps
from qmodels.attacks.gradient import bounded_epsilon
from qmodels.victims import Images, Labels

#: The paper halves the area of the squares at these shares of the budget.
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
Delta = NDArray[np.float64]


class Square(Attack):
    """Square attack in the L-infinity ball."""

    kind: Literal["square"] = "square"
    knowledge: ClassVar[Knowledge] = "black-box"
    family: ClassVar[Family] = "score"

    queries: int = Field(1000, ge=2, description="budget per image")
    area: float = Field(0.8, gt=0, le=1, description="share of the image that the first squares cover")

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """Stripes first, then ever smaller squares."""
        clean = as_pictures(to_steps(x))
        epsilon = bounded_epsilon(epsilon_lsb, x, self.norm)
        shape = (-1, *x.shape[1:])
        search = Search.begin(victim, self.start(clean, epsilon, rng).reshape(shape), y)
        while len(rows := search.standing(self.queries)):
            side = self.side(float(search.spent[rows[0]]) / self.queries, clean.shape)
            moved = self.move(as_pictures(search.best[rows]), clean[rows], epsilon, side, rng)
            search.propose(rows, moved.reshape(shape))
        return to_images(search.best), search.diagnostics()

    def side(self, progress: float, shape: tuple[int, ...]) -> int:
        """Side of the squares after that share of the budget."""
        area = self.area / 2 ** sum(progress > halving for halving in HALVINGS)
        return int(np.clip(round(float(np.sqrt(area * shape[1] * shape[2]))), 1, min(shape[1:3])))

    def start(self, clean: Steps, epsilon: float, rng: np.random.Generator) -> Steps:
        """Vertical stripes of plus or minus epsilon."""
        count, _, width, channels = clean.shape
        stripes = rng.choice([-1, 1], (count, 1, width, channels)) * int(epsilon)
        return np.asarray(np.clip(clean + stripes, 0, TOP), np.int32)

    def move(self, best: Steps, clean: Steps, epsilon: float, side: int, rng: np.random.Generator) -> Steps:
        """A square of one sign per channel; one channel is flipped where that would change nothing."""
        at = windows(best.shape, side, rng)
        signs = rng.choice([-1, 1], (len(best), 1, 1, best.shape[3])) * int(epsilon)
        fresh = np.clip(clean[at] + signs, 0, TOP)
        same = (fresh == best[at]).all(axis=(1, 2, 3))
        channel = rng.integers(best.shape[3])
        signs[same, :, :, channel] *= -1
        moved = best.copy()
        moved[at] = np.clip(clean[at] + signs, 0, TOP)
        return moved


class SquareL2(Square):
    """Square attack in the L2 ball: moves the budget of change from one window to another."""

    kind: Literal["square-l2"] = "square-l2"  # type: ignore[assignment]
    norm: ClassVar[Norm] = "l2"
    area: float = Field(0.1, gt=0, le=1)

    def side(self, progress: float, shape: tuple[int, ...]) -> int:
        """At least three pixels, where they fit, so that the bump has a shape; odd."""
        side = max(super().side(progress, shape), min(3, *shape[1:3]))
        return side if side % 2 else max(side - 1, 1)

    def start(self, clean: Steps, epsilon: float, rng: np.random.Generator) -> Steps:
        """A tiling of bumps with random signs, scaled to the ball."""
        count, height, width, channels = clean.shape
        side = max(1, min(height, width) // 5)
        tiles = (-(-height // side), -(-width // side))
        bumps = np.tile(bump(side), tiles)[:height, :width]
        signs = rng.choice([-1.0, 1.0], (count, *tiles, channels))
        signs = signs.repeat(side, axis=1).repeat(side, axis=2)[:, :height, :width]
        return _in_ball(signs * bumps[None, :, :, None], clean, epsilon)

    def move(self, best: Steps, clean: Steps, epsilon: float, side: int, rng: np.random.Generator) -> Steps:
        """Empty one window and put its length, and what is left of epsilon, into a bump in another."""
        delta = (best - clean).astype(np.float64)
        into, out = windows(best.shape, side, rng), windows(best.shape, side, rng)
        unused = np.maximum(epsilon**2 - lengths(delta) ** 2, 0.0)
        freed = _channel_lengths(delta[into]) ** 2 + _channel_lengths(delta[out]) ** 2
        signs = rng.choice([-1.0, 1.0], freed.shape)
        old = delta[into]
        fresh = bump(side)[None, :, :, None] * signs + old / np.maximum(_channel_lengths(old), 1e-10)
        fresh *= np.sqrt(freed + spread(unused, freed) / best.shape[3]) / np.maximum(_channel_lengths(fresh), 1e-10)
        delta[out] = 0.0
        delta[into] = fresh
        return _in_ball(delta, clean, epsilon)


def windows(shape: tuple[int, ...], side: int, rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    """A random square of that side in each of `shape[0]` pictures."""
    count, height, width = shape[:3]
    top, left = rng.integers(0, height - side + 1, count), rng.integers(0, width - side + 1, count)
    reach = np.arange(side)
    return (
        np.arange(count)[:, None, None],
        (top[:, None] + reach)[:, :, None],
        (left[:, None] + reach)[:, None, :],
    )


def bump(side: int) -> NDArray[np.float64]:
    """A tapering bump of unit length, positive above and negative below, turned by chance through its sign."""
    half = side / 2.0
    distance = np.maximum.reduce(np.abs(np.meshgrid(np.arange(side) + 0.5 - half, np.arange(side) + 0.5 - half)))
    shape = 1.0 / (distance + 1.0) ** 2
    if side > 1:
        shape[side // 2 :] *= -1.0
    return np.asarray(shape / np.linalg.norm(shape))


def as_pictures(x: Steps) -> Steps:
    """(N, H, W, C) of any images: vectors become one column."""
    return x if x.ndim == 4 else x.reshape(len(x), -1, 1, 1)


def _channel_lengths(window: Delta) -> Delta:
    return np.asarray(np.sqrt(np.sum(window**2, axis=(1, 2), keepdims=True)))


def _in_ball(delta: Delta, clean: Steps, epsilon: float) -> Steps:
    """`clean + delta`, the change scaled to length epsilon, on the grid."""
    scaled = delta * spread(epsilon / np.maximum(lengths(delta), 1e-10), delta)
    centre = to_images(clean)
    return to_steps(project_l2((centre + scaled / (TOP + 1)).astype(np.float32), centre, epsilon))
