"""Where two simulators of one accelerator first differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.formats import FixedPoint


@dataclass(frozen=True)
class FirstDifference:
    """The first layer (in the reference's order), sample and element that differ.

    `reference_format` is the layer's format; `on_grid` tells which of the two values the format can hold.
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
            f"layer {self.layer!r}, sample {self.sample}, element {self.element}: "
            f"{told(self.reference, self.reference_format)} against {told(self.candidate, self.candidate_format)}; "
            f"{self.differing} of {self.compared} values of this layer differ"
        )


def explain(
    reference: Mapping[str, NDArray[Any]],
    candidate: Mapping[str, NDArray[Any]],
    formats: Mapping[str, FixedPoint],
    candidate_formats: Mapping[str, FixedPoint] | None = None,
) -> FirstDifference | None:
    """Compare two traces, layer by layer in the reference's order; None when every bit agrees.

    Layers that only one of them has are skipped. Raises UserError when they share no layer, or a shape differs.
    """
    shared = [name for name in reference if name in candidate]
    if not shared:
        raise UserError(f"the traces share no layer: {list(reference)} and {list(candidate)}")
    for name in shared:
        one, two = np.asarray(reference[name]), np.asarray(candidate[name])
        if one.size != two.size or len(one) != len(two):
            raise UserError(f"layer {name!r} has shape {one.shape} in one trace and {two.shape} in the other")
        two = two.reshape(one.shape)
        different = one != two
        if different.any():
            first = np.unravel_index(int(np.argmax(different)), one.shape)
            return FirstDifference(
                name,
                int(first[0]),
                tuple(int(i) for i in first[1:]),
                float(one[first]),
                float(two[first]),
                formats.get(name),
                (candidate_formats or formats).get(name),
                int(different.sum()),
                one.size,
            )
    return None
