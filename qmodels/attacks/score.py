"""SimBA, NES-PGD and ZOO: black-box attacks that read the logits.

All standing images move together; what is asked lies on the grid, so differences are taken over whole LSBs.

Sources: Guo 2019 arXiv:1905.07121 (SimBA), Ilyas 2018 arXiv:1804.08598 (NES), Chen 2017 arXiv:1708.03999 (ZOO).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball, Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Knowledge, Problem
from qmodels.attacks.blackbox import Search, Steps, flat, rise, spread, whole
from qmodels.attacks.gradient import STEPS_ACROSS
from qmodels.grid import Points

Delta = NDArray[np.float64]


class ScoreAttack(Attack):
    """Reads logits, spends at most `queries` of them per image."""

    knowledge: ClassVar[Knowledge] = "black-box"
    family: ClassVar[Family] = "score"

    queries: int = Field(1000, ge=2, description="budget per image")


class SimBA(ScoreAttack):
    """One pixel or one cosine wave at a time, plus or minus, kept when it lowers the margin."""

    kind: ClassVar[str] = "simba"
    norm: ClassVar[Norm] = "l2"
    step: float = Field(51 / 256, gt=0, description="length of one step, as a share of the range")
    basis: Literal["pixel", "dct"] = "pixel"

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Directions in an order of each image's own, first up, then down."""
        ball, search = problem.ball, Search.begin(problem, problem.clean)
        size, count, step = ball.size, len(ball), self.step * ball.grid.scale
        order = rng.permuted(np.tile(np.arange(size), (count, 1)), axis=1)
        delta = np.zeros((count, size))
        turn = 0
        while len(rows := search.standing(self.queries)):
            picked = order[rows, turn % size]
            for sign in (1.0, -1.0):
                trial = delta[rows] + sign * step * self.directions(picked, ball.shape)
                near = ball.take(rows)
                candidate = _near(near, trial.reshape(near.clean.shape))
                kept = search.propose(rows, candidate)
                delta[rows[kept]] = flat(candidate[kept] - near.clean[kept].astype(np.int32))
                rows, picked = rows[~kept], picked[~kept]
                if not len(rows):
                    break
            turn += 1
        return search.best, search.diagnostics()

    def directions(self, picked: NDArray[np.int64], shape: tuple[int, ...]) -> Delta:
        """The picked unit vectors of the basis, flat."""
        chosen = np.zeros((len(picked), int(np.prod(shape))))
        chosen[np.arange(len(picked)), picked] = 1.0
        if self.basis == "pixel":
            return chosen
        from scipy.fft import idctn

        axes = tuple(range(1, len(shape)))  # rows and columns, not channels
        waves = idctn(chosen.reshape(-1, *shape), axes=axes, norm="ortho")
        return np.asarray(waves).reshape(len(picked), -1)


