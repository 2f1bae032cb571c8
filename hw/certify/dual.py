"""Lower bounds of a weighted sum of outputs over a box: the Lagrangian dual over every quantizer's true staircase.

Let a layer's sums be a = W h + b and its outputs g(a). For any numbers lam (one a neuron) and mu (what the outputs are
worth), mu g(a) = [mu g(a) - lam a] + lam (W h + b). The bracket is minimised over all a in the neuron's interval, step
by step of its staircase; the rest is a weighted sum of the layer's inputs, and so on back to the box. So every choice
of multipliers gives a true bound, and with integers for multipliers everything is exact in int64. Searching for good
multipliers is done in floats; nothing is concluded from them. With the slopes of chords for multipliers this is
DeepPoly/CROWN with each quantizer's rounding as what it is; the best multipliers give the bound of the convex hulls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.groups import Group
from hw.certify.interval import SAFE_BITS, Integers, Interval
from hw.certify.matrix import Matrix, TooLarge, check_products
from hw.certify.stages import Affine, Largest, Stage, Stages

_NEVER = 1 << 61
Multipliers = dict[int, NDArray[Any]]  # by the stage's output: (rows, n)
Points = dict[int, NDArray[Any]]  # by value: (rows, n)


@dataclass(frozen=True, eq=False)
class Net:
    """What all boxes of one accelerator share: stages in order, with their matrices.

    `groups`: by leaf, elements that depend on each other (`joint.py`, for one box); an element is in one group at most.
    """

    stages: tuple[Stage, ...]
    matrices: dict[int, tuple[tuple[int, Matrix], ...]]  # by the stage's output: source and matrix
    leaves: tuple[int, ...]
    groups: dict[int, tuple[Group, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, stages: Stages) -> Net:
        """From the stages of a batch of boxes."""
        matrices = {
            s.out: tuple((index, Matrix(m)) for index, m in s.parts) for s in stages.stages if isinstance(s, Affine)
        }
        return cls(stages.stages, matrices, tuple(stages.leaves))

    def grouped(self, out: int) -> bool:
        """Whether a stage reads a leaf with groups."""
        return any(index in self.groups for index, _ in self.matrices[out])

    def forward(self, known: Points) -> Points:
        """All values (N, n), from those of the leaves, or of stages that all others follow from."""
        values = dict(known)
        for stage in self.stages:
            if stage.out in values:
                continue
            if isinstance(stage, Largest):
                values[stage.out] = values[stage.source][:, stage.members].max(axis=1)
                continue
            total = sum((matrix.forward(values[index]) for index, matrix in self.matrices[stage.out]), stage.bias)
            values[stage.out] = total if stage.stairs is None else stage.stairs(total)
        return values

    def upto(self, out: int) -> Net:
        """The stages before the one that makes `out`."""
        at = next(i for i, s in enumerate(self.stages) if s.out == out)
        return replace(self, stages=self.stages[:at])


@dataclass(frozen=True, eq=False)
class Regions:
    """Rows of boxes and of bounds of every stage's sums: where each search goes on.

    `leaves` and `reach`: by value and by the stage's output, (rows, n); leaves that all rows share may be (1, n).
    """

    leaves: dict[int, Interval]
    reach: dict[int, Interval]

    def __len__(self) -> int:
        return len(next(iter((self.reach or self.leaves).values())).low)

    @classmethod
    def of(cls, stages: Stages, net: Net) -> Regions:
        """One row a box; of the stages that `net` has."""
        return cls(dict(stages.leaves), {s.out: s.reach for s in stages.stages[: len(net.stages)]})

    def outputs(self, net: Net, index: int) -> Interval:
        """Bounds of a value: a leaf's, or what a stage makes of its sums."""
        if index in self.leaves:
            return self.leaves[index]
        stage = next(s for s in net.stages if s.out == index)
        reach = self.reach[index]
        return reach if isinstance(stage, Largest) or stage.stairs is None else stage.stairs.image(reach)

    def take(self, rows: Any) -> Regions:
        """Some rows, or some several times."""
        return Regions(
            {i: b if len(b.low) == 1 else Interval(b.low[rows], b.high[rows]) for i, b in self.leaves.items()},
            {i: Interval(b.low[rows], b.high[rows]) for i, b in self.reach.items()},
        )

    def floats(self) -> Regions:
        """Leaves in float64, for the search."""
        return replace(self, leaves={i: Interval(*(e.astype(np.float64) for e in b)) for i, b in self.leaves.items()})

    def join(self, other: Regions) -> Regions:
        """The rows of both, which have their leaves in common."""
        reach = {
            i: Interval(np.concatenate([b.low, other.reach[i].low]), np.concatenate([b.high, other.reach[i].high]))
            for i, b in self.reach.items()
        }
        return Regions(self.leaves, reach)  # parts of one box


