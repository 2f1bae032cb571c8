"""The program as it grows: operations, arrays, counters and values, in the encoding that kernels/bitsim.cpp reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import LinearKernel, Opcode, Storage, Word
from hw.simulate.bitsim.encode.compiler import Compiler, Counter
from hw.simulate.bitsim.encode.memory import Slot, storage_for
from hw.simulate.bitsim.encode.plan import LinearPlan
from hw.simulate.bitsim.program import Network, Value
from qmodels.errors import UserError

_WORDS = ((Word.W32, 31), (Word.W64, 63), (Word.W128, 126))  # the word, bits of magnitude


def word_for(*peaks: int) -> Word:
    """The smallest machine word that holds all of the magnitudes. UserError beyond 126 bits."""
    bits = max(peaks).bit_length()
    for word, capacity in _WORDS:
        if bits <= capacity:
            return word
    raise UserError(
        "an intermediate result takes more than 126 bits: bitsim stops there, csim does not (--engine csim)"
    )


class Encoder:
    """What elements, linear, moves and pool write into, and ask about the values made so far."""

    def __init__(
        self,
        network: Network,
        counting: bool = False,
        bytes_in: bool = False,
        quads: bool = False,
        widen: frozenset[int] = frozenset(),
    ) -> None:
        """`widen`: values kept as int16 though bytes hold them."""
        self.network, self.counting, self.bytes_in, self.quads = network, counting, bytes_in, quads
        self.slots: dict[int, Slot] = {}
        self.words: list[int] = []
        self.blobs: list[NDArray[Any]] = []
        self.counters: dict[Counter, int] = {}
        self.kernels: dict[str, LinearKernel] = {}
        self.n_ops = 0
        self.widen = widen
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
        """The numbers that Steps::read (kernels/steps.h) takes; no steps for None."""
        if compiled is None:
            return [0]
        out = [len(compiled.steps)]
        for s in compiled.steps:
            data = self.blob(None if s.data is None else s.data.astype(np.int64))
            out += [int(s.code), s.n, s.mode, self.counter(s.counter), *self.wide(s.a), *self.wide(s.b)]
            out += [data, s.period, s.source_width, s.width]
        return out

    def emit(self, opcode: Opcode, *numbers: int) -> None:
        """Append one operation: its code and the numbers its constructor reads."""
        self.words += [int(opcode), *numbers]
        self.n_ops += 1

    # -- values

    def slot(self, value: Value) -> Slot:
        """The slot of a value made earlier."""
        return self.slots[value.index]

    def make(self, value: Value, low: int, high: int) -> int:
        """A slot for a new value; returns its number."""
        low, high = max(low, value.format.raw_min), min(high, value.format.raw_max)
        if value.index not in self.slots:
            storage = storage_for(low, high)
            if storage is Storage.U8 and value.index in self.widen:
                storage = Storage.I16
            self.slots[value.index] = Slot(value, low, high, storage)
        return value.index
