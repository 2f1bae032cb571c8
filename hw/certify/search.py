"""Looking for good multipliers, in floats: chords first, then supergradient ascent. Nothing is concluded here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify import kinked
from hw.certify.dual import Bound, Multipliers, Net, Objective, Points, Regions, evaluate
from hw.certify.interval import Interval
from hw.certify.kinked import Kinked
from hw.certify.stages import Affine, Largest
from hw.certify.staircase import Staircase

_FIRST_STEP, _LAST_STEP = 0.3, 0.01  # of a multiplier's own size
_DECAY_ONE, _DECAY_TWO = 0.8, 0.99  # of Adam's averages
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Found:
    """The best multipliers of every row, what bound they promise, and averages over the search.

    By stage, (rows, n): `loss` is how much of the bound each neuron costs, `place` where its sums lie on average, and
    `worth` is mu.
    """

    multipliers: Multipliers
    value: NDArray[np.float64]
    loss: Points
    place: Points
    worth: Points
    inputs: list[Points]  # what the leaves were at some of the steps
    values: Points  # what the stages made, on average

    def take(self, rows: Any) -> Multipliers:
        """The multipliers of some rows."""
        return {out: lam[rows] for out, lam in self.multipliers.items()}

    def some(self, rows: Any) -> Found:
        """Of some rows, without most of the inputs."""
        loss, place, worth, last, values = (
            {out: part[rows] for out, part in points.items()}
            for points in (self.loss, self.place, self.worth, self.inputs[-1], self.values)
        )
        return Found(self.take(rows), self.value[rows], loss, place, worth, [last], values)

    def join(self, other: Found) -> Found:
        """The rows of both."""
        parts = (
            {out: np.concatenate([part, theirs[out]]) for out, part in ours.items()}
            for ours, theirs in (
                (self.multipliers, other.multipliers),
                (self.loss, other.loss),
                (self.place, other.place),
                (self.worth, other.worth),
                (self.inputs[-1], other.inputs[-1]),
                (self.values, other.values),
            )
        )
        multipliers, loss, place, worth, inputs, values = parts
        return Found(multipliers, np.concatenate([self.value, other.value]), loss, place, worth, [inputs], values)


def chords(net: Net, regions: Regions, objective: Objective) -> Multipliers:
    """Multipliers mu * slope, from the output backwards: DeepPoly's relaxation."""
    found: Multipliers = {}
    worth: dict[int, Any] = dict(objective.coefficients)
    for stage in reversed(net.stages):
        mu = worth.pop(stage.out, None)
        if mu is None:
            continue
        reach = regions.reach[stage.out]
        if isinstance(stage, Largest):
            box = regions.outputs(net, stage.source).take(stage.members)
            lam = _share(mu, box)
            found[stage.out] = lam
            worth[stage.source] = worth.get(stage.source, 0.0) + stage.back(lam)
            continue
        lam = mu
        if stage.stairs is not None:
            lam = mu * slope(stage.stairs, reach, mu)
            found[stage.out] = lam
        for index, matrix in net.matrices[stage.out]:
            part = matrix.backward(lam)
            worth[index] = worth[index] + part if index in worth else part
    return found


def _share(mu: NDArray[Any], box: Interval) -> NDArray[np.float64]:
    """mu for the member that is likely the largest, (rows, group size, n); from above only if it is that for certain.

    From above, another member's largest value bounds the group better: nothing for any member then.
    """
    first = (box.low + box.high).argmax(axis=1)[:, None]
    least = np.take_along_axis(box.low, first, axis=1)[:, 0]
    others = box.high.copy()
    np.put_along_axis(others, first, np.iinfo(np.int64).min >> 1, axis=1)
    given = np.where((mu > 0) | (least >= others.max(axis=1)), mu, 0.0)
    lam = np.zeros((len(mu), *box.low.shape[1:]))
    np.put_along_axis(lam, np.broadcast_to(first, given[:, None].shape), given[:, None], axis=1)
    return lam


def slope(stairs: Staircase, reach: Interval, mu: NDArray[Any]) -> NDArray[np.float64]:
    """The slope of a line that touches the staircase from below (mu > 0) or above: from its flat end to the other one.

    Where the flat part is the longer one the line lies on it: slope 0.
    """
    first, last = stairs.index(reach.low), stairs.index(reach.high)
    rise = stairs.values[last] - stairs.values[first]
    bend = np.where(mu > 0, np.minimum(stairs.ends[first], reach.high), np.maximum(stairs.starts[last], reach.low))
    run = np.where(mu > 0, reach.high - bend, bend - reach.low)
    steep = 2 * run >= reach.high - reach.low
    # an interval that is shorter than a step was narrowed for other reasons: its chord would be far too steep
    return np.asarray(steep * rise / np.maximum(run, stairs.usual))