@dataclass(frozen=True, eq=False)
class Objective:
    """What is bounded from below, a row each: constant + sum over values of coefficients * value."""

    coefficients: dict[int, NDArray[Any]]  # by value: (rows, n)
    constant: NDArray[Any]  # (rows,)

    @classmethod
    def of(cls, net: Net, stage: Affine, weights: Integers, scale: int = 1) -> Objective:
        """Weighted sums of a stage's sums: weights (rows, n), all times `scale`."""
        parts = {index: matrix.backward(weights) * scale for index, matrix in net.matrices[stage.out]}
        return cls(parts, (weights @ stage.bias) * scale)

    def take(self, rows: Any) -> Objective:
        """Some rows."""
        return Objective({i: c[rows] for i, c in self.coefficients.items()}, self.constant[rows])

    def at(self, values: Points) -> NDArray[Any]:
        """Of one row: what it is at some values (N, n)."""
        found: NDArray[Any] = sum((values[i] @ c[0] for i, c in self.coefficients.items()), self.constant[0])
        return found

    def floats(self) -> Objective:
        """For the search."""
        return Objective({i: c.astype(np.float64) for i, c in self.coefficients.items()}, self.constant.astype(float))


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound a row, and the points that attain the parts of it."""

    value: NDArray[Any]
    sums: Points  # by the stage's output: the sums that the staircases chose
    values: Points  # by value: what the stage before takes them to be
    worth: Points  # by the stage's output: mu
    least: Points  # by the output of a stage with steps: what each neuron costs


def evaluate(net: Net, regions: Regions, objective: Objective, multipliers: Multipliers) -> Bound:
    """The dual's value for these multipliers: exact for integers.

    Raises:
        TooLarge: int64 may not hold it.
    """
    total = objective.constant.copy()
    whole = total.dtype != np.float64  # then sums must fit int64
    worth: dict[int, Any] = dict(objective.coefficients)
    sums: Points = {}
    values: Points = {}
    mus: Points = {}
    least: Points = {}
    size = np.zeros(len(total))
    for stage in reversed(net.stages):
        mu = worth.pop(stage.out, None)
        if mu is None:
            continue
        mus[stage.out] = mu
        reach = regions.reach[stage.out]
        if isinstance(stage, Largest):
            lam = multipliers[stage.out]
            found, at, group = group_minimum(mu, lam, _members(stage, regions, net))
            size += np.abs(found.astype(np.float64)).sum(axis=1) if whole else 0.0
            total += found.sum(axis=1)
            values[stage.out], sums[stage.out] = at, group
            worth[stage.source] = worth.get(stage.source, 0) + stage.back(lam)
            continue
        lam = mu
        if stage.stairs is not None:
            lam = multipliers[stage.out]
            found, at = stage.stairs.minimum(mu, lam, reach.low, reach.high)
            size += np.abs(found.astype(np.float64)).sum(axis=1) if whole else 0.0
            total += found.sum(axis=1)
            sums[stage.out], values[stage.out], least[stage.out] = at, stage.stairs(at), found
        size += np.abs(lam.astype(np.float64)) @ np.abs(stage.bias.astype(np.float64)) if whole else 0.0
        total += lam @ stage.bias
        for index, matrix in net.matrices[stage.out]:
            part = matrix.backward(lam)
            worth[index] = worth[index] + part if index in worth else part
    for index, mu in worth.items():
        box = regions.leaves[index]
        check_products(mu, box.low, box.high)
        at = np.where(mu > 0, box.low, box.high)
        for group in net.groups.get(index, ()):
            at[:, group.elements] = group.best(mu)
        values[index] = at
        products = mu * at
        size += np.abs(products.astype(np.float64)).sum(axis=1) if whole else 0.0
        total += products.sum(axis=1)
    if whole and size.max(initial=0) >= 2.0 ** (SAFE_BITS - 1):
        raise TooLarge
    return Bound(total, sums, values, mus, least)


def _members(stage: Largest, regions: Regions, net: Net) -> Interval:
    """Bounds (rows, group size, n) of what each group holds."""
    return regions.outputs(net, stage.source).take(stage.members)


def group_minimum(mu: Any, lam: Any, box: Interval) -> tuple[Any, Any, Any]:
    """min of mu * max(h) - sum(lam * h) over whole numbers h in a box; the largest and the h that attain it.

    Between two places where one of the upper bounds lies, the minimum for a given largest number m is concave in m, so
    that only those places and the ones after them can be best.

    Args:
        mu: (rows, n).
        lam: (rows, group size, n).
        box: bounds, likewise.

    Raises:
        TooLarge: int64 may not hold it.
    """
    check_products(mu, box.low, box.high)
    check_products(lam, box.low, box.high, terms=box.low.shape[1] + 2)
    least, most = box.low.max(axis=1), box.high.max(axis=1)
    places = [least, *(box.high[:, i] + k for i in range(box.high.shape[1]) for k in (0, 1))]
    span = int((most - least).max(initial=0))
    if span < len(places):
        places = [least + k for k in range(span + 1)]
    best = at = None
    for place in places:
        m = np.clip(place, least, most)
        above = np.minimum(m[:, None], box.high)
        own = np.where(lam > 0, above, box.low)
        able = box.high >= m[:, None]
        extra = np.where(able, lam * own - lam * m[:, None], _NEVER).min(axis=1)  # someone must attain m
        found = mu * m - (lam * own).sum(axis=1) + extra
        if best is None or at is None:
            best, at = found, np.broadcast_to(m, found.shape)
        else:
            better = found < best
            best, at = np.where(better, found, best), np.where(better, m, at)
    assert best is not None and at is not None
    own = np.where(lam > 0, np.minimum(at[:, None], box.high), box.low)
    able = np.broadcast_to(box.high >= at[:, None], own.shape)
    cost = np.where(able, lam * own - lam * at[:, None], _NEVER)
    who = cost.argmin(axis=1)[:, None]
    np.put_along_axis(own, who, at[:, None], axis=1)
    return best, at, own
