"""Weights stored as codes: b bits a weight and a table of 2**b values, decoded where the product is made.

Every product of hls4ml's C++ goes through `CONFIG_T::product<data_T, weight_T>`, so only the weight's type changes:
`nnet::codebook<3, ap_fixed<8,1>, -128, -46, ...>` (hw/generate/hls/nnet_codebook.h). hls4ml's graph holds codes only
while it is written, after all passes: bit_exact and bitsim see the values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from hw.generate.hardware import CODEBOOK_BACKENDS, HardwareConfig
from qmodels.errors import UserError
from qmodels.formats import FixedPoint

MAX_BITS = 8
MAX_WIDTH = 32  # of the values: the header's table holds C++ ints
KERNELS = ("weight", "depthwise", "pointwise")
HEADER = "firmware/nnet_utils/nnet_codebook.h"
_TYPES = '#include "nnet_utils/nnet_types.h"\n'


@dataclass(frozen=True)
class Codebook:
    """What the codes of one kernel stand for."""

    bits: int  # of a code
    format: FixedPoint  # of the values
    raw: tuple[int, ...]  # the values as integers of `format`, ascending, padded with the last one to 2**bits

    def stored_bits(self, weights: int) -> int:
        """Bits of `weights` codes and of the table."""
        return self.bits * weights + self.format.width * len(self.raw)

    @property
    def decoder_luts(self) -> int:
        """LUTs of one decoder: a six-input LUT for every bit that differs between values."""
        changing = 0
        for raw in self.raw:
            changing |= raw ^ self.raw[0]
        luts_per_bit = 1 << max(self.bits - 6, 0)
        return (changing & ((1 << self.format.width) - 1)).bit_count() * luts_per_bit

    def codes(self, values: Any) -> Any:
        """The code of every value, same shape."""
        return np.searchsorted(np.unique(self.raw), self.format.to_raw(np.asarray(values)))


class CodebookPrecision(NamedTuple):
    """What hls4ml's writer asks of a weight's type: its C++ definition and the width of what is stored."""

    definition: str
    width: int

    def definition_cpp(self) -> str:
        """The C++ type."""
        return self.definition


def choose_codebooks(graph: Any, config: HardwareConfig) -> dict[str, Codebook]:
    """The codebooks of a graph's kernels, by the weight variable's name, where the config wants them.

    Raises:
        UserError: codes are asked for, and the backend has none, or a kernel's values are more than 256 or too wide.
    """
    found = {}
    for layer in graph.get_layers():
        own = config.of_layer(layer.name, graph).weight_storage
        wanted = own or config.weight_storage
        for kernel in (layer.weights[name] for name in KERNELS if name in layer.weights):
            if wanted == "values" or (wanted == "auto" and config.backend not in CODEBOOK_BACKENDS):
                continue
            key = f"hardware.layers.{layer.name}.weight_storage" if own else "hardware.weight_storage"
            book = _codebook(kernel, f"{key}: layer {layer.name!r}" if not own else key, wanted, config.backend)
            if book is not None:
                found[kernel.name] = book
    return found


def _codebook(kernel: Any, where: str, wanted: str, backend: str) -> Codebook | None:
    if backend not in CODEBOOK_BACKENDS:
        raise UserError(f"{where}: codes need the backend {', '.join(CODEBOOK_BACKENDS)}, not {backend}; set values")
    fmt = FixedPoint.from_hls4ml(kernel.type.precision)
    if fmt.raw_max >= 1 << (MAX_WIDTH - 1):
        if wanted == "auto":
            return None
        raise UserError(
            f"{where}: its kernel's type {fmt} is too wide, codes can represent signed types of at most {MAX_WIDTH} "
            f"bits; set values or auto, or a narrower precision.weight"
        )
    raw = np.unique(fmt.to_raw(np.asarray(kernel.data, np.float64)))
    bits = max(int(len(raw) - 1).bit_length(), 1)
    if bits > MAX_BITS:
        if wanted == "auto":
            return None
        raise UserError(
            f"{where}: its kernel has {len(raw)} distinct values, codes can have at most {2**MAX_BITS}; "
            f"set values or auto, or use fewer weight bits"
        )
    book = Codebook(bits, fmt, (*raw.tolist(), *[int(raw[-1])] * (2**bits - len(raw))))
    size = int(np.asarray(kernel.data).size)
    return None if wanted == "auto" and book.stored_bits(size) >= fmt.width * size else book


@contextlib.contextmanager
def stored_codes(graph: Any, codebooks: Mapping[str, Codebook]) -> Iterator[None]:
    """While hls4ml's writer is at work, kernels hold their codes instead of values, and their types are codebooks."""
    named = [(layer, kernel) for layer in graph.get_layers() for kernel in layer.weights.values()]
    found = [(layer, kernel, codebooks[kernel.name]) for layer, kernel in named if kernel.name in codebooks]
    saved = [_store(layer, kernel, book) for layer, kernel, book in found]
    try:
        yield
    finally:
        for (_, kernel, _), (attributes, types) in zip(found, saved, strict=True):
            vars(kernel).update(attributes)
            for holder, precision in types:
                holder.precision = precision


def _store(layer: Any, kernel: Any, book: Codebook) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """Replace a kernel's values and type; returned is what undoes it: its attributes, and every type's precision."""
    holders = [kernel.type, *(named for named in layer.types.values() if named.name == kernel.type.name)]
    saved = dict(vars(kernel)), [(holder, holder.precision) for holder in holders]
    numbers = ", ".join(map(str, book.raw))
    cpp = f"nnet::codebook<{book.bits}, {kernel.type.precision.definition_cpp()}, {numbers}>"
    kernel.data = book.codes(kernel.data)
    kernel.min, kernel.max = 0, len(book.raw) - 1
    kernel.precision_fmt = "{:.0f}"
    for holder in holders:
        holder.precision = CodebookPrecision(cpp, book.bits)
    return saved


def with_header(project: Mapping[str, bytes], codebooks: Mapping[str, Codebook]) -> dict[str, bytes]:
    """The project's files, with the header of the codebook type where it is used."""
    if not codebooks:
        return dict(project)
    defines = project["firmware/defines.h"].decode()
    assert defines.count("nnet::codebook<") >= len(codebooks), "a kernel's type was not replaced"
    assert _TYPES in defines, "hls4ml's defines.h differs from that of 1.3.0"
    defines = defines.replace(_TYPES, '#include "nnet_utils/nnet_codebook.h"\n' + _TYPES)
    header = files("hw.generate.hls").joinpath("nnet_codebook.h").read_bytes()
    return {**project, "firmware/defines.h": defines.encode(), HEADER: header}