def ascend(
    net: Net,
    regions: Regions,
    objective: Objective,
    start: Multipliers,
    steps: int,
    need: NDArray[np.float64],
    first_step: float = _FIRST_STEP,
    reference: Points | None = None,
) -> Found:
    """Supergradient ascent (Adam) on all rows at once; stops when every row promises what it needs.

    With a reference the multipliers are those of `kinked`.
    """
    regions = regions.floats()
    lam = {out: value.copy() for out, value in start.items()}
    size = {out: _size(value, net, regions, out) for out, value in lam.items()}
    mean = {out: np.zeros_like(value) for out, value in lam.items()}
    square = {out: np.zeros_like(value) for out, value in lam.items()}
    best = {out: value.copy() for out, value in lam.items()}
    top = np.full(len(objective.constant), -np.inf)
    gathered = _Averages()
    inputs: list[Points] = []
    for step in range(steps + 1):
        bound: Bound | Kinked
        if reference is None:
            bound = evaluate(net, regions, objective, lam)
            steep = supergradient(net, bound, lam)
            true = {out: bound.sums[out] + change for out, change in steep.items()}
        else:
            bound = kinked.evaluate(net, regions, objective, lam, reference)
            steep, true = kinked.supergradient(net, bound, reference)
        better = bound.value > top
        top = np.where(better, bound.value, top)
        for out, value in lam.items():
            best[out][better] = value[better]
        gathered.add(net, bound, true, late=step >= steps // 2)
        if step % 8 == 0:
            inputs.append({index: bound.values[index] for index in net.leaves if index in bound.values})
        if step == steps or (top >= need).all():
            break
        rate = first_step * (_LAST_STEP / first_step) ** (step / max(steps - 1, 1))
        for out, gradient in steep.items():
            scaled = gradient * size[out]
            mean[out] = _DECAY_ONE * mean[out] + (1 - _DECAY_ONE) * scaled
            square[out] = _DECAY_TWO * square[out] + (1 - _DECAY_TWO) * scaled**2
            corrected = mean[out] / (1 - _DECAY_ONE ** (step + 1))
            spread = np.sqrt(square[out] / (1 - _DECAY_TWO ** (step + 1))) + _TINY
            lam[out] = lam[out] + rate * size[out] * corrected / spread
            if reference is not None and out in true:
                lam[out] = kinked.ordered(lam[out])
    return Found(
        best, top, gathered.losses(net), gathered.sums, gathered.worth, [*inputs, gathered.leaves], gathered.values
    )


def _size(lam: NDArray[Any], net: Net, regions: Regions, out: int) -> NDArray[Any]:
    """A typical size of each multiplier: 0 where there is nothing to choose."""
    typical = np.abs(lam).mean(axis=tuple(range(1, lam.ndim)), keepdims=True)
    stage = next(s for s in net.stages if s.out == out)
    if isinstance(stage, Largest):
        return np.asarray(np.maximum(np.abs(lam), typical))
    assert stage.stairs is not None
    reach = regions.reach[out]
    moves = stage.stairs(reach.low) < stage.stairs(reach.high)
    if not stage.parts:  # of a shrunk network, where all could move: what stands still was cut, and that is worth a lot
        moves = reach.low < reach.high
    moves = moves if lam.ndim == 2 else moves[:, None]
    return np.where(moves, np.maximum(np.abs(lam), 0.3 * typical), 0.0)


def supergradient(net: Net, bound: Bound, lam: Multipliers) -> Points:
    """By how much the sums that the layer before gives differ from those that the staircases chose."""
    found: Points = {}
    for stage in net.stages:
        if stage.out not in bound.worth:
            continue
        if isinstance(stage, Largest):
            found[stage.out] = (bound.values[stage.source][:, stage.members] - bound.sums[stage.out]).astype(float)
            continue
        total = stage.bias.astype(np.float64)
        for index, matrix in net.matrices[stage.out]:
            total = total + matrix.forward(np.asarray(bound.values[index], np.float64))
        if stage.stairs is None:
            bound.values[stage.out] = total
        else:
            found[stage.out] = total - bound.sums[stage.out]
    return found


class _Averages:
    """Averages over the later half of a search: near the relaxation's own solution."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: Points = {}
        self.values: Points = {}
        self.worth: Points = {}
        self.leaves: Points = {}

    def add(self, net: Net, bound: Bound | Kinked, true: Points, late: bool) -> None:
        if late or self.count:
            self.count += 1
        weight = 1.0 if not self.count else 1.0 / self.count
        for index in net.leaves:
            if index in bound.values:
                at, old = np.asarray(bound.values[index], np.float64), self.leaves.get(index)
                self.leaves[index] = at if old is None else old + weight * (at - old)
        for stage in net.stages:
            if stage.out not in bound.sums or isinstance(stage, Largest):
                continue
            for kept, new in (
                (self.sums, true[stage.out]),
                (self.values, bound.values[stage.out]),
                (self.worth, bound.worth[stage.out]),
            ):
                old = kept.get(stage.out)
                kept[stage.out] = new.astype(np.float64) if old is None else old + weight * (new - old)

    def losses(self, net: Net) -> Points:
        """mu * (g at the average sums - average of g): what the hull gives away there."""
        loss: Points = {}
        for stage in net.stages:
            if isinstance(stage, Affine) and stage.stairs is not None and stage.out in self.sums:
                true = stage.stairs(np.maximum(np.rint(self.sums[stage.out]), stage.stairs.starts[0]).astype(np.int64))
                loss[stage.out] = self.worth[stage.out] * (true - self.values[stage.out])
        return loss
