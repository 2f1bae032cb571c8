"""Interval bounds at bitsim's own speed: a network of twice the channels, which bitsim compiles like any other.

Every value holds its lower ends and its upper ends beside each other. A linear layer becomes
[[W+, W-], [W-, W+]]; whatever never decreases (rounding, saturation, ReLU, largest values, sums) stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.bounds import propagate
from hw.certify.interval import Interval
from hw.certify.kept import Kept
from hw.certify.linear import exact, exact_sums, unchanged
from hw.certify.margins import Pairs, needed
from hw.certify.recipes import image
from hw.certify.stages import Affine
from hw.certify.staircase import Staircase
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.codes import Merge
from hw.simulate.bitsim.program import Alias, Binary, Input, Ints, Linear, Map, Network, Op, Pad, Pool, Value, Window
from hw.simulate.bitsim.recipes import Cast, Clamp, Recipe, recipe
from qmodels.formats import FixedPoint
from qmodels.grid import Codes, InputGrid
from qmodels.victims import Labels

_FLOAT_BITS = 24


@dataclass(frozen=True, eq=False)
class Doubled:
    """The doubled network, from the clean codes to lower bounds of every class's sum minus every other's.

    Args:
        simulator: of the doubled network; its outputs are the pairs' bounds.
        pairs: (classes, rivals) which output belongs to a class and each of its rivals.
        need: (classes, rivals) from where on the device decides for the class.
    """

    simulator: BitSim
    pairs: NDArray[np.int64]
    need: NDArray[np.float32]

    def certified(self, x: Codes, y: Labels, threads: int | None = None) -> NDArray[np.bool_]:
        """Which inputs (N, ...) of class y no input within the radius leads to another class."""
        found = self.simulator.predict(x, threads, fraction=self.simulator.grid.format.fraction)
        margins = np.take_along_axis(found, self.pairs[y], axis=1)
        return np.asarray((margins >= self.need[y]).all(axis=1))


class _NoChance(Exception):
    """An operation that goes down somewhere, or that needs more than twice the channels."""


def double(network: Network, grid: InputGrid, epsilon: int, kept: Kept | None = None) -> Doubled | None:
    """The doubled network of a fused classifier for one radius; None where an operation has no doubled form.

    Args:
        network: fused, with logits for outputs.
        grid: with the same bounds for all features, and none frozen.
        epsilon: L-infinity, in steps.
        kept: what earlier calls have computed of the network.
    """
    *ops, last = network.ops
    box = tuple(np.full((1, network.inputs[0].size), end, np.int64) for end in (grid.lower, grid.upper))
    kept = kept or Kept()
    bounds = propagate(network, [Interval(*box)], grid.format, kept)
    if not isinstance(last, Linear) or network.inputs[0].format.fraction != grid.format.fraction:
        return None
    builder = _Builder(bounds, kept)
    try:
        for op in ops:
            if isinstance(op, Input):
                builder.around(op, int(grid.lower), int(grid.upper), epsilon)
            else:
                builder.add(op)
        pairs = Pairs.of(np.arange(last.out.size), last.out.size)
        out, unit = builder.margins(last, pairs)
    except _NoChance:
        return None
    fresh = Network(tuple(builder.ops), network.inputs, (out,))
    simulator = BitSim(fresh)
    simulator.grid = grid
    reach = exact_sums(kept.sums(last), bounds[last.source.index])
    stage = Affine(last.out.index, (), np.zeros(0, np.int64), Staircase.of(last.recipe, last.out, *reach.span), reach)
    need = needed(stage, replace(pairs, image=np.zeros_like(pairs.image)))
    classes = last.out.size
    table = np.arange(len(pairs)).reshape(classes, classes - 1)
    return Doubled(simulator, table, (need[table] * unit).astype(np.float32))


class _Builder:
    def __init__(self, bounds: dict[int, Interval], kept: Kept) -> None:
        self.bounds, self.kept = bounds, kept
        self.values: dict[int, Value] = {}
        self.layout: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.ops: list[Op] = []

    def value(self, old: Value, layout: Any = None, number: int | None = None) -> Value:
        """Twice the channels: per pixel first the lower ends, then the upper ones, unless told otherwise."""
        fresh = replace(old, shape=(*old.shape[:-1], 2 * old.shape[-1]), index=old.index if number is None else number)
        channels = old.image[2]
        pixel, channel = np.divmod(np.arange(old.size), channels)
        first = pixel * 2 * channels + channel
        self.values[old.index] = fresh
        self.layout[old.index] = layout or (first, first + channels)
        return fresh

    def around(self, op: Input, lower: int, upper: int, epsilon: int) -> None:
        """Both ends of the box around every clean code: the code, `epsilon` less and more, within the bounds."""
        self.ops.append(op)
        out, width = self.value(op.out, number=self.count()), op.out.format.width + 8
        if epsilon >= 1 << width - 2:
            raise _NoChance
        sums = FixedPoint(width, width - op.out.format.fraction)
        one, channels = FixedPoint(2, 2), op.out.image[2]
        weights = np.concatenate([np.eye(channels, dtype=np.int64)] * 2)[:, None, None, :]
        bias = np.repeat([-epsilon, epsilon], channels)
        kept = recipe(Cast(sums, sums, "box"), Clamp(lower, upper), Cast(sums, op.out.format, "box"))
        self.ops.append(Linear(op.out, out, Window(), weights, one, bias, sums, kept, "box"))

    def count(self) -> int:
        """A number that no value of the network has."""
        return max(self.bounds) + 1

    def margins(self, last: Linear, pairs: Pairs) -> tuple[Value, float]:
        """Lower bounds of the pairs' differences as outputs, and what one raw step of them is worth."""
        sums, what = self.kept.sums(last), self.bounds[last.source.index]
        if last.depthwise or last.source.image[:2] != (1, 1) or not exact(sums, what):
            raise _NoChance
        reach = exact_sums(sums, what)
        if not unchanged(sums, reach) or 2 * sums.largest(max(abs(end) for end in what.span)) >= 1 << _FLOAT_BITS:
            raise _NoChance
        self._monotone(last.recipe, last.out, reach)
        rows = sums.weights[pairs.right] - sums.weights[pairs.rival]
        bias = last.bias[pairs.right] - last.bias[pairs.rival]
        low, high = self.layout[last.source.index]
        weights: Ints = np.zeros((len(pairs), 1, 1, 2 * last.source.size), np.int64)
        weights[:, 0, 0, low], weights[:, 0, 0, high] = np.maximum(rows, 0), np.minimum(rows, 0)
        wide = FixedPoint(32, 32 - last.accumulator.fraction)
        out = Value(self.count() + 1, "margins", (len(pairs),), wide)
        fmt = last.weight_format._replace(width=last.weight_format.width + 1, integer=last.weight_format.integer + 1)
        kept = recipe(Cast(wide, wide, "margins"))
        source = self.values[last.source.index]
        self.ops.append(Linear(source, out, Window(), weights, fmt, bias, wide, kept, "margins"))
        return out, wide.lsb

    def add(self, op: Op) -> None:
        """The doubled form of one operation."""
        if isinstance(op, Linear):
            self.ops.append(self._linear(op))
        elif isinstance(op, Alias):
            self.ops.append(Alias(self.values[op.source.index], self.value(op.out, self.layout[op.source.index])))
        elif isinstance(op, Map):
            self._monotone(op.recipe, op.out, self.bounds[op.source.index])
            layout = self.layout[op.source.index]
            self.ops.append(replace(op, source=self.values[op.source.index], out=self.value(op.out, layout)))
        elif isinstance(op, Pool) and op.maximum and not op.on_input.actions:
            self._plain(op.source)
            self._monotone(op.recipe, op.out, self.bounds[op.source.index])
            self.ops.append(replace(op, source=self.values[op.source.index], out=self.value(op.out)))
        elif isinstance(op, Pad):
            self._plain(op.source)
            self.ops.append(replace(op, source=self.values[op.source.index], out=self.value(op.out)))
        elif isinstance(op, Binary) and op.merge is Merge.ADD:
            self._plain(op.one, op.two)
            ends = []
            for part, read in ((op.on_one, op.one), (op.on_two, op.two)):
                self._monotone(part, op.out, self.bounds[read.index])
                ends.append(image(part, self.bounds[read.index], op.out))
            self._monotone(op.recipe, op.out, Interval(ends[0].low + ends[1].low, ends[0].high + ends[1].high))
            one, two = self.values[op.one.index], self.values[op.two.index]
            self.ops.append(replace(op, one=one, two=two, out=self.value(op.out)))
        else:
            raise _NoChance

    def _linear(self, op: Linear) -> Linear:
        sums, what = self.kept.sums(op), self.bounds[op.source.index]
        if op.depthwise or not exact(sums, what):
            raise _NoChance
        reach = exact_sums(sums, what)
        if not unchanged(sums, reach):
            raise _NoChance
        self._monotone(op.recipe, op.out, reach)
        up, down = np.maximum(op.weights, 0), np.minimum(op.weights, 0)
        filters, rows, columns, channels = op.weights.shape
        low, high = self.layout[op.source.index]
        if op.source.image[:2] == (1, 1):
            weights: Ints = np.zeros((2 * filters, rows, columns, 2 * channels), np.int64)
            weights[:filters, ..., low], weights[:filters, ..., high] = up, down
            weights[filters:, ..., low], weights[filters:, ..., high] = down, up
        else:
            self._plain(op.source)
            halves = [np.concatenate(pair, axis=3) for pair in ((up, down), (down, up))]
            weights = np.concatenate(halves)
        source, bias = self.values[op.source.index], np.tile(op.bias, 2)
        return replace(op, source=source, out=self.value(op.out), weights=weights, bias=bias, order=None)

    def _plain(self, *read: Value) -> None:
        """Lower ends before upper ones in every pixel, as convolutions and pooling see channels."""
        for old in read:
            channels = old.image[2]
            if not np.array_equal(self.layout[old.index][1], self.layout[old.index][0] + channels):
                raise _NoChance

    @staticmethod
    def _monotone(recipe: Recipe, value: Value, reach: Interval) -> None:
        if recipe.actions and Staircase.of(recipe, value, *reach.span) is None:
            raise _NoChance
