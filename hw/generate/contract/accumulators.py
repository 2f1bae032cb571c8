"""Accumulators wider than TensorFlow's float32: the hardware is right, the QKeras model may round."""

from __future__ import annotations

from typing import Any

from hw.generate.contract.violation import Violation

FLOAT32_BITS = 24


def accumulator_warnings(graph: Any) -> list[Violation]:
    """Layers of an hls4ml graph, after its passes, whose sums need more bits than float32 holds exactly.

    hls4ml sizes accumulators for the worst case over all inputs, so this is a warning: real sums may be smaller.
    The exactness gate compares the simulators with TensorFlow on real, extreme and adversarial inputs and decides.
    """
    found = []
    for layer in graph.get_layers():
        accumulator = layer.get_attr("accum_t")
        width = getattr(getattr(accumulator, "precision", None), "width", 0)
        if layer.get_attr("n_in") is None and layer.get_attr("filt_width") is None:
            continue
        if width > FLOAT32_BITS:
            found.append(
                Violation(
                    layer.name,
                    "accum_t",
                    f"its sums may need {width} bits, float32 holds {FLOAT32_BITS}: TensorFlow cannot be exact then",
                    "use fewer bits for the weights, the bias or the activations before it",
                    "the QKeras model rounds where the accelerator does not",
                    severity="reported",
                )
            )
    return found
