"""Local search on the device itself: one feature at a time, uphill too while it is warm.

For inputs that a threshold or a coarse quantizer comes first for: there only the features that can cross a step matter,
a few of MNIST's 784, and gradients see none of it. Ours, not from a source; the annealing is
Kirkpatrick's (Science 220, 1983).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball
from qmodels.attacks.base import Diagnostics, Problem
from qmodels.attacks.blackbox import Search
from qmodels.attacks.score import ScoreAttack
from qmodels.grid import Codes, Points

Range = tuple[NDArray[np.int64], NDArray[np.int64]]  # lowest and highest codes (features,)
Found = NDArray[np.float64]  # margins (N,)
#: A search: it gives inputs (N, ...) to ask about, and takes their margins.
Questions = Generator[Codes, Found, None]
Asking = dict[int, tuple[Questions, Codes]]  # by row: its search, and what that asks

#: How many inputs are searched together, and the bytes of what they ask at a time.
_TOGETHER, _MOST_BYTES = 64, 1 << 26


class LocalSearch(ScoreAttack):
    """Anneals every standing input over the ends of the features that change the outputs at all."""

    kind: ClassVar[str] = "local-search"

    queries: int = Field(20_000, ge=2, description="budget per image")
    rounds: int = Field(150, ge=1, description="moves of one search; the next one begins at a random corner")

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Many inputs at a time, each with random numbers of its own: the victim is shown all their moves at once."""
        ball, search = problem.ball, Search.begin(problem, problem.clean)
        rows = search.standing(self.queries)
        waiting = zip(rows.tolist(), rng.spawn(len(rows)), strict=True)
        together = max(1, min(_TOGETHER, _MOST_BYTES // max(1, 2 * ball.size**2 * problem.clean.itemsize)))
        asking: Asking = {}
        while True:
            for row, own in itertools.islice(waiting, together - len(asking)):
                questions = self._questions(ball.take(np.array([row])), search.first[row], own)
                asking[row] = questions, next(questions)
            if not asking:
                return search.best, search.diagnostics()
            asking = self._further(search, asking)

    def _further(self, search: Search, asking: Asking) -> Asking:
        """Answer what every row asks; the rows that go on, with what they ask next."""
        parts = [x[: self.queries - int(search.spent[row])] for row, (_, x) in asking.items()]
        sizes = [len(part) for part in parts]
        found = search.ask_many(np.repeat(list(asking), sizes), np.concatenate(parts))
        further = {}
        for (row, (questions, _)), margins in zip(asking.items(), np.split(found, np.cumsum(sizes)[:-1]), strict=True):
            if search.margin[row] >= 0 and search.spent[row] < self.queries:
                with contextlib.suppress(StopIteration):
                    further[row] = questions, questions.send(margins)
        return further

    def _questions(self, ball: Ball, clean_margin: float, rng: np.random.Generator) -> Questions:
        """One search after the other, around one input; it ends only where no feature counts."""
        clean = ball.clean.reshape(-1).astype(np.int64)
        low, high = (end.reshape(-1).astype(np.int64) for end in ball.box)
        alone = moves(clean, (low, high), inner=False)
        found = yield moved(ball, clean, alone)
        live = np.zeros(len(clean), bool)
        live[alone[found != clean_margin, 0]] = True
        ends = np.where(live, low, clean), np.where(live, high, clean)
        start = clean
        while live.any():
            yield from annealing(ball, start.reshape(ball.shape), rng, self.rounds, ends=ends, inner=False)
            start = np.where(rng.random(len(clean)) < 0.5, *ends)


def anneal(
    ball: Ball,
    start: Codes,
    margins: Callable[[Codes], Found],
    alive: Callable[[], bool],
    rng: np.random.Generator,
    rounds: int,
) -> Codes:
    """The input with the smallest margin that `annealing` met.

    Args:
        ball, start, rng, rounds: as there.
        margins: of inputs (N, ...).
        alive: whether there is time left.
    """
    questions = annealing(ball, start, rng, rounds)
    asked = next(questions)
    while True:
        found = margins(asked) if alive() else np.full(len(asked), np.inf)
        try:
            asked = questions.send(found)
        except StopIteration as done:
            best: Codes = done.value
            return best


def annealing(
    ball: Ball,
    start: Codes,
    rng: np.random.Generator,
    rounds: int = 150,
    *,
    ends: Range | None = None,
    inner: bool = True,
) -> Generator[Codes, Found, Codes]:
    """Asks for margins, and returns the input with the smallest one that was met; below 0 it is decided wrongly.

    Every round all moves of one feature to an end of its range, to the middle or by one step are shown to the device,
    and one of the best is taken: the one with the least margin after some noise, which fades. It ends early when no
    margin is finite.

    Args:
        ball: around one input.
        start: codes of a point in it.
        rng: of the noise.
        rounds: moves.
        ends: of every feature's range; None: the ball's box.
        inner: whether features also move to the middle and by one step.
    """
    low, high = ends or (end.reshape(-1).astype(np.int64) for end in ball.box)
    now = start.reshape(-1).astype(np.int64)
    best = start.astype(ball.clean.dtype)
    least = float((yield from _inside(ball, best[None]))[0])
    warm: float | None = None
    for number in range(rounds):
        tried = moves(now, (low, high), inner)
        if least < 0 or not len(tried):
            break
        points = moved(ball, now, tried)
        found = yield from _inside(ball, points)
        finite = found[np.isfinite(found)]
        if not len(finite):
            break
        warm = float(finite.std()) if warm is None else warm  # what a move of one feature does
        noise = rng.exponential(1.0, len(tried)) * warm * (1 - number / rounds) ** 2
        taken = int((found + noise).argmin())
        now = points[taken].reshape(-1).astype(np.int64)
        for index in (taken, int(found.argmin())):
            if found[index] < least:
                best, least = points[index], float(found[index])
    return best


def moves(now: NDArray[np.int64], ends: Range, inner: bool = True) -> NDArray[np.int64]:
    """(moves, 2): which feature, and what it becomes."""
    low, high = ends
    targets = [low, high]
    if inner:
        targets += [(low + high) // 2, np.maximum(now - 1, low), np.minimum(now + 1, high)]
    values = np.sort(np.stack(targets, axis=1), axis=1)
    new = values != now[:, None]
    new[:, 1:] &= values[:, 1:] != values[:, :-1]
    feature, column = np.nonzero(new)
    return np.stack([feature, values[feature, column]], axis=1)


def moved(ball: Ball, now: NDArray[np.int64], tried: NDArray[np.int64]) -> Codes:
    """(moves, ...): the codes after each move."""
    points: Codes = np.repeat(now[None].astype(ball.clean.dtype), len(tried), axis=0)
    points[np.arange(len(tried)), tried[:, 0]] = tried[:, 1]
    return points.reshape(-1, *ball.shape)


def _inside(ball: Ball, points: Codes) -> Generator[Codes, Found, Found]:
    """Margins; infinite outside the ball, where it is not the whole box."""
    found = yield points
    if ball.norm == "linf":
        return found
    return np.where(ball.take(np.zeros(len(points), np.int64)).contains(points), found, np.inf)
