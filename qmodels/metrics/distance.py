"""Distance to the decision boundary, from above: the shortest change that any attack has found for each image."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.grid import Codes

Lengths = NDArray[np.float64]  # (N,) in LSBs (L0: changed values); infinite where no attack has succeeded
UNITS = {"l0": "values", "l1": "lsb", "l2": "lsb", "linf": "lsb"}


class BoundaryDistance:
    """Per-sample minimum over attacks in four norms, and the attack that found it.

    An upper bound of the distance: more attacks can only lower it.
    """

    def __init__(self, count: int) -> None:
        self.lengths: dict[str, Lengths] = {norm: np.full(count, np.inf) for norm in UNITS}
        self.attack: dict[str, NDArray[Any]] = {norm: np.full(count, "", object) for norm in UNITS}

    def add(self, attack: str, success: NDArray[np.bool_], lengths: dict[str, Lengths]) -> None:
        """Take the examples of one attack into account.

        Args:
            attack: its label.
            success: (N,) where the victim is wrong; of the first images if there are fewer, and cut if there are more.
            lengths: of its changes, as `change_lengths` gives them.
        """
        for norm, every in lengths.items():
            length, shortest = every[: len(self.lengths[norm])], self.lengths[norm][: len(every)]
            nearer = success[: len(shortest)] & (length < shortest)
            shortest[nearer], self.attack[norm][: len(every)][nearer] = length[nearer], attack

    def summary(self, right: NDArray[np.bool_]) -> dict[str, Any]:
        """Medians over the images that the victim gets right when clean, and who found the nearest examples.

        An image that nobody fooled counts as infinitely far; an infinite median is None.
        """
        right = right[: len(self.lengths["l2"])]
        fooled = right & np.isfinite(self.lengths["l2"])
        found: dict[str, Any] = {"images_right_when_clean": int(right.sum()), "images_fooled": int(fooled.sum())}
        for norm, unit in UNITS.items():
            median = float(np.median(self.lengths[norm][right])) if right.any() else np.inf
            found[f"median_{norm}_{unit}"] = median if np.isfinite(median) else None
        for norm in UNITS:
            found[f"nearest_{norm}_found_by"] = dict(Counter(self.attack[norm][fooled].tolist()).most_common())
        return found


def change_lengths(x: Codes, clean: Codes) -> dict[str, Lengths]:
    """L0, L1, L2 and L-infinity length of every change, in grid steps."""
    steps = (x.astype(np.float64) - clean).reshape(len(x), -1)
    size = np.abs(steps)
    return {
        "l0": np.count_nonzero(steps, axis=1).astype(np.float64),
        "l1": size.sum(axis=1),
        "l2": np.sqrt((steps**2).sum(axis=1)),
        "linf": size.max(axis=1, initial=0.0),
    }
