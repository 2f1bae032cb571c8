"""||W||_p and ||ΔW||_p of a quantized network, layer by layer, and ||ΔW||_2 over the number of bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qmodels.layers import is_depthwise, kernel_of, weighted_layers
from qmodels.metrics.lipschitz import LayerNorms, difference_norms, weight_norms
from qmodels.quantize.fit import fit_code
from qmodels.quantize.weights import WeightConfig, reshaped_spectral_norm

#: Bits of the chart.
SWEEP = tuple(range(2, 9))


def lipschitz_rows(model: Any, quantized: Any) -> list[dict[str, Any]]:
    """The `lipschitz` part of results.json: one row a layer with weights.

    Args:
        model: the float model that was quantized (mapped, if it was).
        quantized: its QKeras twin.
    """
    pairs = zip(weight_norms(model), difference_norms(model, quantized), strict=True)
    return [_row(weights, difference) for weights, difference in pairs]


def bits_rows(model: Any, config: WeightConfig, bits: Sequence[int] = SWEEP) -> list[dict[str, Any]]:
    """||Q(W) - W||_2 (reshaped kernel) of every layer for several numbers of bits; all else as in `config`.

    Args:
        model: a float model.
        config: method, granularity and clip; its `weight_bits` is replaced.
        bits: numbers of bits.
    """
    rows = []
    for layer in weighted_layers(model):
        kernel, depthwise = kernel_of(layer).numpy().astype(np.float64), is_depthwise(layer)
        errors = {}
        for count in bits:
            wanted = config.model_copy(update={"weight_bits": count})
            rounded = fit_code(kernel, wanted, depthwise=depthwise).round(kernel)
            errors[f"{count} bits"] = reshaped_spectral_norm(rounded - kernel, depthwise)
        rows.append({"layer": layer.name, **errors})
    return rows


def _row(weights: LayerNorms, difference: LayerNorms) -> dict[str, Any]:
    flat = {"layer": weights.layer, "kind": weights.kind}
    for name, norms in (("w", weights), ("delta_w", difference)):
        plain = norms.as_dict()
        flat |= {f"{name}_{key}": value for key, value in plain.items() if key not in ("layer", "kind")}
    return flat
