"""One small network as an accelerator, with weights drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from hw.rtl import RtlConfig
from qmodels.formats import FixedPoint
from qmodels.grid import InputGrid
from qmodels.runtime import runtime
from tests.helpers.models import qkeras_model, weight_quantizers

GRID = InputGrid(FixedPoint(8, 0, signed=False))


def small_accelerator(
    seed: int = 0,
    bits: int = 3,
    hidden: int = 4,
    side: int = 3,
    still: tuple[int, ...] = (),
    bias: float | None = None,
) -> Accelerator:
    """side x side inputs, a hidden dense layer with a quantized ReLU, three logits.

    `still`: logits without weights; `bias`: of all logits, drawn when None.
    """
    q = runtime().qkeras
    body = (
        q.QDense(hidden, name="hidden", **weight_quantizers(bits)),
        q.QActivation("quantized_relu(4,1)", name="act"),
    )
    model = qkeras_model(*body, shape=(side, side, 1), **weight_quantizers(bits))
    draw(model, seed, bits)
    kernel, drawn = model.get_layer("logits").get_weights()
    kernel[:, list(still)] = 0
    model.get_layer("logits").set_weights([kernel, drawn if bias is None else np.full_like(drawn, bias)])
    return Accelerator(model, HardwareConfig(project_name="small"), grid=GRID)


def draw(model: Any, seed: int, bits: int) -> None:
    """Weights on the quantizers' grid."""
    rng, steps = np.random.default_rng(seed), 1 << (bits - 1)
    for layer in model.layers:
        if layer.get_weights():
            layer.set_weights([rng.integers(-steps + 1, steps, w.shape) / steps for w in layer.get_weights()])


def probes(count: int, side: int = 3, seed: int = 1) -> np.ndarray:
    """Random codes, the ends and the extremes."""
    rng, shape = np.random.default_rng(seed), (side, side, 1)
    return np.concatenate([GRID.random(count, shape, rng), GRID.random_ends(count, shape, rng), GRID.extremes(shape)])


#: Stages short enough that a small design has several.
PIPELINED = RtlConfig(latency_cutoff_ns=2.0)
