"""A data set as the device sees it: three splits of integer codes on one grid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.inputs import IMAGE_INPUTS, Inputs
from qmodels.digest import digest
from qmodels.grid import IMAGE_GRID, Codes, InputGrid, Values
from qmodels.targets import TargetKind


@dataclass(frozen=True, eq=False)
class Split:
    """Codes (N, ...) on a grid and labels (N,), or other targets (N, ...); `x, y = split` works."""

    x: Codes
    y: NDArray[Any]
    grid: InputGrid = IMAGE_GRID

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.x, self.y))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def values(self) -> Values:
        """The numbers that the codes stand for."""
        return self.grid.to_values(self.x)

    def take(self, chosen: int | NDArray[Any] | None) -> Split:
        """The first so many samples (all if None), or those of the given rows."""
        rows: Any = chosen if isinstance(chosen, np.ndarray) else slice(chosen)
        return Split(self.x[rows], self.y[rows], self.grid)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits on one grid. Nothing is ever tuned on `test`."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int  # 0 where y holds no class numbers
    #: How the user's numbers became codes.
    inputs: Inputs = field(default=IMAGE_INPUTS)
    #: Names of the classes; empty: they are numbers.
    labels: tuple[str, ...] = ()
    targets: TargetKind = "classes"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (F,), (T, C) or (H, W, C)."""
        return tuple(self.train.x.shape[1:])

    @property
    def grid(self) -> InputGrid:
        """What inputs can be."""
        return self.train.grid

    def describe(self) -> dict[str, Any]:
        """How numbers became codes, the bounds (codes) and frozen features, and the names: for the run folder."""
        bounds = {
            name: np.broadcast_to(bound, self.input_shape).reshape(-1, self.input_shape[-1])[0].tolist()
            for name, bound in (("lower", self.grid.lower), ("upper", self.grid.upper))
        }
        kept = self.grid.frozen
        frozen = [] if kept is None else np.flatnonzero(kept.reshape(-1, self.input_shape[-1])[0]).tolist()
        return {**self.inputs.as_json(), **bounds, "frozen": frozen, "labels": list(self.labels)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of grid and splits. Computed once: it takes a second, and every step of every run asks for it."""
        arrays = [part for split in (self.train, self.validation, self.test) for part in split]
        described = (part for array in arrays for part in (f"{array.shape} {array.dtype}", array))
        scaled = [] if self.inputs.plain else [json.dumps(self.inputs.as_json())]
        return digest(json.dumps(self.grid.as_json()), *scaled, *described)
