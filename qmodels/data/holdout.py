"""Which samples train, which are held out. Nothing random but the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def hold_out(y: NDArray[Any], order: Rows, count: int) -> tuple[Rows, Rows]:
    """The first `count` samples of a shuffled order are held out, the others train.

    A class that would be left without a training sample gets one back, in exchange for one of the class that has most.

    Args:
        y: labels (N,).
        order: of the samples; it may leave some out.
        count: how many are held out.

    Returns:
        Rows that train, and rows that are held out.
    """
    held, train = order[:count].copy(), order[count:].copy()
    for label in sorted(set(y[held].tolist()) - set(y[train].tolist())):
        present, counts = np.unique(y[train], return_counts=True)
        if not len(counts) or counts.max() < 2:
            break
        mine = int(np.flatnonzero(y[held] == label)[0])
        other = int(np.flatnonzero(y[train] == present[counts.argmax()])[0])
        held[mine], train[other] = train[other], held[mine]
    return train, held


def part_for_test(y: NDArray[Any], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows for training and for the test, of data that come in one piece: `share` of every class, one at least stays.

    Args:
        y: labels (N,).
        share: of the samples of every class that are for the test.
        seed: of the choice.
    """
    rng = np.random.default_rng([seed, 0x7E57])
    order = rng.permutation(len(y))
    chosen = np.zeros(len(y), np.bool_)
    for label in np.unique(y):
        rows = order[y[order] == label]
        chosen[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    if not chosen.any():
        chosen[order[0]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
