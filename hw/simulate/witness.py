"""An accelerator held against outputs that something else gave: a PyTorch model, a device, an older project.

Channels are the usual trap: PyTorch has them first, hls4ml's graph (in most of its settings) last. So when the outputs
differ, the same inputs and outputs are tried with the channels moved, and the order that fits is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.difference import Difference, difference
from qmodels.errors import UserError

Array = NDArray[Any]
#: An order of channels is the right one when it leaves less than this share of the gap.
_FITS = 0.1


@dataclass(frozen=True)
class Witness:
    """How an accelerator's outputs differ from those of something else, and whether another order of axes fits."""

    difference: Difference
    hint: str = ""  # the order in which they fit; "": as they were given, or in none

    def __str__(self) -> str:
        told = str(self.difference).replace("the model's bits", "the same bits").replace("from the model", "from them")
        return told + (f". They fit {self.hint}" if self.hint else "")


def compare(predict: Callable[[Array], Array], x: Array, outputs: Array, shape: tuple[int, ...]) -> Witness:
    """Hold an accelerator's outputs against others.

    Args:
        predict: the accelerator's.
        x: (N, ...) inputs as the other one took them.
        outputs: (N, ...) what it gave.
        shape: of one input of the accelerator.

    Raises:
        UserError: no order of the axes makes `x` the accelerator's input, or there are other numbers of outputs.
    """
    tried: list[tuple[str, Difference]] = []
    for moved, inputs in _orders(x, "inputs"):
        if tuple(inputs.shape[1:]) != shape:
            continue
        ours = np.asarray(predict(inputs)).reshape(len(x), -1)
        for turned, theirs in _orders(outputs, "outputs"):
            if theirs.reshape(len(x), -1).shape != ours.shape:
                raise UserError(f"compare: {outputs.shape} outputs are given, the accelerator has {ours.shape}")
            told = " and ".join(part for part in (moved, turned) if part)
            tried.append((told, difference(theirs.reshape(len(x), -1), ours)))
    if not tried:
        raise UserError(f"compare: x has shape {x.shape}; the accelerator takes (N, {', '.join(map(str, shape))})")
    first = tried[0]
    told, best = min(tried, key=lambda item: item[1].largest_gap)
    fits = best.largest_gap <= _FITS * first[1].largest_gap and first[1].largest_gap > 0
    return Witness(first[1], told) if fits and told != first[0] else Witness(first[1], first[0])


def _orders(array: Array, what: str) -> Iterator[tuple[str, Array]]:
    """The array as it is, and with the channels moved to the end or to the front; nothing to move: once."""
    yield "", array
    if array.ndim > 2:
        yield f"with the channels of the {what} moved to the end", np.ascontiguousarray(np.moveaxis(array, 1, -1))
        yield f"with the channels of the {what} moved to the front", np.ascontiguousarray(np.moveaxis(array, -1, 1))
