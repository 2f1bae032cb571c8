"""A network as the numbers and arrays that kernels/bitsim.cpp reads, with its memory laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.bitsim.plan import LinearPlan, Path, channel_pairs, plan_linear, product_format, start_recipe
from hw.bitsim.program import (
    Alias,
    Binary,
    Gather,
    Input,
    Ints,
    Linear,
    Map,
    Merge,
    Network,
    Pad,
    Pool,
    Softmax,
    Value,
    sources,
)
from hw.bitsim.recipes import (
    OVERFLOW_CODE,
    ROUND_CODE,
    ROUND_MODES,
    Cast,
    Compiler,
    Counter,
    Recipe,
    ShiftLeft,
    StepCode,
    compile_recipe,
    recipe,
    round_shift,
)
from qmodels.errors import UserError
from qmodels.formats import FixedPoint


class Kernel(IntEnum):
    """Numbered as in kernels/bitsim.cpp."""

    INPUT = 0
    OUTPUT = 1
    FAST_LINEAR = 2
    EXACT_LINEAR = 3
    MAP = 4
    BINARY = 5
    POOL = 6
    FAST_MAX_POOL = 7
    GATHER = 8
    SOFTMAX = 9
    FAST_ADD = 10


class Storage(IntEnum):
    """Element types, numbered as in kernels/core.h."""

    U8 = 0
    I16 = 1
    I32 = 2
    I64 = 3
    U64 = 4


_SIZES = {Storage.U8: 1, Storage.I16: 2, Storage.I32: 4, Storage.I64: 8, Storage.U64: 8}
_WORDS = ((1, 31), (2, 63), (3, 126))  # code of the word (kernels/core.h: Word), bits of magnitude


def storage_for(low: int, high: int) -> Storage:
    """The smallest element type that holds every integer of [low, high]."""
    if low >= 0 and high <= 255:
        return Storage.U8
    for kind, bits in ((Storage.I16, 15), (Storage.I32, 31), (Storage.I64, 63)):
        if low >= -(1 << bits) and high < 1 << bits:
            return kind
    if low >= 0 and high < 1 << 64:
        return Storage.U64
    raise UserError(f"numbers {low}..{high} take more than 64 bits: bitsim stops there, csim does not (--engine csim)")


def word_for(*peaks: int) -> int:
    """The machine word whose arithmetic holds the magnitudes."""
    bits = max(peaks).bit_length()
    for code, capacity in _WORDS:
        if bits <= capacity:
            return code
    raise UserError(
        "an intermediate result takes more than 126 bits: bitsim stops there, csim does not (--engine csim)"
    )


@dataclass
class Slot:
    """A value in the arena: its element type, the border around it, and where it lies."""

    value: Value
    low: int
    high: int
    storage: Storage
    pads: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # top, left, bottom, right
    offset: int = -1
    bytes: int = 0
    alias_of: int | None = None
    last_use: int = 0

    def size(self, lanes: int) -> int:
        """Bytes for one block of samples."""
        height, width, channels = self.value.image
        top, left, bottom, right = self.pads
        rows = (top + height + bottom) * (left + width + right) * ((channels + 1) // 2)
        return rows * lanes * 2 * _SIZES[self.storage]


@dataclass(frozen=True)
class Encoded:
    """What `bitsim_create` takes; `blobs` must outlive the program."""

    code: NDArray[np.int64]
    blobs: tuple[NDArray[Any], ...]
    counters: tuple[Counter, ...]
    paths: dict[str, str]


class Encoder:
    """Walks a network once, keeping the interval of every value."""

    def __init__(self, network: Network, lanes: int, counting: bool = False, bytes_in: bool = False) -> None:
        self.network, self.lanes, self.counting, self.bytes_in = network, lanes, counting, bytes_in
        self.slots: dict[int, Slot] = {}
        self.words: list[int] = []
        self.blobs: list[NDArray[Any]] = []
        self.counters: dict[Counter, int] = {}
        self.paths: dict[str, str] = {}
        self.n_ops = 0
        self.widen: frozenset[int] = frozenset()
        self.plans: dict[int, LinearPlan] = {}

    # -- numbers

    def blob(self, array: NDArray[Any] | None) -> int:
        """Index of an array the kernels will read."""
        if array is None:
            return -1
        self.blobs.append(np.ascontiguousarray(array))
        return len(self.blobs) - 1

    def wide(self, value: int) -> list[int]:
        """A 128-bit constant as two words."""
        low = value & ((1 << 64) - 1)
        return [low - (1 << 64) if low >> 63 else low, value >> 64]

    def counter(self, counter: Counter | None) -> int:
        """Index of a counter, or -1 when nothing is counted."""
        if counter is None or not self.counting:
            return -1
        return self.counters.setdefault(counter, len(self.counters))

    def steps(self, compiled: Compiler | None) -> list[int]:
        """The encoding that Steps::read takes."""
        if compiled is None:
            return [0]
        out = [len(compiled.steps)]
        for s in compiled.steps:
            data = self.blob(None if s.data is None else s.data.astype(np.int64))
            out += [int(s.code), s.n, s.mode, self.counter(s.counter), *self.wide(s.a), *self.wide(s.b)]
            out += [data, s.period, s.source_width, int(s.source_signed), s.width]
        return out

    def emit(self, kernel: Kernel, *numbers: int) -> None:
        """One operation."""
        self.words += [int(kernel), *numbers]
        self.n_ops += 1

    # -- values

    def slot(self, value: Value) -> Slot:
        """The slot of a value made earlier."""
        return self.slots[value.index]

    def root(self, slot: Slot) -> Slot:
        """The slot whose memory this one shows."""
        while slot.alias_of is not None:
            slot = self.slots[slot.alias_of]
        return slot

    def make(self, value: Value, low: int, high: int) -> int:
        """A slot for a new value; returns its number."""
        low, high = max(low, value.format.raw_min), min(high, value.format.raw_max)
        if value.index not in self.slots:
            storage = storage_for(low, high)
            if storage is Storage.U8 and value.index in self.widen:
                storage = Storage.I16
            self.slots[value.index] = Slot(value, low, high, storage)
        return value.index

    def read(self, value: Value) -> int:
        """A value's number."""
        return value.index

    # -- operations

    def input(self, op: Input) -> None:
        """The user's array."""
        f = op.out.format
        low, high = f.raw_min, f.raw_max
        if self.bytes_in and may_be_bytes(f):
            low, high = 0, 255
        out = self.make(op.out, low, high)
        # the bounds that a block of samples must keep to; the machine for all numbers takes the blocks that do not
        self.emit(
            Kernel.INPUT,
            out,
            op.which,
            *self.wide(low),
            *self.wide(high),
            f.width,
            f.fraction,
            int(f.signed),
            ROUND_CODE[f.rounding],
            OVERFLOW_CODE[f.overflow],
        )

    def linear(self, op: Linear) -> None:
        """Dense, convolution, depthwise convolution."""
        source = self.slot(op.source)
        plan = self.plan(op)
        self.paths[op.layer] = plan.path.name.lower()
        if plan.path is Path.EXACT:
            self.exact_linear(op, plan, source)
            return
        compiled = compile_recipe(start_recipe(op, plan, op.layer), plan.low, plan.high)
        out = self.make(op.out, compiled.low, compiled.high)
        weights, bias = pack_weights(plan)
        w = op.window
        lane = 16 if plan.path is Path.INT8 else 32
        finish = finish_numbers(compiled, self.slots[out].storage, lane, plan.low, plan.high)
        if plan.path is Path.INT8_CHUNKED:
            finish[0] = 0
        self.emit(
            Kernel.FAST_LINEAR,
            self.read(op.source),
            out,
            w.height,
            w.width,
            w.stride_y,
            w.stride_x,
            w.pad_top,
            w.pad_left,
            len(bias),
            int(plan.path),
            plan.chunk,
            word_for(compiled.peak),
            self.blob(weights),
            self.blob(bias),
            *finish,
            *self.steps(compiled),
        )

    def plan(self, op: Linear) -> LinearPlan:
        """How this layer is computed."""
        source = self.slot(op.source)
        if self.counting:
            return LinearPlan(Path.EXACT, op.weights, op.bias, op.accumulator, 0, 0)
        plan = plan_linear(op, source.low, source.high, source.storage is Storage.U8)
        self.plans[op.out.index] = plan
        return plan

    def exact_linear(self, op: Linear, plan: LinearPlan, source: Slot) -> None:
        """Every cast where csim has it."""
        accumulator = plan.accumulator
        layer = op.layer
        taps, parity, weights = window_taps(op, plan.weights, source)
        low, high = min(source.low, 0), max(source.high, 0)
        extremes = [int(w) * x for w in (weights.min(), weights.max()) for x in (low, high)]
        if (plan.low, plan.high) != (0, 0):  # proved: no cast before the last product
            on_product, on_sum = None, None
            compiled = compile_recipe(start_recipe(op, plan, layer), plan.low, plan.high)
            peak = max(compiled.peak, *map(abs, extremes))
        else:
            on_product = compile_recipe(
                recipe(Cast(product_format(op), accumulator, layer, "accumulator")), min(extremes), max(extremes)
            )
            least = accumulator.raw_min + on_product.low
            most = accumulator.raw_max + on_product.high
            on_sum = compile_recipe(recipe(Cast(accumulator, accumulator, layer, "accumulator")), least, most)
            compiled = compile_recipe(op.recipe, accumulator.raw_min, accumulator.raw_max)
            peak = max(compiled.peak, on_product.peak, on_sum.peak)
        out = self.make(op.out, compiled.low, compiled.high)
        w = op.window
        self.emit(
            Kernel.EXACT_LINEAR,
            self.read(op.source),
            out,
            w.stride_y,
            w.stride_x,
            w.pad_top,
            w.pad_left,
            len(weights),
            weights.shape[1],
            word_for(peak),
            int(op.depthwise),
            self.blob(taps),
            self.blob(parity),
            self.blob(weights),
            self.blob(plan.bias),
            *self.steps(on_product),
            *self.steps(on_sum),
            *self.steps(compiled),
        )

    def map(self, op: Map) -> None:
        """Element by element."""
        source = self.slot(op.source)
        compiled = compile_recipe(op.recipe, source.low, source.high)
        out = self.make(op.out, compiled.low, compiled.high)
        self.emit(Kernel.MAP, self.read(op.source), out, word_for(compiled.peak), *self.steps(compiled))

    def binary(self, op: Binary) -> None:
        """Two values."""
        one, two = self.slot(op.one), self.slot(op.two)
        first = compile_recipe(op.on_one, one.low, one.high)
        second = compile_recipe(op.on_two, two.low, two.high)
        low, high = merge_interval(op.merge, first, second)
        compiled = compile_recipe(op.recipe, low, high)
        out = self.make(op.out, compiled.low, compiled.high)
        fast = None if op.merge is not Merge.ADD or self.counting else self._fast_add(op, first, second, compiled)
        if fast is not None:
            self.emit(Kernel.FAST_ADD, self.read(op.one), self.read(op.two), out, *fast)
            return
        self.emit(
            Kernel.BINARY,
            self.read(op.one),
            self.read(op.two),
            out,
            word_for(compiled.peak, first.peak, second.peak),
            int(op.merge),
            *self.steps(first),
            *self.steps(second),
            *self.steps(compiled),
        )

    def _fast_add(self, op: Binary, first: Compiler, second: Compiler, compiled: Compiler) -> list[int] | None:
        """[lane bits, shift one, shift two, finish...] when a residual addition is shifts, a round and a clamp."""
        narrow = (Storage.U8, Storage.I16)
        if any(self.slot(value).storage not in narrow for value in (op.one, op.two, op.out)):
            return None
        shifts = []
        for part in (first, second):
            if any(step.code is not StepCode.SHL for step in part.steps) or len(part.steps) > 1:
                return None
            shifts.append(part.steps[0].n if part.steps else 0)
        lane = 16 if max(first.peak, second.peak, compiled.peak) < 1 << 15 else 32
        low, high = merge_interval(op.merge, first, second)
        finish = finish_numbers(compiled, self.slot(op.out).storage, lane, low, high)
        return [lane, *shifts, *finish] if finish[0] else None

    def pool(self, op: Pool) -> None:
        """Windows."""
        source, w = self.slot(op.source), op.window
        low, high = source.low, source.high
        padded = not self._window_inside(op)
        if padded:
            low, high = min(low, op.pad_value), max(high, op.pad_value)
        first = compile_recipe(op.on_input, low, high)
        if op.maximum:
            sums, low, high = None, first.low, first.high
        else:
            sums = self._pool_sums(op, first)
            low, high = self._average_bounds(op, first, sums)
        divided = [compile_recipe(what, low, high) for what in op.divide]
        after = (min(d.low for d in divided), max(d.high for d in divided)) if divided else (low, high)
        compiled = compile_recipe(op.recipe, *after)
        out = self.make(op.out, compiled.low, compiled.high)
        if (
            op.maximum
            and not padded
            and not first.steps
            and not compiled.steps
            and source.storage in (Storage.U8, Storage.I16)
            and self.slots[out].storage == source.storage
        ):
            self.emit(Kernel.FAST_MAX_POOL, self.read(op.source), out, w.height, w.width, w.stride_y, w.stride_x)
            return
        peaks = [first.peak, compiled.peak, *(d.peak for d in divided), *([sums.peak] if sums else [])]
        numbers = [
            self.read(op.source),
            out,
            word_for(*peaks),
            w.height,
            w.width,
            w.stride_y,
            w.stride_x,
            w.pad_top,
            w.pad_left,
            int(op.maximum),
            int(op.tree),
            1,
            *self.wide(op.pad_value),
        ]
        numbers += [*self.steps(first), *self.steps(sums), len(divided)]
        for d in divided:
            numbers += self.steps(d)
        self.emit(Kernel.POOL, *numbers, *self.steps(compiled))

    def _pool_sums(self, op: Pool, first: Compiler) -> Compiler:
        """The steps after every addition."""
        low, high = accumulated(op)
        if op.tree:
            return compile_recipe(op.on_sum, 2 * low, 2 * high)
        return compile_recipe(op.on_sum, low + min(first.low, 0), high + max(first.high, 0))

    def _average_bounds(self, op: Pool, first: Compiler, sums: Compiler) -> tuple[int, int]:
        count = op.window.height * op.window.width
        low, high = min(count * first.low, 0), max(count * first.high, 0)
        fits = accumulated(op)
        return (low, high) if fits[0] <= low and high <= fits[1] else (sums.low, sums.high)

    def _window_inside(self, op: Pool) -> bool:
        height, width, _ = op.source.image
        rows, columns, _ = op.out.image
        w = op.window
        return (
            (w.pad_top, w.pad_left) == (0, 0)
            and (rows - 1) * w.stride_y + w.height <= height
            and (columns - 1) * w.stride_x + w.width <= width
        )

    def gather(self, op: Gather) -> None:
        """Moves."""
        source = self.slot(op.source)
        compiled = compile_recipe(op.recipe, source.low, source.high)
        f = op.out.format
        out = self.make(op.out, f.raw_min, f.raw_max)
        self.emit(
            Kernel.GATHER,
            self.read(op.source),
            out,
            word_for(compiled.peak),
            len(op.to),
            self.blob(op.from_.astype(np.int32)),
            self.blob(op.to.astype(np.int32)),
            *self.steps(compiled),
        )

    def pad(self, op: Pad) -> None:
        """Zeros around."""
        self.gather(op.gather())

    def alias(self, op: Alias) -> None:
        """Another shape: free when the layout is the same, a move otherwise."""
        source = self.slot(op.source)
        same_pixels = op.source.image[:2] == op.out.image[:2] or (
            op.source.image[2] % 2 == 0 and op.out.image[2] % 2 == 0
        )
        if same_pixels and not any(self._pads_needed(op.source)) and not any(self._pads_needed(op.out)):
            self.slots[op.out.index] = Slot(op.out, source.low, source.high, source.storage, alias_of=op.source.index)
            return
        everything = np.arange(op.source.size, dtype=np.int32)
        compiled = compile_recipe(Recipe(), source.low, source.high)
        out = self.make(op.out, source.low, source.high)
        self.emit(
            Kernel.GATHER,
            self.read(op.source),
            out,
            word_for(compiled.peak),
            len(everything),
            self.blob(everything),
            self.blob(everything),
            *self.steps(compiled),
        )

    def softmax(self, op: Softmax) -> None:
        """Softmax over the last axis."""
        source = self.slot(op.source)
        if op.kind == 1:
            spread = compile_recipe(op.on_difference, 0, source.high - source.low)
        else:
            gap = source.high - source.low
            spread = compile_recipe(Recipe(), *((-gap, gap) if op.kind == 2 else (source.low, source.high)))
        index = compile_recipe(op.to_index, spread.low, spread.high)
        sums = compile_recipe(op.on_sum, *op.sum_range)
        inverse = compile_recipe(op.to_inverse_index, sums.low, sums.high)
        exponent = (int(op.exp_table.min()), int(op.exp_table.max()))
        inverted = (int(op.inverse_table.min()), int(op.inverse_table.max()))
        if op.kind == 3:
            results = (0, 1)
        elif op.kind == 2:
            results = inverted
        else:
            ends = [a * b for a in exponent for b in inverted]
            results = (min(ends), max(ends))
        compiled = compile_recipe(op.recipe, *results)
        out = self.make(op.out, compiled.low, compiled.high)
        word_for(spread.peak, index.peak, sums.peak, inverse.peak, compiled.peak)
        self.emit(
            Kernel.SOFTMAX,
            self.read(op.source),
            out,
            op.kind,
            op.diagonal,
            self.blob(op.exp_table),
            self.blob(op.inverse_table),
            *self.steps(spread),
            *self.steps(index),
            *self.steps(sums),
            *self.steps(inverse),
            *self.steps(compiled),
        )

    # -- the whole

    def _pads_needed(self, value: Value) -> list[int]:
        pads = [0, 0, 0, 0]
        for op in self.network.ops:
            if isinstance(op, Linear) and op.source.index == value.index:
                height, width, _ = value.image
                rows, columns, _ = op.out.image
                w = op.window
                bottom = (rows - 1) * w.stride_y + w.height - w.pad_top - height
                right = (columns - 1) * w.stride_x + w.width - w.pad_left - width
                pads = [max(a, b) for a, b in zip(pads, (w.pad_top, w.pad_left, bottom, right), strict=True)]
        return pads

    def _demote_bytes(self) -> set[int]:
        """Values that fit bytes but feed a linear layer that cannot use them: kept as int16 for all readers."""
        wide: set[int] = set()
        for op in self.network.ops:
            if isinstance(op, Linear):
                slot = self.slot(op.source)
                if slot.storage is Storage.U8 and self.plans[op.out.index].path is Path.INT16:
                    wide.add(self.root(slot).value.index)
        return wide

    def encode(self, seen: tuple[Value, ...], widen: frozenset[int] = frozenset()) -> Encoded:
        """The program that writes the `seen` values to the user's output arrays."""
        handlers = {
            Input: self.input,
            Linear: self.linear,
            Map: self.map,
            Binary: self.binary,
            Pool: self.pool,
            Gather: self.gather,
            Pad: self.pad,
            Alias: self.alias,
            Softmax: self.softmax,
        }
        self.widen = widen
        uses = last_uses(self.network, seen)
        for op in self.network.ops:
            before = set(self.slots)
            handlers[type(op)](op)  # type: ignore[operator]
            for index in set(self.slots) - before:
                slot = self.slots[index]
                if slot.alias_of is None:
                    slot.pads = self._pads_needed(slot.value)
        if not widen and not self.counting:
            demoted = self._demote_bytes()
            if demoted:
                return Encoder(self.network, self.lanes, bytes_in=self.bytes_in).encode(seen, frozenset(demoted))
        for which, value in enumerate(seen):
            self.emit(Kernel.OUTPUT, self.read(value), which, value.format.fraction)
        arena = place(self, uses)
        return self._assemble(arena)

    def _assemble(self, arena: int) -> Encoded:
        size = max(self.slots) + 1
        table: list[int] = []
        for index in range(size):
            slot = self.slots.get(index)  # fusing leaves gaps
            if slot is None:
                table += [0, 1, 1, 1, 0, 0, 0, 0, 0]
            else:
                table += [int(slot.storage), *slot.value.image, *slot.pads, self.root(slot).offset]
        code = np.array([arena, size, self.n_ops, *table, *self.words], dtype=np.int64)
        return Encoded(code, tuple(self.blobs), tuple(self.counters), self.paths)


