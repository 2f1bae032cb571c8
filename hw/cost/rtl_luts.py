"""LUTs of the unrolled RTL of `robust-hls rtl`, before it is made: from alkaid's adder bits and the activations.

Yosys counts what this estimates. It is another number than `luts_estimated`, which is for the vendor's project.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.generate.codes import KERNELS
from qmodels.formats import FixedPoint

#: Found by `python benchmarks/rtl.py --only luts` on every second of its 21 designs (docs/rtl.md).
LUTS_PER_ADDER_BIT = 1.013
LUTS_PER_ACTIVATION_BIT = 3.105


def activation_bits(graph: Any) -> int:
    """Bits of all results of layers that clamp or round: what an activation does to each takes logic."""
    return sum(_bits(layer) for layer in graph.get_layers() if layer.class_name in ("Activation", "HardActivation"))


def unrolled(graph: Any, figures: Sequence[int | None]) -> int | None:
    """The sum of a figure over the layers with products, every position unrolled, as the RTL is.

    Args:
        graph: hls4ml's, after its passes.
        figures: of its layers, for the positions that work at once; one that is not known makes the sum unknown.
    """
    total = 0
    for layer, figure in zip(graph.get_layers(), figures, strict=True):
        if any(name in layer.weights for name in KERNELS):
            if figure is None:
                return None
            positions = int(layer.get_attr("out_height") or 1) * int(layer.get_attr("out_width") or 1)
            total += figure * positions // max(int(layer.get_attr("parallelization_factor") or 1), 1)
    return total


def _bits(layer: Any) -> int:
    given, made = layer.get_input_variable(), layer.get_output_variable()
    try:
        source, target = (FixedPoint.from_hls4ml(variable.type.precision) for variable in (given, made))
    except (ValueError, AttributeError):
        return 0
    clamps = str(layer.get_attr("activation") or "") != "linear"
    narrows = target.fraction < source.fraction or target.maximum < source.maximum or target.minimum > source.minimum
    return int(np.prod(made.shape)) * target.width if clamps or narrows else 0


def rtl_luts(adder_bits: int | None, activations: int) -> int | None:
    """LUTs that Yosys will count; None where alkaid's adder bits are not known."""
    if adder_bits is None:
        return None
    return round(LUTS_PER_ADDER_BIT * adder_bits + LUTS_PER_ACTIVATION_BIT * activations)


def calibrate(rows: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """The two constants of least relative error over rows of adder bits, activation bits and LUTs."""
    table = np.array(rows, np.float64)
    found, *_ = np.linalg.lstsq(table[:, :2] / table[:, 2:], np.ones(len(table)), rcond=None)
    return float(found[0]), float(found[1])
