"""Operations that move numbers: to other places, with zeros around, under another shape."""

from __future__ import annotations

import numpy as np

from hw.simulate.bitsim.codes import Opcode
from hw.simulate.bitsim.encode.compiler import compile_recipe
from hw.simulate.bitsim.encode.encoder import Encoder, word_for
from hw.simulate.bitsim.encode.memory import Slot, borders_needed
from hw.simulate.bitsim.program import Alias, Gather, Pad
from hw.simulate.bitsim.recipes import Recipe


def encode_gather(enc: Encoder, op: Gather) -> None:
    """Elements to other places, each through the recipe."""
    source = enc.slot(op.source)
    compiled = compile_recipe(op.recipe, source.low, source.high)
    f = op.out.format
    out = enc.make(op.out, f.raw_min, f.raw_max)
    enc.emit(
        Opcode.GATHER,
        op.source.index,
        out,
        word_for(compiled.peak),
        len(op.to),
        enc.blob(op.from_.astype(np.int32)),
        enc.blob(op.to.astype(np.int32)),
        *enc.steps(compiled),
    )


def encode_pad(enc: Encoder, op: Pad) -> None:
    """Zeros around an image, as a gather."""
    encode_gather(enc, op.gather())


def encode_alias(enc: Encoder, op: Alias) -> None:
    """The same numbers under another shape: shared memory when both lie alike, else copied."""
    source = enc.slot(op.source)
    same_pixels = op.source.image[:2] == op.out.image[:2] or (op.source.image[2] % 2 == 0 and op.out.image[2] % 2 == 0)
    if same_pixels and not any(borders_needed(enc.network, op.source)) and not any(borders_needed(enc.network, op.out)):
        enc.slots[op.out.index] = Slot(op.out, source.low, source.high, source.storage, alias_of=op.source.index)
        return
    everything = np.arange(op.source.size, dtype=np.int32)
    compiled = compile_recipe(Recipe(), source.low, source.high)
    out = enc.make(op.out, source.low, source.high)
    enc.emit(
        Opcode.GATHER,
        op.source.index,
        out,
        word_for(compiled.peak),
        len(everything),
        enc.blob(everything),
        enc.blob(everything),
        *enc.steps(compiled),
    )
