"""When the device decides for a class: pairs of the true class and each rival, and what their sums must differ by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective
from hw.certify.interval import Interval
from hw.certify.recipes import _look_up
from hw.certify.stages import Affine
from hw.simulate.bitsim.recipes import LookupTable
from qmodels.victims import Labels

#: No difference is enough.
NEVER = 1 << 60


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images against rivals: `image` (R,) is a row of the batch, `right` and `rival` are classes."""

    image: NDArray[np.int64]
    right: Labels
    rival: Labels

    @classmethod
    def of(cls, y: Labels, classes: int) -> Pairs:
        """Every image with every wrong class."""
        image, rival = (part.reshape(-1) for part in np.indices((len(y), classes)))
        kept = rival != y[image]
        return cls(image[kept], y[image][kept], rival[kept])

    def take(self, rows: Any) -> Pairs:
        """Some of them."""
        return Pairs(self.image[rows], self.right[rows], self.rival[rows])

    def __len__(self) -> int:
        return len(self.image)

    def weights(self, classes: int) -> NDArray[np.int64]:
        """(R, classes): +1 at the true class, -1 at the rival."""
        found = np.zeros((len(self), classes), np.int64)
        found[np.arange(len(self)), self.right] = 1
        found[np.arange(len(self)), self.rival] = -1
        return found


def decided(outputs: Interval, pairs: Pairs) -> NDArray[np.bool_]:
    """Pairs (R,) that bounds of the outputs decide: the first of equal outputs wins."""
    low = outputs.low[pairs.image, pairs.right]
    high = outputs.high[pairs.image, pairs.rival]
    return np.asarray((low > high) | ((low == high) & (pairs.right < pairs.rival)))


def needed(last: Affine, pairs: Pairs, sums: Interval | None = None) -> NDArray[np.int64]:
    """The difference of sums, right minus rival, from which on the outputs decide for the right class.

    The last staircase may give two sums the same output, where it rounds or saturates. If the right class comes first,
    that is enough. If not, the sums must lie further apart than any step that both can be on is wide.
    """
    reach = sums or last.reach
    tie = np.where(pairs.right < pairs.rival, 0, 1)
    if last.stairs is None:
        return tie
    low = last.stairs.index(reach.low[pairs.image, pairs.right])
    high = last.stairs.index(reach.high[pairs.image, pairs.rival])
    common = Interval(np.minimum(low, high), np.maximum(low, high))
    widest = _look_up(LookupTable(last.stairs.widths), common).high
    return np.where(tie == 0, 0, np.where(low > high, -NEVER, widest))


def objective(net: Net, last: Affine, pairs: Pairs, scale: int = 1) -> Objective:
    """Sum of the right class minus the rival's."""
    return Objective.of(net, last, pairs.weights(len(last.bias)), scale)
