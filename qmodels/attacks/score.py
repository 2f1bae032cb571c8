"""SimBA, NES-PGD and ZOO: black-box attacks that read the logits.

All standing images move together; what is asked lies on the grid, so differences are taken over whole LSBs.

Sources: Guo 2019 arXiv:1905.07121 (SimBA), Ilyas 2018 arXiv:1804.08598 (NES), Chen 2017 arXiv:1708.03999 (ZOO).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.base import (
    LEVELS,
    Attack,
    Diagnostics,
    Family,
    Knowledge,
    Norm,
    QueryCounter,
    project_l2,
    project_linf,
)
from qmodels.attacks.blackbox import TOP, Search, Steps, rise, spread, to_images, to_steps
from qmodels.attacks.gradient import STEPS_ACROSS, bounded_epsilon
from qmodels.victims import Images, Labels

Delta = NDArray[np.float64]


class ScoreAttack(Attack):
    """Reads logits, spends at most `queries` of them per image."""

    knowledge: ClassVar[Knowledge] = "black-box"
    family: ClassVar[Family] = "score"

    queries: int = Field(1000, ge=2, description="budget per image")


class SimBA(ScoreAttack):
    """One pixel or one cosine wave at a time, plus or minus, kept when it lowers the margin."""

    kind: Literal["simba"] = "simba"
    norm: ClassVar[Norm] = "l2"
    step_lsb: float = Field(51.0, gt=0, description="length of one step; 0.2 of the range")
    basis: Literal["pixel", "dct"] = "pixel"

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """Directions in an order of each image's own, first up, then down."""
        epsilon = bounded_epsilon(epsilon_lsb, x, "l2")
        search = Search.begin(victim, to_steps(x), y)
        size = x[0].size
        order = rng.permuted(np.tile(np.arange(size), (len(x), 1)), axis=1)
        delta = np.zeros((len(x), size))
        turn = 0
        while len(rows := search.standing(self.queries)):
            picked = order[rows, turn % size]
            for sign in (1.0, -1.0):
                trial = delta[rows] + sign * self.step_lsb * self.directions(picked, x.shape[1:])
                candidate = _near(x[rows], trial.reshape(x[rows].shape), epsilon)
                kept = search.propose(rows, candidate)
                delta[rows[kept]] = (candidate[kept] - to_steps(x[rows[kept]])).reshape(-1, size)
                rows, picked = rows[~kept], picked[~kept]
                if not len(rows):
                    break
            turn += 1
        return to_images(search.best), search.diagnostics()

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

    kind: Literal["nes-pgd"] = "nes-pgd"
    iterative: ClassVar[bool] = True
    probes: int = Field(20, ge=1, description="pairs of probes per step")
    sigma_lsb: float = Field(8.0, ge=1, description="standard deviation of a probe")
    step_lsb: float | None = Field(None, gt=0, description="2.5 epsilon / steps when left out")
    momentum: float = Field(0.5, ge=0, lt=1)

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """Signed steps along the running mean of the estimates."""
        epsilon = bounded_epsilon(epsilon_lsb, x, "linf")
        steps = max(1, self.queries // (2 * self.probes + 1))
        length = self.step_lsb or STEPS_ACROSS * epsilon / steps
        search = Search.begin(victim, to_steps(x), y)
        position, mean = x.astype(np.float64) * LEVELS, np.zeros(x.shape)
        for _ in range(steps):
            rows = search.standing(self.queries)
            if not len(rows):
                break
            mean[rows] = self.momentum * mean[rows] + (1 - self.momentum) * self.estimate(search, rows, position, rng)
            walked = np.clip(position[rows] - length * np.sign(mean[rows]), 0, TOP)
            centre = x[rows].astype(np.float64) * LEVELS
            position[rows] = np.clip(walked, centre - epsilon, centre + epsilon)
            search.propose(rows, to_steps(project_linf(to_images(position[rows]), x[rows], int(epsilon))))
        return to_images(search.best), search.diagnostics()

    def estimate(self, search: Search, rows: NDArray[np.int64], position: Delta, rng: np.random.Generator) -> Delta:
        """Mean over pairs of (margin up - margin down) times the direction; the changes actually made count."""
        total = np.zeros(position[rows].shape)
        for _ in range(self.probes):
            probe = self.sigma_lsb * rng.standard_normal(total.shape)
            up, down = _whole(position[rows] + probe), _whole(position[rows] - probe)
            total += spread(rise(search.ask(rows, up), search.ask(rows, down)), total) * (up - down)
        return total


class ZOO(ScoreAttack):
    """Carlini-Wagner by finite differences on a few random pixels at a time, with Adam on each pixel."""

    kind: Literal["zoo"] = "zoo"
    norm: ClassVar[Norm] = "l2"
    pixels: int = Field(16, ge=1, description="pixels probed per step, two queries each")
    probe_lsb: int = Field(8, ge=1, description="finite difference; below one LSB there is none")
    step_lsb: float = Field(8.0, gt=0, description="Adam's step")
    weight: float = Field(1e-4, ge=0, description="weight of the squared length against the margin")

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """Coordinate steps until the budget is spent; the shortest example that worked is kept."""
        epsilon = bounded_epsilon(epsilon_lsb, x, "l2")
        search = Search.begin(victim, to_steps(x), y)
        size = x[0].size
        clean = x.reshape(len(x), size).astype(np.float64) * LEVELS
        state = _Adam(clean.copy(), np.zeros_like(clean), np.zeros_like(clean), np.zeros(clean.shape, np.int64))
        while len(rows := search.standing(self.queries)):
            picked = rng.permuted(np.tile(np.arange(size), (len(rows), 1)), axis=1)[:, : min(self.pixels, size)]
            gradient = self.differences(search, rows, picked, state.position[rows], x.shape[1:])
            gradient += 2 * self.weight * np.take_along_axis(state.position[rows] - clean[rows], picked, axis=1)
            state.step(rows, picked, gradient, self.step_lsb)
            change = (state.position[rows] - clean[rows]).reshape(x[rows].shape)
            search.propose(rows, _near(x[rows], change, epsilon))
        return to_images(search.best), search.diagnostics()

    def differences(
        self,
        search: Search,
        rows: NDArray[np.int64],
        picked: NDArray[np.int64],
        position: Delta,
        shape: tuple[int, ...],
    ) -> Delta:
        """Slope of the margin along each picked pixel."""
        slopes = np.zeros(picked.shape)
        index = np.arange(len(rows))
        for column in range(picked.shape[1]):
            values = []
            ends = []
            for sign in (1, -1):
                moved = _whole(position)
                pixel = moved[index, picked[:, column]] + sign * self.probe_lsb
                moved[index, picked[:, column]] = np.clip(pixel, 0, TOP)
                ends.append(moved[index, picked[:, column]])
                values.append(search.ask(rows, moved.reshape(-1, *shape)))
            slopes[:, column] = rise(values[0], values[1]) / np.maximum(ends[0] - ends[1], 1)
        return slopes


class _Adam:
    """Adam with its own clock for every pixel (Kingma & Ba 2015, arXiv:1412.6980)."""

    def __init__(self, position: Delta, first: Delta, second: Delta, clock: NDArray[np.int64]) -> None:
        self.position, self.first, self.second, self.clock = position, first, second, clock

    def step(self, rows: NDArray[np.int64], picked: NDArray[np.int64], gradient: Delta, rate: float) -> None:
        """One step of the picked pixels of each row."""
        at: Any = (rows[:, None], picked)
        self.clock[at] += 1
        self.first[at] = 0.9 * self.first[at] + 0.1 * gradient
        self.second[at] = 0.999 * self.second[at] + 0.001 * gradient**2
        first = self.first[at] / (1 - 0.9 ** self.clock[at])
        second = self.second[at] / (1 - 0.999 ** self.clock[at])
        self.position[at] = np.clip(self.position[at] - rate * first / (np.sqrt(second) + 1e-12), 0, TOP)


def _whole(position: Delta) -> Steps:
    return np.clip(np.rint(position), 0, TOP).astype(np.int32)


def _near(x: Images, change: Delta, epsilon: float) -> Steps:
    """`x` plus a change in LSBs, on the grid and in the L2 ball."""
    return to_steps(project_l2((x + change / LEVELS).astype(np.float32), x, epsilon))


__all__ = ["NES", "ZOO", "ScoreAttack", "SimBA"]
