"""How large the RTL of a network will be, told before any long work."""

from __future__ import annotations

from math import prod

import numpy as np

from hw.simulate.bitsim.program import Binary, Ints, Linear, Map, Network, Pool


def signed_digits(weights: Ints) -> Ints:
    """Non-zero digits of every integer in canonical signed-digit form: the additions that a product with it takes."""
    left = np.abs(np.asarray(weights, np.int64))
    digits = np.zeros_like(left)
    while left.any():
        odd = left & 1
        digits += odd
        # ...11 ends a run of ones: -1 here, and one more above
        left = (left - odd * (2 - (left & 3))) >> 1
    return digits


def adders(network: Network) -> int:
    """Additions, comparisons and choices of the unrolled network, before anything is shared between outputs.

    alkaid needs about half as many operations at 3 bits and more; sharing gains more the more bits weights have.
    """
    return sum(_adders(op) for op in network.ops)


def _adders(op: object) -> int:
    if isinstance(op, Linear):
        rows, columns, _ = op.out.image
        digits = int(signed_digits(op.weights).sum())
        return rows * columns * (digits + len(op.bias))
    if isinstance(op, Pool):
        return op.out.size * prod((op.window.height, op.window.width))
    return op.out.size if isinstance(op, (Map, Binary)) else 0
