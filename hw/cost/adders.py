"""Adders of unrolled constant products, by alkaid (formerly da4ml), where it is installed (extra `rtl`).

alkaid shares subexpressions between outputs, as a logic synthesis that is given time does; its cost is the number of
full-adder bits of the shift-and-add network, so of about as many LUTs.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.codes import KERNELS
from qmodels.formats import FixedPoint

#: Products of one matrix: a second at this size, and growing faster than the square.
MAX_PRODUCTS = 2048


def adder_bits(layer: Any) -> int | None:
    """Full-adder bits of one layer's products in hardware; None: time-multiplexed, too large, or alkaid is missing."""
    unrolled = int(layer.get_attr("reuse_factor") or 1) == 1
    resource = str(layer.get_attr("strategy") or "latency").lower() == "resource"
    kernels = [layer.weights[name] for name in KERNELS if name in layer.weights]
    if not kernels or not unrolled or resource or find_spec("alkaid") is None:
        return None
    matrices = [matrix for kernel in kernels for matrix in _matrices(layer, np.asarray(kernel.data, np.float32))]
    if any(matrix.size > MAX_PRODUCTS for matrix in matrices):
        return None
    fmt = FixedPoint.from_hls4ml(layer.get_input_variable().type.precision)
    parallel = max(int(layer.get_attr("parallelization_factor") or 1), 1)
    return parallel * sum(_solve(matrix, fmt) for matrix in matrices)


def _matrices(layer: Any, kernel: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Matrices (inputs, outputs) that are applied to one position; a depthwise kernel has one for each channel."""
    if "Depthwise" not in layer.class_name:
        yield kernel.reshape(-1, kernel.shape[-1])
        return
    channels = int(layer.get_attr("n_chan"))
    yield from np.moveaxis(kernel.reshape(-1, channels, kernel.size // _pixels(layer) // channels), 1, 0)


def _pixels(layer: Any) -> int:
    return int(layer.get_attr("filt_height") or 1) * int(layer.get_attr("filt_width") or 1)


def _solve(matrix: NDArray[np.float32], fmt: FixedPoint) -> int:
    from alkaid.cmvm import cmvm_solve

    intervals = [(fmt.minimum, fmt.maximum, fmt.lsb)] * len(matrix)
    logic = cmvm_solve(np.ascontiguousarray(matrix), qintervals=intervals, search_all_decompose_dc=False)
    return round(float(sum(part.cost for part in logic)))
