"""Local search on the device itself: one feature at a time, uphill too while it is warm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ball import Ball
from qmodels.grid import Codes

Margins = Callable[[Codes], NDArray[np.float64]]


def anneal(
    ball: Ball,
    start: Codes,
    margins: Margins,
    alive: Callable[[], bool],
    rng: np.random.Generator,
    rounds: int = 150,
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
    """
    low, high = (end.reshape(-1).astype(np.int64) for end in ball.box)
    now = start.reshape(-1).astype(np.int64)
    best, least = now, float(_margins(ball, now[None], margins)[0])
    warm: float | None = None
    for number in range(rounds):
        moves = _moves(now, low, high)
        if least < 0 or not len(moves) or not alive():
            break
        points = np.repeat(now[None], len(moves), axis=0)
        points[np.arange(len(moves)), moves[:, 0]] = moves[:, 1]
        found = _margins(ball, points, margins)
        finite = found[np.isfinite(found)]
        if not len(finite):
            break
        warm = float(finite.std()) if warm is None else warm  # what a move of one feature does
        noise = rng.exponential(1.0, len(moves)) * warm * (1 - number / rounds) ** 2
        taken = int((found + noise).argmin())
        now = points[taken]
        if found[taken] < least:
            best, least = now, float(found[taken])
        first = int(found.argmin())
        if found[first] < 0:
            best, least = points[first], float(found[first])
    codes: Codes = best.reshape(ball.shape).astype(ball.clean.dtype)
    return codes


def _moves(now: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """(moves, 2): which feature, and what it becomes."""
    targets = [low, high, (low + high) // 2, np.maximum(now - 1, low), np.minimum(now + 1, high)]
    everything = np.concatenate([np.stack([np.arange(len(now)), t], axis=1) for t in targets])
    return np.unique(everything[everything[:, 1] != now[everything[:, 0]]], axis=0)


def _margins(ball: Ball, codes: NDArray[np.int64], margins: Margins) -> NDArray[np.float64]:
    x = codes.reshape(-1, *ball.shape).astype(ball.clean.dtype)
    inside = ball.take(np.zeros(len(x), np.int64)).contains(x) if ball.norm != "linf" else np.ones(len(x), np.bool_)
    return np.where(inside, margins(x), np.inf)
