"""Where two simulators of one accelerator first differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.formats import FixedPoint

Layers = Mapping[str, NDArray[Any]]  # every layer's output (N, ...), in the order they are computed


@dataclass(frozen=True)
class FirstDifference:
    """The first layer (in the reference's order), sample and element that differ.

    The formats are the layer's number formats on either side, where they are known. `differing` of the layer's
    `compared` numbers differ.
    """

    layer: str
    sample: int
    element: tuple[int, ...]
    reference: float
    candidate: float
    reference_format: FixedPoint | None
    candidate_format: FixedPoint | None
    differing: int
    compared: int

    def __str__(self) -> str:
        def told(value: float, fmt: FixedPoint | None) -> str:
            return f"{value!r} ({fmt if fmt is not None else 'format unknown'})"

        return (
            f"first layer that differs: {self.layer!r}, sample {self.sample}, element {self.element}: "
            f"{told(self.reference, self.reference_format)} against {told(self.candidate, self.candidate_format)}; "
            f"{self.differing} of {self.compared} values of this layer differ"
        )


def explain(
    reference: Layers,
    candidate: Layers,
    formats: Mapping[str, FixedPoint] | None = None,
    candidate_formats: Mapping[str, FixedPoint] | None = None,
) -> FirstDifference | None:
    """Compare two traces, layer by layer in the reference's order; None when every bit agrees.

    Layers that only one of them has are skipped.

    Args:
        reference: the judge's layers.
        candidate: the other's; a layer may have another shape with as many elements a sample.
        formats: number formats of the reference's layers, to be told.
        candidate_formats: those of the candidate's layers; None: the same.

    Raises:
        UserError: the traces share no layer, or a layer has another size in each.
    """
    shared = [name for name in reference if name in candidate]
    if not shared:
        raise UserError(f"the traces share no layer: {list(reference)} and {list(candidate)}")
    known = formats or {}
    for name in shared:
        one, two = _same_shape(name, np.asarray(reference[name]), np.asarray(candidate[name]))
        different = one != two
        if different.any():
            first = np.unravel_index(int(np.argmax(different)), one.shape)
            return FirstDifference(
                name,
                int(first[0]),
                tuple(int(i) for i in first[1:]),
                float(one[first]),
                float(two[first]),
                known.get(name),
                (candidate_formats or known).get(name),
                int(different.sum()),
                one.size,
            )
    return None


def _same_shape(name: str, one: NDArray[Any], two: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if one.size != two.size or len(one) != len(two):
        raise UserError(f"layer {name!r} has shape {one.shape} in one trace and {two.shape} in the other")
    return one, two.reshape(one.shape)
