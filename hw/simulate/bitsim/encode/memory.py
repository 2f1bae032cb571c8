"""Where the values of a network lie in the arena: element types, borders, places reused."""

from __future__ import annotations

from dataclasses import dataclass, field

from hw.simulate.bitsim.codes import Storage
from hw.simulate.bitsim.program import Linear, Network, Value, sources
from qmodels.errors import UserError

_SIZES = {Storage.U8: 1, Storage.I16: 2, Storage.U16: 2, Storage.I32: 4, Storage.I64: 8, Storage.U64: 8}


def storage_for(low: int, high: int) -> Storage:
    """The smallest element type that holds every integer of [low, high]."""
    if low >= 0 and high <= 255:
        return Storage.U8
    for kind, bits in ((Storage.I16, 15), (Storage.I32, 31), (Storage.I64, 63)):
        if low >= -(1 << bits) and high < 1 << bits:
            return kind
        if kind is Storage.I16 and low >= 0 and high < 1 << 16:
            return Storage.U16
    if low >= 0 and high < 1 << 64:
        return Storage.U64
    raise UserError(f"numbers {low}..{high} take more than 64 bits: bitsim stops there, csim does not (--engine csim)")


@dataclass
class Slot:
    """A value in the arena: its element type, the border around it, and where it lies."""

    value: Value
    low: int
    high: int
    storage: Storage
    pads: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # top, left, bottom, right
    offset: int = -1
    alias_of: int | None = None

    def size(self, lanes: int) -> int:
        """Bytes for one block of samples."""
        height, width, channels = self.value.image
        top, left, bottom, right = self.pads
        rows = (top + height + bottom) * (left + width + right) * ((channels + 1) // 2)
        return rows * lanes * 2 * _SIZES[self.storage]


def root(slots: dict[int, Slot], slot: Slot) -> Slot:
    """The slot whose memory this one shows."""
    while slot.alias_of is not None:
        slot = slots[slot.alias_of]
    return slot


def borders_needed(network: Network, value: Value) -> list[int]:
    """Zeros that linear layers read around a value: top, left, bottom, right."""
    pads = [0, 0, 0, 0]
    for op in network.ops:
        if isinstance(op, Linear) and op.source.index == value.index:
            height, width, _ = value.image
            rows, columns, _ = op.out.image
            w = op.window
            bottom = (rows - 1) * w.stride_y + w.height - w.pad_top - height
            right = (columns - 1) * w.stride_x + w.width - w.pad_left - width
            pads = [max(a, b) for a, b in zip(pads, (w.pad_top, w.pad_left, bottom, right), strict=True)]
    return pads


def last_uses(network: Network, seen: tuple[Value, ...]) -> dict[int, int]:
    """For every value, the position of the operation that reads it last."""
    uses = {}
    for position, op in enumerate(network.ops):
        for value in (*sources(op), op.out):
            uses[value.index] = position
    for value in seen:
        uses[value.index] = len(network.ops)
    return uses


def place(network: Network, slots: dict[int, Slot], lanes: int, uses: dict[int, int]) -> int:
    """Give every slot its place in the arena, reusing what is no longer read; returns the arena's bytes."""
    born: dict[int, int] = {}
    for position, op in enumerate(network.ops):
        born.setdefault(op.out.index, position)
    ends: dict[int, int] = {}
    for index, slot in slots.items():
        owner = root(slots, slot).value.index
        ends[owner] = max(ends.get(owner, 0), uses.get(index, 0))
    live: list[tuple[int, int, int]] = []  # offset, end of bytes, last use
    top = 0
    for index in sorted(ends, key=lambda i: born[i]):
        slot = slots[index]
        need = -(-slot.size(lanes) // 64) * 64
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
