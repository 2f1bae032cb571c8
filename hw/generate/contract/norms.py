"""Batch normalization in a quantized model: folded into the weights of the layer before it.

QKeras' own folded layers (QConv2DBatchnorm) round the folded weights: those values are stored, and nothing changes.
Behind a quantized layer a BatchNormalization scales weights that are rounded already: the products lie on no short
grid, unless the scales are powers of two. They are rounded again, to as many bits as the layer had, with a power-of-two
step for each channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.contract.draft import Draft
from hw.generate.contract.quantizers import weight_quantizers
from hw.generate.contract.violation import Severity, Violation
from hw.generate.contract.weight_values import WEIGHT_OF, covering_grid, grid_text
from qmodels.formats import FixedPoint
from qmodels.layers import calls_of, is_depthwise
from qmodels.quantize.fit import fit_code
from qmodels.quantize.uniform import choose_format, snap
from qmodels.quantize.weights import WeightConfig
from qmodels.runtime import runtime
from qmodels.scaling import NORMS, batch_norm_of, scaling_layers

Array = NDArray[np.float64]
#: QKeras' folded layers, and the plain ones that compute the same.
FOLDED = {"QConv2DBatchnorm": "QConv2D", "QDepthwiseConv2DBatchnorm": "QDepthwiseConv2D"}
#: Layers that take in a BatchNormalization behind them.
_PARTNERS = ("QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D")
_LONGEST_BITS = 16  # of weights and biases that are rounded again


@dataclass(frozen=True)
class Folded:
    """What a layer multiplies by and adds, with the grids that hold it."""

    kernel: Array
    kernel_grid: FixedPoint
    bias: Array
    bias_grid: FixedPoint | None  # None: the layer has no bias quantizer, its bias is float


def norms(model: Any, backend: str) -> Iterator[Violation]:
    """Layers that normalise."""
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in FOLDED:
            yield _inside(layer)
        if kind in NORMS:
            yield _behind(model, layer)


def _inside(layer: Any) -> Violation:
    kind = type(layer).__name__
    problem = f"{kind} is not known to hls4ml's bit_exact pass"
    fix, silently = f"fold the batch normalization into the weights of a {FOLDED[kind]}", "the conversion stops"
    repairable = stored_weights(layer) is not None
    if not repairable:
        problem += ", and its folded weights lie on no grid of at most 24 bits (a float scale, or no kernel quantizer)"
        fix = "set alpha=1 in its kernel quantizer, then train on"
    plain = kind == "QConv2DBatchnorm"  # the depthwise one has no converter at all
    return Violation(
        layer.name,
        "class",
        problem,
        fix,
        silently,
        "norm" if repairable else None,
        severity="reported" if plain else "refused",
        stops_bit_exact=plain,
    )


def _behind(model: Any, layer: Any) -> Violation:
    kind = type(layer).__name__
    problem = f"{kind} multiplies by a factor that is no fixed-point number"
    fix, silently = (
        "fold it into the weights of the layer before it, then quantize them",
        "outputs differ in their last bits",
    )
    if any(layer in layers for layers in scaling_layers(model).values()):
        fix, silently = "scale the numbers before the device: leave the layer out", "outputs differ in their last bits"
        return Violation(layer.name, "class", problem, fix, silently, "scaling", severity="reported")
    partner = partner_of(model, layer)
    source = calls_of(model)[layer.name][0].keras_inputs[0]._keras_history[0]
    wrong = is_depthwise(source)  # hls4ml fuses it into a kernel of the wrong shape
    if wrong:
        silently = "hls4ml makes it a kernel of the wrong shape: most outputs differ"
    severity: Severity = "refused" if wrong else "reported"
    if partner is None:
        return Violation(layer.name, "class", problem, fix, silently, severity=severity)
    exact = exactly_folded(partner, layer) is not None
    return Violation(
        layer.name,
        "class",
        problem if not exact else f"{kind} stays a separate layer, although its factors are powers of two",
        fix,
        silently,
        "norm" if exact else "requantize" if _values_of(partner, layer) is not None else None,
        severity=severity,
    )


def stored_weights(layer: Any) -> Folded | None:
    """The weights that a QConv2DBatchnorm multiplies by; None when its kernel lies on no grid of at most 24 bits."""
    kernel, bias = (np.asarray(value) for value in layer.get_folded_weights())
    setting = next(name for name in weight_quantizers(layer) if name != "bias_quantizer")
    quantizer, rounds_bias = weight_quantizers(layer)[setting], getattr(layer, "bias_quantizer_internal", None)
    if quantizer is None:
        return None
    values = np.asarray(quantizer(kernel), np.float64)
    added = np.asarray(bias if rounds_bias is None else rounds_bias(bias), np.float64)
    grid, bias_grid = covering_grid(values), covering_grid(added)
    if grid is None or (rounds_bias is not None and bias_grid is None):
        return None
    return Folded(values, grid, added, bias_grid)


def partner_of(model: Any, norm: Any) -> Any | None:
    """The layer that can take in a BatchNormalization: quantized, linear, and read by nobody else."""
    calls = calls_of(model)
    if len(calls[norm.name]) != 1 or list(norm.axis) != [len(norm.input_shape) - 1]:
        return None
    source = calls[norm.name][0].keras_inputs[0]
    partner = source._keras_history[0]
    readers = [
        name for name, own in calls.items() for call in own if any(source is taken for taken in call.keras_inputs)
    ]
    activation = getattr(getattr(partner, "activation", None), "__name__", "linear")
    fits = type(partner).__name__ in _PARTNERS and activation == "linear" and readers == [norm.name]
    return partner if fits and not any(source is output for output in model.outputs) else None


def exactly_folded(partner: Any, norm: Any) -> Folded | None:
    """Both folded, where the products lie on short grids: the same function. None where they do not."""
    values = _values_of(partner, norm)
    if values is None:
        return None
    kernel, bias = values
    grid, bias_grid = covering_grid(kernel), covering_grid(bias)
    return Folded(kernel, grid, bias, bias_grid) if grid is not None and bias_grid is not None else None


def rounded_again(partner: Any, norm: Any) -> Folded:
    """Both folded, the products rounded to as many bits as the layer's own numbers have."""
    values = _values_of(partner, norm)
    assert values is not None  # else it would not be marked as repairable
    kernel, bias = values
    quantizers = weight_quantizers(partner)
    setting = next(name for name in quantizers if name != "bias_quantizer")
    bits, bias_bits = (_bits(quantizers.get(name)) for name in (setting, "bias_quantizer"))
    depthwise = is_depthwise(partner)
    code = fit_code(kernel, WeightConfig(weight_bits=bits, granularity="per-channel"), depthwise=depthwise)
    kernel = code.round(kernel)
    bias = snap(bias, choose_format(bias, max(bias_bits, 8), "max"))  # a bias of fewer bits costs more than it saves
    grid, bias_grid = covering_grid(kernel), covering_grid(bias)
    assert grid is not None and bias_grid is not None  # both are codes of at most 16 bits
    return Folded(kernel, grid, bias, bias_grid)


