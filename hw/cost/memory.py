"""Memories: how many 18-kilobit block RAMs a depth and a width take."""

from __future__ import annotations

#: (deepest, widest) of one RAMB18 in its shapes (AMD UG573/UG473).
SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
#: Shallower memories become shift registers or LUT RAM: the vendor's reports show no block RAM for them.
SHALLOW = 32


def bram_blocks(depth: int, width: int) -> int:
    """RAMB18 blocks of a memory of `depth` words of `width` bits, in the best shape; 0 for shallow ones."""
    if depth <= SHALLOW or width <= 0:
        return 0
    return min(-(-depth // deepest) * -(-width // widest) for deepest, widest in SHAPES)