class NES(ScoreAttack):
    """PGD whose gradient comes from antithetic random probes of the margin."""

    kind: ClassVar[str] = "nes-pgd"
    iterative: ClassVar[bool] = True
    probes: int = Field(20, ge=1, description="pairs of probes per step")
    sigma: float = Field(8 / 256, gt=0, description="standard deviation of a probe, as a share of the range")
    step_lsb: float | None = Field(None, gt=0, description="2.5 epsilon / steps when left out")
    momentum: float = Field(0.5, ge=0, lt=1)

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Signed steps along the running mean of the estimates."""
        ball = problem.ball
        steps = max(1, self.queries // (2 * self.probes + 1))
        length = (self.step_lsb or STEPS_ACROSS * ball.radius / steps) * ball.weight
        search = Search.begin(problem, problem.clean)
        position, mean = ball.clean.astype(np.float64), np.zeros(ball.clean.shape)
        for _ in range(steps):
            rows = search.standing(self.queries)
            if not len(rows):
                break
            near = ball.take(rows)
            estimate = self.estimate(search, rows, near, position[rows], rng)
            mean[rows] = self.momentum * mean[rows] + (1 - self.momentum) * estimate
            position[rows] = np.clip(position[rows] - length * np.sign(mean[rows]), *near.box)
            search.propose(rows, near.project(position[rows].astype(np.float32)))
        return search.best, search.diagnostics()

    def estimate(
        self, search: Search, rows: NDArray[np.int64], near: Ball, position: Delta, rng: np.random.Generator
    ) -> Delta:
        """Mean over pairs of (margin up - margin down) times the direction; the changes actually made count."""
        total, sigma, cube = np.zeros(position.shape), max(1.0, self.sigma * near.grid.scale), near.cube
        for _ in range(self.probes):
            probe = sigma * rng.standard_normal(total.shape)
            up, down = whole(position + probe, *cube), whole(position - probe, *cube)
            total += spread(rise(search.ask(rows, up), search.ask(rows, down)), total) * (up - down)
        return total


class ZOO(ScoreAttack):
    """Carlini-Wagner by finite differences on a few random pixels at a time, with Adam on each pixel."""

    kind: ClassVar[str] = "zoo"
    norm: ClassVar[Norm] = "l2"
    pixels: int = Field(16, ge=1, description="pixels probed per step, two queries each")
    probe: float = Field(8 / 256, gt=0, description="finite difference, as a share of the range; at least one step")
    step: float = Field(8 / 256, gt=0, description="Adam's step, as a share of the range")
    weight: float = Field(1e-4, ge=0, description="weight of the squared length, in steps, against the margin")

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Coordinate steps until the budget is spent; the shortest example that worked is kept."""
        ball, search = problem.ball, Search.begin(problem, problem.clean)
        low, high = (flat(end) for end in ball.cube)
        clean, rate = flat(ball.clean).astype(np.float64), self.step * ball.grid.scale
        state = _Adam(clean.copy(), np.zeros_like(clean), np.zeros_like(clean), np.zeros(clean.shape, np.int64))
        while len(rows := search.standing(self.queries)):
            picked = rng.permuted(np.tile(np.arange(ball.size), (len(rows), 1)), axis=1)[
                :, : min(self.pixels, ball.size)
            ]
            gradient = self.differences(search, rows, picked, state.position[rows], (low[rows], high[rows]), ball)
            gradient += 2 * self.weight * np.take_along_axis(state.position[rows] - clean[rows], picked, axis=1)
            state.step(rows, picked, gradient, rate, (low, high))
            near = ball.take(rows)
            search.propose(rows, _near(near, (state.position[rows] - clean[rows]).reshape(near.clean.shape)))
        return search.best, search.diagnostics()

    def differences(
        self,
        search: Search,
        rows: NDArray[np.int64],
        picked: NDArray[np.int64],
        position: Delta,
        ends: tuple[Steps, Steps],
        ball: Ball,
    ) -> Delta:
        """Slope of the margin along each picked pixel."""
        slopes, probe = np.zeros(picked.shape), max(1, round(self.probe * ball.grid.scale))
        index = np.arange(len(rows))
        for column in range(picked.shape[1]):
            at = (index, picked[:, column])
            values, reached = [], []
            for sign in (1, -1):
                moved = whole(position, *ends)
                moved[at] = np.clip(moved[at] + sign * probe, ends[0][at], ends[1][at])
                reached.append(moved[at])
                values.append(search.ask(rows, moved.reshape(-1, *ball.shape)))
            slopes[:, column] = rise(values[0], values[1]) / np.maximum(reached[0] - reached[1], 1)
        return slopes


class _Adam:
    """Adam with its own clock for every pixel (Kingma & Ba 2015, arXiv:1412.6980)."""

    def __init__(self, position: Delta, first: Delta, second: Delta, clock: NDArray[np.int64]) -> None:
        self.position, self.first, self.second, self.clock = position, first, second, clock

    def step(
        self,
        rows: NDArray[np.int64],
        picked: NDArray[np.int64],
        gradient: Delta,
        rate: float,
        ends: tuple[Steps, Steps],
    ) -> None:
        """One step of the picked pixels of each row, between two ends."""
        at: Any = (rows[:, None], picked)
        self.clock[at] += 1
        self.first[at] = 0.9 * self.first[at] + 0.1 * gradient
        self.second[at] = 0.999 * self.second[at] + 0.001 * gradient**2
        first = self.first[at] / (1 - 0.9 ** self.clock[at])
        second = self.second[at] / (1 - 0.999 ** self.clock[at])
        moved = self.position[at] - rate * first / (np.sqrt(second) + 1e-12)
        self.position[at] = np.clip(moved, ends[0][at], ends[1][at])


def _near(ball: Ball, change: Delta) -> Steps:
    """The clean inputs plus a change in grid steps, on the grid and in the ball."""
    return ball.project((ball.clean + change).astype(np.float32)).astype(np.int32)


__all__ = ["NES", "ZOO", "ScoreAttack", "SimBA"]
