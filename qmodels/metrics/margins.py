"""Distance to the decision boundary, from above: the shortest change that any attack has found for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.base import LEVELS, AttackResult
from qmodels.victims import Images

Lengths = NDArray[np.float64]  # (N,) in LSBs; infinite where no attack has succeeded


@dataclass(frozen=True)
class BoundaryDistance:
    """Per-sample minimum over attacks in four norms, and the attack that found it."""

    l0: Lengths  # changed values
    l1: Lengths  # LSBs
    l2: Lengths
    linf: Lengths
    attack: dict[str, NDArray[np.str_]]  # norm -> (N,) label of the attack; empty where none succeeded

    def summary(self) -> dict[str, float]:
        """Medians; an image that nobody fooled counts as infinitely far."""
        return {norm: float(np.median(getattr(self, norm))) for norm in ("l0", "l1", "l2", "linf")}


def change_lengths(x: Images, clean: Images) -> dict[str, Lengths]:
    """L0, L1, L2 and L-infinity length of every change, in LSBs."""
    steps = np.rint((x.astype(np.float64) - clean) * LEVELS).reshape(len(x), -1)
    size = np.abs(steps)
    return {
        "l0": np.count_nonzero(steps, axis=1).astype(np.float64),
        "l1": size.sum(axis=1),
        "l2": np.sqrt((steps**2).sum(axis=1)),
        "linf": size.max(axis=1, initial=0.0),
    }


def boundary_distance(results: Sequence[AttackResult], clean: Images) -> BoundaryDistance:
    """The nearest wrong example of every image over all `results` (attacks on the same images and victim).

    An upper bound of the distance: more attacks can only lower it.

    Raises:
        ValueError: no results, or results for another number of images.
    """
    if not results or any(len(result.x) != len(clean) for result in results):
        raise ValueError(f"need at least one result for the {len(clean)} clean images")
    best = {norm: np.full(len(clean), np.inf) for norm in ("l0", "l1", "l2", "linf")}
    width = max(len(result.attack) for result in results)
    who = {norm: np.full(len(clean), "", f"<U{width}") for norm in best}
    for result in results:
        for norm, length in change_lengths(result.x, clean).items():
            nearer = result.success & (length < best[norm])
            best[norm][nearer], who[norm][nearer] = length[nearer], result.attack
    return BoundaryDistance(best["l0"], best["l1"], best["l2"], best["linf"], who)
