"""Local search on the device itself: one feature at a time, uphill too while it is warm.

For inputs that a threshold or a coarse quantizer comes first for: there only the features that can cross a step matter,
a few of MNIST's 784, and gradients see none of it. Ours, not from a source; the annealing is
Kirkpatrick's (Science 220, 1983).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball
from qmodels.attacks.base import Diagnostics, Problem
from qmodels.attacks.blackbox import Search
from qmodels.attacks.score import ScoreAttack
from qmodels.grid import Codes, Points

Margins = Callable[[Codes], NDArray[np.float64]]
Range = tuple[NDArray[np.int64], NDArray[np.int64]]  # lowest and highest codes (features,)


class LocalSearch(ScoreAttack):
    """Anneals every standing input over the ends of the features that change the outputs at all."""

    kind: ClassVar[str] = "local-search"

    queries: int = Field(20_000, ge=2, description="budget per image")
    rounds: int = Field(150, ge=1, description="moves of one search; the next one begins at a random corner")

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """One input after the other: what is asked at a time are all moves of it."""
        search = Search.begin(problem, problem.clean)
        for row in search.standing(self.queries):
            self._one(search, int(row), rng)
        return search.best, search.diagnostics()

    def _one(self, search: Search, row: int, rng: np.random.Generator) -> None:
        here = np.array([row])
        ball, clean = search.problem.ball.take(here), search.problem.clean[row].reshape(-1).astype(np.int64)

        def margins(x: Codes) -> NDArray[np.float64]:
            left = self.queries - int(search.spent[row])
            found = np.full(len(x), np.inf)
            if left > 0:
                found[:left] = search.ask_many(row, x[:left])
            return found

        def alive() -> bool:
            return bool(search.spent[row] < self.queries and search.margin[row] >= 0)

        low, high = (end.reshape(-1).astype(np.int64) for end in ball.box)
        alone = moves(clean, (low, high), inner=False)
        found = margins(moved(clean, alone).reshape(-1, *ball.shape).astype(ball.clean.dtype))
        live = np.zeros(len(clean), bool)
        live[alone[found != search.first[row], 0]] = True
        ends = np.where(live, low, clean), np.where(live, high, clean)
        start = clean
        while alive() and live.any():
            codes = start.reshape(ball.shape).astype(ball.clean.dtype)
            anneal(ball, codes, margins, alive, rng, self.rounds, ends=ends, inner=False)
            start = np.where(rng.random(len(clean)) < 0.5, *ends)


def anneal(
    ball: Ball,
    start: Codes,
    margins: Margins,
    alive: Callable[[], bool],
    rng: np.random.Generator,
    rounds: int = 150,
    *,
    ends: Range | None = None,
    inner: bool = True,
) -> Codes:
    """The input with the smallest margin that was met; below 0 it is decided wrongly.

    Every round all moves of one feature to an end of its range, to the middle or by one step are shown to the device,
    and one of the best is taken: the one with the least margin after some noise, which fades.

    Args:
        ball: around one input.
        start: codes of a point in it.
        margins: of inputs (N, ...).
        alive: whether there is time left.
        rng: of the noise.
        rounds: moves.
        ends: of every feature's range; None: the ball's box.
        inner: whether features also move to the middle and by one step.
    """
    low, high = ends or (end.reshape(-1).astype(np.int64) for end in ball.box)
    now = start.reshape(-1).astype(np.int64)
    best, least = now, float(_margins(ball, now[None], margins)[0])
    warm: float | None = None
    for number in range(rounds):
        tried = moves(now, (low, high), inner)
        if least < 0 or not len(tried) or not alive():
            break
        points = moved(now, tried)
        found = _margins(ball, points, margins)
        finite = found[np.isfinite(found)]
        if not len(finite):
            break
        warm = float(finite.std()) if warm is None else warm  # what a move of one feature does
        noise = rng.exponential(1.0, len(tried)) * warm * (1 - number / rounds) ** 2
        taken = int((found + noise).argmin())
        now = points[taken]
        if found[taken] < least:
            best, least = now, float(found[taken])
        first = int(found.argmin())
        if found[first] < 0:
            best, least = points[first], float(found[first])
    codes: Codes = best.reshape(ball.shape).astype(ball.clean.dtype)
    return codes


def moves(now: NDArray[np.int64], ends: Range, inner: bool = True) -> NDArray[np.int64]:
    """(moves, 2): which feature, and what it becomes."""
    low, high = ends
    targets = [low, high]
    if inner:
        targets += [(low + high) // 2, np.maximum(now - 1, low), np.minimum(now + 1, high)]
    everything = np.concatenate([np.stack([np.arange(len(now)), t], axis=1) for t in targets])
    return np.unique(everything[everything[:, 1] != now[everything[:, 0]]], axis=0)


def moved(now: NDArray[np.int64], tried: NDArray[np.int64]) -> NDArray[np.int64]:
    """(moves, features): the codes after each move."""
    points = np.repeat(now[None], len(tried), axis=0)
    points[np.arange(len(tried)), tried[:, 0]] = tried[:, 1]
    return points


def _margins(ball: Ball, codes: NDArray[np.int64], margins: Margins) -> NDArray[np.float64]:
    x = codes.reshape(-1, *ball.shape).astype(ball.clean.dtype)
    inside = ball.take(np.zeros(len(x), np.int64)).contains(x) if ball.norm != "linf" else np.ones(len(x), np.bool_)
    return np.where(inside, margins(x), np.inf)
