"""The sums of staircases that read nothing but leaves: their steps decide all that follows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Points, Regions
from hw.certify.stages import Affine

_CELLS = 1 << 18  # numbers of a matrix; with a larger one everything here takes too long

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def first_staircases(net: Net) -> list[Affine]:
    """The stages in question."""
    stages = [s for s in net.stages if isinstance(s, Affine) and s.stairs is not None]
    return [s for s in stages if all(index in net.leaves for index, _ in net.matrices[s.out])]


@dataclass(frozen=True, eq=False)
class FirstSums:
    """All of them, one after the other, and the inputs that they read.

    Args:
        stages: what makes them.
        leaves: what they read, and how many inputs each is.
        matrix: (sums, inputs).
        bias: (sums,).
        low: (inputs,) the least that each can be.
        high: likewise the most.
    """

    stages: tuple[Affine, ...]
    leaves: dict[int, int]
    matrix: Floats
    bias: Whole
    low: Floats
    high: Floats

    @classmethod
    def of(cls, net: Net, regions: Regions) -> FirstSums | None:
        """Of one row; None: there are none, they do not read all leaves, or they are too many."""
        first = first_staircases(net)
        leaves = {index: regions.leaves[index].low.shape[1] for index in net.leaves}
        count = sum(len(stage.bias) for stage in first)
        read = {index for stage in first for index, _ in net.matrices[stage.out]}
        if not first or read != set(leaves) or count * sum(leaves.values()) > _CELLS:
            return None
        rows = []
        for stage in first:
            parts = dict(net.matrices[stage.out])
            none = {index: np.zeros((len(stage.bias), size)) for index, size in leaves.items()}
            rows.append(np.hstack([parts[i].sparse.toarray() if i in parts else none[i] for i in leaves]))
        matrix, bias = np.vstack(rows).astype(np.float64), np.concatenate([stage.bias for stage in first])
        low, high = (
            np.concatenate([regions.leaves[index][end][0] for index in leaves]).astype(np.float64) for end in (0, 1)
        )
        return cls(tuple(first), leaves, matrix, bias.astype(np.int64), low, high)

    def split(self, sums: NDArray[np.int64]) -> list[Whole]:
        """What belongs to each stage, of an array (..., sums)."""
        ends = np.cumsum([0, *(len(stage.bias) for stage in self.stages)])
        return [sums[..., begin:end] for begin, end in pairwise(ends)]

    def at(self, inputs: Floats) -> Whole:
        """The sums of inputs (inputs,)."""
        return np.rint(self.matrix @ inputs).astype(np.int64) + self.bias

    def reach(self) -> tuple[Whole, Whole]:
        """Between which numbers the box of inputs keeps each sum."""
        ends = self.matrix * self.low, self.matrix * self.high
        least, most = np.minimum(*ends).sum(axis=1), np.maximum(*ends).sum(axis=1)
        return least.astype(np.int64) + self.bias, most.astype(np.int64) + self.bias

    def steps(self, sums: Whole) -> Whole:
        """The step that each sum is on."""
        parts = zip(self.stages, self.split(sums), strict=True)
        return np.concatenate([stage.stairs.index(part) for stage, part in parts if stage.stairs], axis=-1)

    def ends(self, steps: Whole) -> tuple[Whole, Whole]:
        """The first and the last sum on each step."""
        parts = list(zip((stage.stairs for stage in self.stages), self.split(steps), strict=True))
        first = np.concatenate([stairs.starts[part] for stairs, part in parts if stairs], axis=-1)
        return first, np.concatenate([stairs.ends[part] for stairs, part in parts if stairs], axis=-1)

    def values(self, steps: Whole) -> Points:
        """What the stages give on steps (N, sums)."""
        parts = zip(self.stages, self.split(steps), strict=True)
        return {stage.out: stage.stairs.values[part] for stage, part in parts if stage.stairs}

    def inputs(self, leaves: Points) -> Floats:
        """Leaves (1, n) one after the other (inputs,)."""
        return np.concatenate([leaves[index][0] for index in self.leaves]).astype(np.float64)

    def points(self, inputs: Floats) -> Points:
        """Inputs (N, inputs) as leaves."""
        cuts = np.cumsum(list(self.leaves.values()))[:-1]
        return dict(zip(self.leaves, np.split(inputs, cuts, axis=-1), strict=True))