def accumulated(op: Pool) -> tuple[int, int]:
    """Range of an average's running sum, on the grid it is kept on."""
    cast = op.on_sum.actions[0]
    assert isinstance(cast, Cast)
    shift = sum(action.bits for action in op.on_sum.actions[1:] if isinstance(action, ShiftLeft))
    return cast.target.raw_min << shift, cast.target.raw_max << shift


def may_be_bytes(fmt: FixedPoint) -> bool:
    """A signed type whose numbers are bytes when none is negative: hls4ml's input type for 8-bit pixels."""
    return fmt.signed and fmt.raw_max == 255


def last_uses(network: Network, seen: tuple[Value, ...]) -> dict[int, int]:
    """For every value, the position of the operation that reads it last."""
    uses = {}
    for position, op in enumerate(network.ops):
        for value in (*sources(op), op.out):
            uses[value.index] = position
    for value in seen:
        uses[value.index] = len(network.ops)
    return uses


def place(encoder: Encoder, uses: dict[int, int]) -> int:
    """Give every slot its place in the arena, reusing what is no longer read; returns the arena's bytes."""
    born: dict[int, int] = {}
    for position, op in enumerate(encoder.network.ops):
        born.setdefault(op.out.index, position)
    ends: dict[int, int] = {}
    for index, slot in encoder.slots.items():
        root = encoder.root(slot).value.index
        ends[root] = max(ends.get(root, 0), uses.get(index, 0))
    live: list[tuple[int, int, int]] = []  # offset, end of bytes, last use
    top = 0
    for index in sorted(ends, key=lambda i: born[i]):
        slot = encoder.slots[index]
        need = -(-slot.size(encoder.lanes) // 64) * 64
        live = sorted(item for item in live if item[2] >= born[index])
        at = 0
        for start, stop, _ in live:
            if start - at >= need:
                break
            at = max(at, stop)
        slot.offset = at
        live.append((at, at + need, ends[index]))
        top = max(top, at + need)
    return top


def merge_interval(merge: Merge, one: Compiler, two: Compiler) -> tuple[int, int]:
    """Range of two values met."""
    if merge is Merge.ADD:
        return one.low + two.low, one.high + two.high
    if merge is Merge.SUBTRACT:
        return one.low - two.high, one.high - two.low
    if merge is Merge.MULTIPLY:
        ends = [a * b for a in (one.low, one.high) for b in (two.low, two.high)]
        return min(ends), max(ends)
    if merge is Merge.MAXIMUM:
        return max(one.low, two.low), max(one.high, two.high)
    return min(one.low, two.low), min(one.high, two.high)


def pack_weights(plan: LinearPlan) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Weights as the tile reads them: [filter block of 4 (the last may be 2)][row][step][filter] pairs in 32 bits."""
    pairs = channel_pairs(plan.weights)
    filters = len(pairs)
    padded = filters + filters % 2
    kind = np.int16 if plan.path is Path.INT16 else np.int8
    grown = np.zeros((padded, *pairs.shape[1:]), kind)
    grown[:filters] = pairs
    if plan.path is Path.INT16:
        packed = grown.view(np.int32)[..., 0]
    else:  # bytes: the pair, twice
        half = grown.view(np.uint16)[..., 0].astype(np.uint32)
        packed = (half | half << 16).view(np.int32)
    blocks = []
    at = 0
    while at < padded:
        size = 4 if padded - at > 2 else 2
        blocks.append(packed[at : at + size].transpose(1, 2, 0).reshape(-1))
        at += size
    bias = np.zeros(padded, np.int64)
    bias[:filters] = plan.bias
    low = bias & 0xFFFFFFFF  # the sum is right modulo the lane
    return np.concatenate(blocks), low.astype(np.uint32).view(np.int32)


def finish_numbers(compiled: Compiler, storage: Storage, lane: int, low_in: int, high_in: int) -> list[int]:
    """[use, wrap shift, shift, constant, mask, low, high] when the whole recipe is wrap, round, clamp; use = 0 else."""
    no = [0] * 7
    if storage not in (Storage.U8, Storage.I16):
        return no
    steps = list(compiled.steps)
    drop = shift = constant = mask = 0
    low, high = (0, 255) if storage is Storage.U8 else (-(1 << 15), (1 << 15) - 1)
    if steps and steps[0].code is StepCode.WRAP and steps[0].mode and steps[0].n <= lane:
        wrap = steps.pop(0)
        drop, high_in = lane - wrap.n, (1 << (wrap.n - 1)) - 1
    elif low_in < -(1 << (lane - 1)) or high_in >= 1 << (lane - 1):
        return no
    first: tuple[int, int] | None = None
    if len(steps) > 1 and steps[0].code is StepCode.CLAMP and steps[1].code is StepCode.SHR:
        # rounding keeps order: clamping (a ReLU) before it is clamping after it, at the rounded bounds
        step, mode = steps.pop(0), ROUND_MODES[steps[0].mode]
        first = round_shift(step.a, steps[0].n, mode), round_shift(step.b, steps[0].n, mode)
    if steps and steps[0].code is StepCode.SHR:
        step = steps.pop(0)
        half = 1 << (step.n - 1)
        forms = {0: (0, 0), 2: (half, 0), 5: (half - 1, 0), 6: (half - 1, 1)}
        if step.mode not in forms or step.n >= lane or high_in + half >= 1 << (lane - 1):
            return no
        shift = step.n
        constant, mask = forms[step.mode]
    if steps and steps[0].code is StepCode.CLAMP:
        step = steps.pop(0)
        low, high = step.a, step.b
    if first is not None:
        low, high = min(max(first[0], low), high), min(max(first[1], low), high)
    return no if steps else [1, drop, shift, constant, mask, low, high]


def window_taps(op: Linear, weights: Ints, source: Slot) -> tuple[NDArray[np.int32], NDArray[np.int32], Ints]:
    """For the exact kernel: row within the window and channel parity of every product, and weights, in csim's order."""
    filters, rows, columns, channels = weights.shape
    in_channels = source.value.image[2]
    pairs = (in_channels + 1) // 2
    # the source's border is laid out after this operation is encoded: ask for the same answer
    left, right = source.pads[1], source.pads[3]
    line = (left + source.value.image[1] + right) * pairs
    y, x, c = (axis.reshape(-1) for axis in np.meshgrid(range(rows), range(columns), range(channels), indexing="ij"))
    flat = weights.reshape(filters, -1)
    if op.depthwise:
        channel = np.arange(filters)[:, None] + 0 * y[None, :]
        row = y[None, :] * line + x[None, :] * pairs + channel // 2
        return row.astype(np.int32), (channel % 2).astype(np.int32), flat
    order = np.arange(flat.shape[1]) if op.order is None else op.order
    row = (y * line + x * pairs + c // 2)[order]
    return row.astype(np.int32), (c % 2)[order].astype(np.int32), flat[:, order]
