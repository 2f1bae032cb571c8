"""A network as the numbers and arrays that kernels/bitsim.cpp reads, with its memory laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import LinearKernel, Opcode, Storage
from hw.simulate.bitsim.encode.compiler import Counter
from hw.simulate.bitsim.encode.elements import encode_binary, encode_input, encode_map, encode_softmax
from hw.simulate.bitsim.encode.encoder import Encoder
from hw.simulate.bitsim.encode.linear import encode_linear
from hw.simulate.bitsim.encode.memory import borders_needed, last_uses, place, root
from hw.simulate.bitsim.encode.moves import encode_alias, encode_gather, encode_pad
from hw.simulate.bitsim.encode.pool import encode_pool
from hw.simulate.bitsim.program import Alias, Binary, Gather, Input, Linear, Map, Network, Pad, Pool, Softmax, Value

_FAMILIES: dict[type, Callable[[Encoder, Any], None]] = {
    Input: encode_input,
    Linear: encode_linear,
    Map: encode_map,
    Binary: encode_binary,
    Pool: encode_pool,
    Gather: encode_gather,
    Pad: encode_pad,
    Alias: encode_alias,
    Softmax: encode_softmax,
}


@dataclass(frozen=True)
class Encoded:
    """What `bitsim_create` takes; `blobs` must outlive the program."""

    code: NDArray[np.int64]
    blobs: tuple[NDArray[Any], ...]
    counters: tuple[Counter, ...]
    kernels: dict[str, LinearKernel]


def encode(
    network: Network,
    seen: tuple[Value, ...],
    lanes: int,
    *,
    counting: bool = False,
    bytes_in: bool = False,
    quads: bool = False,
) -> Encoded:
    """The program that writes the `seen` values to the user's output arrays.

    Args:
        network: what it computes.
        seen: values to be written, in order.
        lanes: samples that one instruction handles, as the library was built.
        counting: count overflows, which only the exact kernels can.
        bytes_in: take inputs that may be bytes to be 0..255.
        quads: the library multiplies four bytes at once.

    Raises:
        UserError: numbers too wide for the machine.
    """
    encoder = Encoder(network, counting, bytes_in, quads)
    _walk(encoder)
    if not counting and (demoted := _demoted_bytes(encoder)):
        encoder = Encoder(network, counting, bytes_in, quads, demoted)
        _walk(encoder)
    for which, value in enumerate(seen):
        encoder.emit(Opcode.OUTPUT, value.index, which, value.format.fraction)
    return _assemble(encoder, place(network, encoder.slots, lanes, last_uses(network, seen)))


def _walk(encoder: Encoder) -> None:
    """Every operation, once, keeping the interval of every value."""
    for op in encoder.network.ops:
        before = set(encoder.slots)
        _FAMILIES[type(op)](encoder, op)
        for index in set(encoder.slots) - before:
            slot = encoder.slots[index]
            if slot.alias_of is None:
                slot.pads = borders_needed(encoder.network, slot.value)


def _demoted_bytes(encoder: Encoder) -> frozenset[int]:
    """Values that fit bytes but feed a linear layer that cannot use them: kept as int16 for all readers."""
    wide: set[int] = set()
    for op in encoder.network.ops:
        if isinstance(op, Linear):
            slot = encoder.slot(op.source)
            if slot.storage is Storage.U8 and encoder.plans[op.out.index].kernel is LinearKernel.INT16:
                wide.add(root(encoder.slots, slot).value.index)
    return frozenset(wide)


def _assemble(encoder: Encoder, arena: int) -> Encoded:
    size = max(encoder.slots) + 1
    table: list[int] = []
    for index in range(size):
        slot = encoder.slots.get(index)  # fusing leaves gaps
        if slot is None:
            table += [0, 1, 1, 1, 0, 0, 0, 0, 0]
        else:
            table += [int(slot.storage), *slot.value.image, *slot.pads, root(encoder.slots, slot).offset]
    code = np.array([arena, size, encoder.n_ops, *table, *encoder.words], dtype=np.int64)
    return Encoded(code, tuple(encoder.blobs), tuple(encoder.counters), encoder.kernels)
