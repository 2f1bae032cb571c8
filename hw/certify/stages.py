"""The network as stages that can be reasoned about backwards: integer matrices, staircases, and largest of groups.

What fits no stage is a *leaf*: only its interval is known. So are the values that the input box bounds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.certify.bounds import Bounds, step, windows_of
from hw.certify.budget import Budget, scale_of
from hw.certify.interval import Integers, Interval, cast
from hw.certify.kept import Kept
from hw.certify.linear import exact, exact_sums, unchanged
from hw.certify.recipes import image
from hw.certify.staircase import Staircase
from hw.simulate.bitsim.codes import Merge
from hw.simulate.bitsim.program import Alias, Binary, Gather, Input, Linear, Map, Network, Op, Pad, Pool, sources
from hw.simulate.bitsim.recipes import ShiftLeft
from qmodels.formats import FixedPoint

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, eq=False)
class Affine:
    """out = g(matrix @ source + bias), summed over its sources; without `stairs` the sums themselves.

    `reach` (N, n): bounds of the sums, of every box.
    """

    out: int
    parts: tuple[tuple[int, csr_matrix], ...]
    bias: Integers
    stairs: Staircase | None
    reach: Interval


@dataclass(frozen=True, eq=False)
class Largest:
    """out[i] = the largest of source[members[:, i]]."""

    out: int
    source: int
    members: Any  # (group size, outputs)
    inputs: int  # elements of the source
    reach: Interval

    def back(self, worth: Any) -> Any:
        """What the source's elements are worth (rows, inputs), from what groups' members are (rows, group size, n)."""
        found = np.zeros((len(worth), self.inputs), worth.dtype)
        where: Any = (slice(None), self.members)
        np.add.at(found, where, worth)
        return found


Stage = Affine | Largest


@dataclass(frozen=True, eq=False)
class Stages:
    """Stages in order; every value that a stage reads is made by an earlier one, or is a leaf.

    `leaves`: bounds (N, n) by value. `output`: the network's.
    """

    stages: tuple[Stage, ...]
    leaves: Bounds
    output: int
    bounds: Bounds  # intervals of every value
    origin: dict[int, Any]  # by leaf: the input's element that each of its elements comes from, or -1

    @property
    def last(self) -> Affine | None:
        """The stage that makes the output; None where only its interval is known."""
        found = self.stages[-1] if self.stages else None
        return found if isinstance(found, Affine) and found.out == self.output else None

    def take(self, rows: Any) -> Stages:
        """The same of some of the boxes."""
        pick = {index: Interval(b.low[rows], b.high[rows]) for index, b in self.bounds.items()}
        stages = tuple(replace(s, reach=Interval(s.reach.low[rows], s.reach.high[rows])) for s in self.stages)
        return Stages(stages, {index: pick[index] for index in self.leaves}, self.output, pick, self.origin)


def stages_of(
    network: Network, box: Interval, codes: FixedPoint, kept: Kept | None = None, budget: Budget | None = None
) -> Stages:
    """The stages of a fused network for boxes of codes (N, elements), with interval bounds of everything.

    Stages that hold for these boxes may not hold for larger ones: a sum that cannot wrap here may there. A budget of
    changes narrows the sums of layers that read the input's codes.
    """
    bounds: Bounds = {}
    kept = kept or Kept()
    stages: list[Stage] = []
    #: Values whose every element depends on one element of the input, which it names: boxes are exact.
    origin: dict[int, Any] = {}
    scales: dict[int, int] = {}  # of values that are so many times the codes they come from
    for op in network.ops:
        if budget is not None and (scale := scale_of(op, codes, scales)) is not None:
            scales[op.out.index] = scale
        if isinstance(op, Input):
            bounds[op.out.index] = cast(box, codes, op.out.format)
            origin[op.out.index] = np.arange(op.out.size)
            continue
        alone = _only(op, origin)
        made = None if alone else _stage(op, bounds, kept)
        if made is None:
            bounds[op.out.index] = step(op, bounds, kept)
            if alone:
                origin[op.out.index] = _origin(op, origin)
            continue
        inner, outer = made
        if (
            budget is not None
            and isinstance(op, Linear)
            and (which := op.source.index) in origin.keys() & scales.keys()
        ):
            narrow = budget.closer(kept.sums(op), outer.reach, bounds[which], origin[which], scales[which])
            outer = replace(outer, reach=narrow)
        stages += [*inner, outer]
        for stage in made[0]:
            bounds[stage.out] = _result(stage)
        bounds[outer.out] = _result(outer)
    output = network.outputs[0].index
    needed = _needed(stages, output)
    used = tuple(s for s in stages if s.out in needed)
    ours = {s.out for s in used}
    read = {index for s in used for index in reads(s)} | {output}
    leaves = {i: bounds[i] for i in read - ours}
    return Stages(used, leaves, output, {i: bounds[i] for i in read | ours}, {i: origin.get(i) for i in leaves})


def reads(stage: Stage) -> tuple[int, ...]:
    """The values that a stage reads."""
    return (stage.source,) if isinstance(stage, Largest) else tuple(index for index, _ in stage.parts)


def _needed(stages: list[Stage], output: int) -> set[int]:
    needed = {output}
    for s in reversed(stages):
        if s.out in needed:
            needed |= set(reads(s))
    return needed


def _result(stage: Stage) -> Interval:
    if isinstance(stage, Largest) or stage.stairs is None:
        return stage.reach
    return stage.stairs.image(stage.reach)


def _origin(op: Op, origin: dict[int, Any]) -> Any:
    before = origin[sources(op)[0].index]
    if not isinstance(op, (Gather, Pad)):
        return before
    moved = op if isinstance(op, Gather) else op.gather()
    after = np.full(op.out.size, -1)
    after[moved.to] = np.where(moved.from_ >= 0, before[moved.from_], -1)
    return after


def _only(op: Op, plain: dict[int, Any]) -> bool:
    """Element by element from the input, so that its box is all that can be said of it, and is exact."""
    moves = isinstance(op, (Map, Alias, Pad)) or (isinstance(op, Gather) and _once(op))
    return moves and all(value.index in plain for value in sources(op))


def _once(op: Gather) -> bool:
    """Every element goes to one place at most, and nothing else goes into its value."""
    moved = op.from_[op.from_ >= 0]
    return len(np.unique(moved)) == len(moved) and len(op.to) == op.out.size


_Made = tuple[list[Stage], Stage]


def _stage(op: Op, bounds: Bounds, kept: Kept) -> _Made | None:
    if any(bounds[value.index].low.dtype == object for value in sources(op)):
        return None
    if isinstance(op, Linear):
        return _linear(op, bounds, kept)
    if isinstance(op, Map):
        reach = bounds[op.source.index]
        stairs = kept.stairs(op, op.recipe, reach)
        return (
            None if stairs is None else ([], _moved(op.out.index, op.source.index, _one(op.source.size), stairs, reach))
        )
    if isinstance(op, Alias):
        return [], _moved(op.out.index, op.source.index, _one(op.source.size), None, bounds[op.source.index])
    if isinstance(op, (Gather, Pad)):
        return _gather(op if isinstance(op, Gather) else op.gather(), bounds, kept)
    if isinstance(op, Binary):
        return _binary(op, bounds, kept)
    return _pool(op, bounds, kept) if isinstance(op, Pool) else None


def _one(size: int) -> csr_matrix:
    from scipy.sparse import csr_matrix, identity

    return csr_matrix(identity(size, np.int64, format="csr"))


def _moved(out: int, source: int, matrix: csr_matrix, stairs: Staircase | None, reach: Interval) -> Affine:
    return Affine(out, ((source, matrix),), np.zeros(matrix.shape[0], np.int64), stairs, reach)


def _linear(op: Linear, bounds: Bounds, kept: Kept) -> _Made | None:
    sums, what = kept.sums(op), bounds[op.source.index]
    if not exact(sums, what):
        return None
    reach = exact_sums(sums, what)
    if not unchanged(sums, reach):
        return None
    stairs = kept.stairs(op, op.recipe, reach)
    if stairs is None:
        return None
    return [], Affine(op.out.index, ((op.source.index, sums.matrix),), sums.bias, stairs, reach)


def _gather(op: Gather, bounds: Bounds, kept: Kept) -> _Made | None:
    if op.out.index in bounds or len(op.to) < op.out.size or op.recipe.actions:  # a concatenation's part, or a cast
        return None
    from scipy.sparse import csr_matrix

    seen = op.from_ >= 0
    shape = (op.out.size, op.source.size)
    matrix = csr_matrix((np.ones(seen.sum(), np.int64), (op.to[seen], op.from_[seen])), shape=shape)
    reach = step(op, bounds, kept)
    return [], _moved(op.out.index, op.source.index, matrix, None, reach)


def _binary(op: Binary, bounds: Bounds, kept: Kept) -> _Made | None:
    shifts = [sum(a.bits for a in part.actions if isinstance(a, ShiftLeft)) for part in (op.on_one, op.on_two)]
    plain = all(isinstance(a, ShiftLeft) for part in (op.on_one, op.on_two) for a in part.actions)
    if not plain or op.merge not in (Merge.ADD, Merge.SUBTRACT) or op.one.index == op.two.index:
        return None
    signs = (1, 1 if op.merge is Merge.ADD else -1)
    parts = tuple(
        (value.index, _one(value.size) * (sign << shift))
        for value, sign, shift in zip((op.one, op.two), signs, shifts, strict=True)
    )
    one, two = (bounds[i].times(int(m[0, 0])) for i, m in parts)
    reach = Interval(one.low + two.low, one.high + two.high)
    stairs = kept.stairs(op, op.recipe, reach)
    return None if stairs is None else ([], Affine(op.out.index, parts, np.zeros(op.out.size, np.int64), stairs, reach))


def _pool(op: Pool, bounds: Bounds, kept: Kept) -> _Made | None:
    members, inside = windows_of(op)
    if op.maximum:
        if op.on_input.actions or (members == op.source.size).any():
            return None
        source = bounds[op.source.index]
        reach = Interval(source.low[:, members].max(axis=1), source.high[:, members].max(axis=1))
        stairs = kept.stairs(op, op.recipe, reach)
        if stairs is None:
            return None
        if stairs.identity:
            return [], Largest(op.out.index, op.source.index, members, op.source.size, reach)
        between = -1 - op.out.index  # no value of the network has it
        first = Largest(between, op.source.index, members, op.source.size, reach)
        return [first], _moved(op.out.index, between, _one(op.out.size), stairs, reach)
    return _average(op, bounds, members, kept) if (inside == len(members)).all() else None


def _average(op: Pool, bounds: Bounds, members: Any, kept: Kept) -> _Made | None:
    """Sums that nothing rounds or saturates on the way; the division and the rest are the staircase."""
    from scipy.sparse import csr_matrix

    source = bounds[op.source.index]
    if len(op.divide) != 1 or any(isinstance(a, ShiftLeft) and a.bits for a in op.on_sum.actions):
        return None
    grown = Staircase.of(op.on_input, op.out, *source.span)
    if grown is None or len(np.unique(np.diff(grown.values))) > 1 or (grown.widths != 1).any():
        return None
    scale = int(grown.values[1] - grown.values[0]) if len(grown.values) > 1 else 1
    offset = int(grown.values[0]) - scale * int(grown.starts[0])
    size, outputs = members.shape
    matrix = csr_matrix(
        (np.full(members.size, scale, np.int64), (np.tile(np.arange(outputs), size), members.reshape(-1))),
        shape=(outputs, op.source.size),
    )
    scaled = source.times(scale)
    reach = Interval(*(end[:, members].sum(axis=1) + size * offset for end in scaled))
    partial = Interval(
        np.minimum(reach.low, 0) + size * np.minimum(scaled.low.min(), 0),
        np.maximum(reach.high, 0) + size * np.maximum(scaled.high.max(), 0),
    )
    summed = image(op.on_sum, partial, op.out)
    if (summed.low != partial.low).any() or (summed.high != partial.high).any():
        return None
    stairs = kept.stairs(op, op.divide[0] + op.recipe, reach)
    bias = np.full(outputs, size * offset, np.int64)
    return None if stairs is None else ([], Affine(op.out.index, ((op.source.index, matrix),), bias, stairs, reach))
