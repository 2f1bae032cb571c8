"""Small boxes: every input in them is shown to the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ball import Ball
from qmodels.grid import Codes
from qmodels.victims import Labels

_AT_ONCE = 1 << 15


def points_in(ball: Ball) -> int:
    """Grid points in the box around the one input of the ball."""
    low, high = ball.box
    return int(np.prod((high - low + 1).astype(object)))


def first_wrong(
    ball: Ball, y: int, wrong: Callable[[Codes, Labels], NDArray[np.bool_]], alive: Callable[[], bool]
) -> tuple[bool, Codes | None]:
    """Whether all inputs of a ball around one input were tried, and the first that is decided wrongly.

    Args:
        ball: of one input.
        y: its class.
        wrong: where the device decides wrongly.
        alive: whether there is time left.
    """
    low, high = (end.reshape(-1).astype(np.int64) for end in ball.box)
    free = np.flatnonzero(low < high)
    sizes = (high - low + 1)[free]
    total = points_in(ball)
    for first in range(0, total, _AT_ONCE):
        if not alive():
            return False, None
        number = np.arange(first, min(first + _AT_ONCE, total))
        codes = np.tile(low, (len(number), 1))
        for place, size in zip(free, sizes, strict=True):
            number, digit = np.divmod(number, size)
            codes[:, place] += digit
        x = codes.reshape(len(codes), *ball.shape).astype(ball.clean.dtype)
        inside = ball.take(np.zeros(len(x), np.int64)).contains(x)
        bad = np.flatnonzero(inside & wrong(x, np.full(len(x), y)))
        if len(bad):
            return True, x[bad[:1]]
    return True, None
