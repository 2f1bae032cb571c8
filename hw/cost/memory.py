"""Memories: what is stored, and how many 18-kilobit block RAMs a depth and a width take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hw.generate.codes import KERNELS, Codebook

#: (deepest, widest) of one RAMB18 in its shapes (AMD UG573/UG473).
SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
#: Activations that hls4ml reads from tables.
TABLES = ("sigmoid", "tanh", "softmax", "softplus", "softsign", "elu", "selu")
#: Shallower memories become shift registers or LUT RAM: the vendor's reports show no block RAM for them.
SHALLOW = 32


def bram_blocks(depth: int, width: int) -> int:
    """RAMB18 blocks of a memory of `depth` words of `width` bits, in the best shape; 0 for shallow ones."""
    if depth <= SHALLOW or width <= 0:
        return 0
    return min(-(-depth // deepest) * -(-width // widest) for deepest, widest in SHAPES)


def weight_memory(layer: Any, codebooks: Mapping[str, Codebook]) -> tuple[int, int]:
    """Stored bits, and block RAMs where weights are read over several cycles."""
    bits, blocks = 0, 0
    reuse = int(layer.get_attr("reuse_factor") or 1)
    for name, weight in layer.weights.items():
        width, size = int(weight.type.precision.width), int(np.asarray(weight.data).size)
        book = codebooks.get(weight.name)
        bits += width * size if book is None else book.stored_bits(size)
        width = width if book is None else book.bits
        if name in KERNELS and reuse > 1 and str(layer.get_attr("strategy") or "").lower() == "resource":
            blocks += bram_blocks(reuse, width * -(-size // reuse))
    return bits, blocks


def activation_tables(layer: Any) -> tuple[int, int]:
    """Look-up tables of activations that hls4ml computes by table."""
    kind = str(layer.get_attr("activation") or "").lower()
    table = layer.get_attr("table_t")
    if layer.class_name not in ("Activation", "Softmax") or kind not in TABLES or table is None:
        return 0, 0
    names = ("exp_table_t", "inv_table_t") if kind == "softmax" else ("table_t",)
    widths = [int(t.precision.width) for t in (layer.get_attr(name) for name in names) if t is not None]
    size = int(layer.get_attr("table_size") or 1024)
    return size * sum(widths), sum(bram_blocks(size, width) for width in widths)


def stream_fifo(layer: Any) -> tuple[int, int]:
    """The stream behind a layer: one FIFO a channel."""
    variable = layer.get_output_variable()
    pragma = getattr(variable, "pragma", None)
    if not (isinstance(pragma, tuple) and pragma and pragma[0] == "stream"):
        return 0, 0
    depth, channels, width = int(pragma[1]), int(variable.shape[-1]), int(variable.type.precision.width)
    return depth * channels * width, channels * bram_blocks(depth, width)
