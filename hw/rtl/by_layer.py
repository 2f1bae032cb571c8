"""A network too large to unroll whole: Verilog of one position of every operation, through which all positions go.

The program around it only moves numbers: it takes what a position sees out of the results before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hw.rtl.linear import windows
from hw.rtl.numbers import raw_inputs, real
from hw.rtl.simulator import Verilated
from hw.rtl.size import adders
from hw.rtl.translate import translate
from hw.rtl.verilog import Design, is_zero, make_design
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import (
    Alias,
    Binary,
    Gather,
    Input,
    Ints,
    Linear,
    Map,
    Network,
    Op,
    Pad,
    Pool,
    Value,
    sources,
)
from hw.simulate.bitsim.recipes import Param, Recipe
from qmodels.grid import Codes, InputGrid
from qmodels.victims import Logits

Places = NDArray[np.int64]
#: Numbers that one Verilator process is shown at most: 64 MB of them.
_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Piece:
    """One operation at one position.

    `takes` (positions, numbers): where each number lies in the operation's sources, one behind the other; negative: 0.
    `gives` (positions, results): where each result goes in `op.out`.
    `network`: what is computed; None: results are the numbers.
    """

    op: Op
    takes: Places
    gives: Places
    network: Network | None

    @property
    def adders(self) -> int:
        """About how many additions the circuit has."""
        return adders(self.network) if self.network is not None else 0


class ByLayer:
    """A network whose operations are simulated one after the other, each as Verilog of one position; a `Victim`."""

    name = "verilator, layer by layer"

    def __init__(self, network: Network, grid: InputGrid, top: str, stage_ns: float) -> None:
        self.network, self.grid, self.top, self.stage_ns = fuse(network), grid, top, stage_ns

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """What is done, in order."""
        return tuple(_piece(op) for op in self.network.ops if not isinstance(op, Input))

    @cached_property
    def designs(self) -> dict[int, Design]:
        """Verilog by the piece's number; one that only moves numbers has none, and one whose results are all 0.

        Raises:
            UserError: an operation or a number that alkaid cannot say; names the layer.
        """
        networks = {number: piece.network for number, piece in enumerate(self.pieces) if piece.network is not None}
        traced = {number: translate(network, network.outputs) for number, network in networks.items()}
        return {
            number: make_design(program, f"{self.top}_{number}", self.stage_ns)
            for number, program in traced.items()
            if not is_zero(program)
        }

    @cached_property
    def verilated(self) -> dict[int, Verilated]:
        """The designs, compiled by Verilator.

        Raises:
            ToolMissing: no Verilator or g++, or one of them fails.
        """
        return {number: Verilated(design) for number, design in self.designs.items()}

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid."""
        values, outputs = self._of(x), self.network.outputs
        return real(np.concatenate([values[value.index] for value in outputs], axis=1), outputs)

    def trace(self, x: Codes) -> dict[str, NDArray[np.float32]]:
        """Outputs (N, *shape) of the layers that are left when casts have moved into what makes their numbers."""
        values = self._of(x)
        seen = {name: value for name, value in self.network.traced.items() if value.size and value.index in values}
        return {name: real(values[v.index], (v,)).reshape(-1, *v.shape) for name, v in seen.items()}

    def _of(self, x: Codes) -> dict[int, Ints]:
        return self.run(raw_inputs(x, self.grid, self.network.inputs))

    def run(self, raw: Ints) -> dict[int, Ints]:
        """Raw integers (N, elements) of every value, by its index, from those (N, elements) of all inputs."""
        values: dict[int, Ints] = {}
        taken = 0
        for value in self.network.inputs:
            values[value.index], taken = raw[:, taken : taken + value.size], taken + value.size
        for number, piece in enumerate(self.pieces):
            given = np.concatenate([values[source.index] for source in sources(piece.op)], axis=1)
            out = values.get(piece.op.out.index, np.zeros((len(raw), piece.op.out.size), np.int64)).copy()
            step = max(1, _AT_ONCE // max(piece.takes.size, 1))
            for start in range(0, len(raw), step):
                part = slice(start, start + step)
                out[part, piece.gives.reshape(-1)] = self._results(number, given[part])
            values[piece.op.out.index] = out
        return values

    def _results(self, number: int, given: Ints) -> Ints:
        """What a piece makes of its sources' numbers (N, ...): results (N, positions x results)."""
        piece = self.pieces[number]
        seen = given[:, piece.takes]
        seen[:, piece.takes < 0] = 0
        if piece.network is None:
            return seen.reshape(len(seen), -1)
        if number not in self.verilated:
            return np.zeros((len(seen), piece.gives.size), np.int64)
        return self.verilated[number].run(seen.reshape(-1, piece.takes.shape[1])).reshape(len(seen), -1)


def _piece(op: Op) -> Piece:
    if isinstance(op, Pad):
        op = op.gather()
    if isinstance(op, Alias):
        return _moved(op, np.arange(op.out.size), np.arange(op.out.size))
    if isinstance(op, Gather):
        return _gathered(op)
    if isinstance(op, (Linear, Pool)) and _alike(op) and (isinstance(op, Linear) or _stays_inside(op)):
        return _at_one_position(op)
    if isinstance(op, (Map, Binary)) and _alike(op):
        return _at_one_pixel(op)
    return _whole(op)


def _moved(op: Op, takes: Places, gives: Places) -> Piece:
    return Piece(op, takes[:, None], gives[:, None], None)


def _gathered(op: Gather) -> Piece:
    """Number by number: a cast, where two formats meet in a concatenation, is the same for all."""
    takes, gives = op.from_.astype(np.int64), op.to.astype(np.int64)
    if not op.recipe.actions:
        return _moved(op, takes, gives)
    one, out = (Value(number, value.layer, (1,), value.format) for number, value in enumerate((op.source, op.out)))
    taken = takes >= 0
    piece = _computed(Map(op.source, op.out, op.recipe), (one,), out, takes[taken, None], gives[taken, None])
    return replace(piece, op=op)


def _computed(op: Op, inputs: tuple[Value, ...], out: Value, takes: Places, gives: Places) -> Piece:
    """A piece of the operation between other values."""
    names = ("one", "two") if isinstance(op, Binary) else ("source",)
    small: Op = replace(op, out=out, **dict(zip(names, inputs, strict=True)))  # type: ignore[arg-type]
    ops = (*(Input(value, number) for number, value in enumerate(inputs)), small)
    return Piece(op, takes, gives, Network(ops, inputs, (out,)))


def _whole(op: Op) -> Piece:
    """All positions at once."""
    inputs = tuple(replace(value, index=number) for number, value in enumerate(sources(op)))
    takes, gives = np.arange(sum(value.size for value in inputs)), np.arange(op.out.size)
    return _computed(op, inputs, replace(op.out, index=len(inputs)), takes[None], gives[None])


def _at_one_position(op: Linear | Pool) -> Piece:
    rows, columns, filters = op.out.image
    numbers, w = np.arange(op.source.size).astype(object).reshape(op.source.image), op.window
    takes = windows(numbers, w, rows, columns, -1).astype(np.int64).reshape(rows * columns, -1)
    source = Value(0, op.source.layer, (w.height, w.width, op.source.image[2]), op.source.format)
    out = Value(1, op.out.layer, (1, 1, filters), op.out.format)
    inside = replace(op, window=replace(w, pad_top=0, pad_left=0))
    piece = _computed(inside, (source,), out, takes, np.arange(op.out.size).reshape(rows * columns, filters))
    return replace(piece, op=op)


def _at_one_pixel(op: Map | Binary) -> Piece:
    channels, given = op.out.image[2], sources(op)
    inputs = tuple(Value(n, value.layer, (channels,), value.format) for n, value in enumerate(given))
    out = Value(len(given), op.out.layer, (channels,), op.out.format)
    places = np.arange(op.out.size).reshape(-1, channels)
    takes = np.concatenate([places + n * op.out.size for n in range(len(given))], axis=1)
    return _computed(op, inputs, out, takes, places)


def _alike(op: Linear | Pool | Map | Binary) -> bool:
    """Whether every pixel goes the same way: no parameters of elements, no divisor of the edge's own."""
    recipes = [op.recipe]
    if isinstance(op, Binary):
        recipes += [op.on_one, op.on_two]
    if isinstance(op, Pool):
        recipes += [op.on_input, op.on_sum, *op.divide]
    return all(_of_channels(recipe, (op.out.image[2] + 1) // 2) for recipe in recipes)


def _of_channels(recipe: Recipe, pairs: int) -> bool:
    """Whether parameters are those of a pixel's channels; nobody writes parameters into choices."""
    plain = recipe.uniform or all(isinstance(action, Param) or Recipe((action,)).uniform for action in recipe.actions)
    return plain and all(len(action.data) <= pairs for action in recipe.actions if isinstance(action, Param))


def _stays_inside(op: Pool) -> bool:
    """Whether no window looks beyond the image."""
    w, (rows, columns, _), (height, width, _) = op.window, op.out.image, op.source.image
    last = (rows - 1) * w.stride_y + w.height, (columns - 1) * w.stride_x + w.width
    return not w.pad_top and not w.pad_left and last[0] <= height and last[1] <= width