def _bits(quantizer: Any) -> int:
    return min(max(int(getattr(quantizer, "bits", 8)), 2), _LONGEST_BITS)


def _values_of(partner: Any, norm: Any) -> tuple[Array, Array] | None:
    """Kernel and bias after both layers, in float64."""
    quantizers = weight_quantizers(partner)
    rounded = {setting: _rounded(partner, setting, quantizer) for setting, quantizer in quantizers.items()}
    kernel = next(value for setting, value in rounded.items() if setting != "bias_quantizer")
    bias = rounded.get("bias_quantizer", np.zeros(norm.input_shape[-1]))
    scale, added = batch_norm_of(norm)
    if not all(np.isfinite(value).all() for value in (kernel, bias, scale)):
        return None
    outputs = kernel.shape[2:] if is_depthwise(partner) else kernel.shape[-1:]
    return kernel * scale.reshape(outputs), bias * scale + added


def _rounded(layer: Any, setting: str, quantizer: Any) -> Array:
    weight = getattr(layer, WEIGHT_OF[setting])
    return np.asarray(weight if quantizer is None else quantizer(weight), np.float64)


def take_in(draft: Draft, model: Any, layer: str, *, exact: bool) -> str:
    """Fold one of `norms`' layers; what was done.

    Args:
        draft: of `model`.
        model: the model that the violation was found in.
        layer: a folded layer of QKeras' own, or a BatchNormalization.
        exact: False rounds the products again.
    """
    norm = draft.layers[layer]
    kind = type(norm).__name__
    if kind in FOLDED:
        folded = stored_weights(norm)
        assert folded is not None  # else it would not be marked as repairable
        _become_plain(draft, norm)
        _store(draft, norm, folded)
        return f"layer {layer!r}: {kind} is now {FOLDED[kind]} with the folded weights, {_grids(folded)}"
    partner = partner_of(model, norm)
    maybe = exactly_folded(partner, norm) if exact else rounded_again(partner, norm)
    assert partner is not None and maybe is not None
    draft.remove(layer)
    _store(draft, partner, maybe)
    how = "folded into" if exact else "folded into the weights, rounded again, of"
    return f"layer {layer!r}: {how} layer {partner.name!r}, {_grids(maybe)}"


def _become_plain(draft: Draft, layer: Any) -> None:
    kind = FOLDED[type(layer).__name__]
    settings = getattr(runtime().qkeras, kind).get_config(layer)
    entry = draft.entry(layer.name)
    draft.become(layer.name, kind)
    entry["config"] = {key: value for key, value in entry["config"].items() if key in settings}


def _store(draft: Draft, layer: Any, folded: Folded) -> None:
    config = draft.config(layer.name)
    setting = "depthwise_quantizer" if is_depthwise(layer) else "kernel_quantizer"
    config[setting] = grid_text(folded.kernel_grid)
    config["bias_quantizer"] = None if folded.bias_grid is None else grid_text(folded.bias_grid)
    config["use_bias"] = True
    draft.weights[layer.name] = [folded.kernel.astype(np.float32), folded.bias.astype(np.float32)]


def _grids(folded: Folded) -> str:
    bias = "float" if folded.bias_grid is None else grid_text(folded.bias_grid)
    return f"kernel {grid_text(folded.kernel_grid)}, bias {bias}"
