"""Rules for the quantizers of weights and biases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hw.generate.contract.classes import FLOAT_WEIGHTS, judged_layers
from hw.generate.contract.violation import RepairKind, Violation, plain
from hw.generate.contract.weight_values import EXACT_WEIGHTS, weight_values

_QUANTIZED = ("QDense", "QConv", "QDepthwise", "QSeparable")
#: Layers whose scale hls4ml makes a layer of its own.
_SCALED_ALPHA = ("QDense", "QConv", "QSeparable")
_MISSING = "the numbers become ap_fixed<16,6>, rounded down"


def weight_quantizers(layer: Any) -> dict[str, Any]:
    """Quantizers of a QKeras layer's weights by setting name; None where there is none."""
    wanted = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer", "bias_quantizer")
    found = {name: getattr(layer, f"{name}_internal", None) for name in wanted if hasattr(layer, f"{name}_internal")}
    if not getattr(layer, "use_bias", True):
        found.pop("bias_quantizer", None)
    if "depthwise_quantizer" in found and "pointwise_quantizer" not in found:
        found.pop("kernel_quantizer", None)  # QDepthwiseConv2D inherits one that it never uses
    return found


def float_weights(model: Any, backend: str) -> Iterator[Violation]:
    """Layers whose weights nobody quantizes."""
    for layer in judged_layers(model):
        kind = type(layer).__name__
        if kind in FLOAT_WEIGHTS:
            problem = f"{kind} has float weights"
            fix = f"use Q{kind}"
            yield Violation(layer.name, "class", problem, fix, _MISSING, severity="reported", stops_bit_exact=True)


def missing_quantizers(model: Any, backend: str) -> Iterator[Violation]:
    """QKeras layers without one of their quantizers."""
    for layer in judged_layers(model):
        if not type(layer).__name__.startswith(_QUANTIZED):
            continue
        for setting, quantizer in weight_quantizers(layer).items():
            if quantizer is None:
                problem = f"{setting} is missing, hls4ml would use ap_fixed<16,6>"
                fix = f"set {setting}=quantized_bits(bits, integer, alpha=1)"
                wide = setting != "bias_quantizer"  # float products: bit_exact gives every one all of its bits
                yield Violation(layer.name, setting, problem, fix, _MISSING, severity="reported", stops_bit_exact=wide)


def unknown_quantizers(model: Any, backend: str) -> Iterator[Violation]:
    """Quantizers of weights that hls4ml does not reproduce."""
    for layer, setting, quantizer in _quantized_weights(model):
        kind = type(quantizer).__name__
        if kind in EXACT_WEIGHTS:
            continue
        problem = f"{setting} {kind} is not reproduced exactly by hls4ml"
        fix = "allowed: quantized_bits(..., alpha=1), ternary(alpha=1)"
        known = {
            "binary": "the accumulator overflows and most predictions change",
            "quantized_po2": "the generated C++ does not compile",
        }
        silently = known.get(kind, f"hls4ml prints a line and {_MISSING}")
        yield Violation(
            layer.name,
            setting,
            problem,
            fix,
            silently,
            _fold_if_exact(layer, setting, quantizer),
            severity="refused" if kind == "quantized_po2" else "reported",
            stops_bit_exact=kind in ("binary", "stochastic_binary"),
        )


def scaled_weights(model: Any, backend: str) -> Iterator[Violation]:
    """Quantizers that scale by anything but one power of two."""
    for layer, setting, quantizer in _quantized_weights(model):
        alpha = plain(getattr(quantizer, "alpha", None))
        if type(quantizer).__name__ not in EXACT_WEIGHTS or _is_power_of_two(alpha):
            continue
        problem, fix = (
            f"{setting} has alpha={alpha!r}, which hls4ml rounds differently",
            "set alpha=1 or a power of two",
        )
        silently = "the scale is rounded: weights are up to 0.07 off"
        if alpha is None:
            problem += " (QKeras makes it auto_po2)"
        refused = alpha in (None, "auto_po2") or isinstance(alpha, (list, tuple))
        if alpha in (None, "auto_po2"):
            silently = "the scale becomes a separate layer, or C++ that does not compile"
        if isinstance(alpha, (list, tuple)):
            problem = f"{setting} has a list as alpha, a scale for every channel, which hls4ml does not take"
            fix, silently = "set alpha=1 or a power of two, one number for the layer", "the conversion stops"
        yield Violation(
            layer.name,
            f"{setting}.alpha",
            problem,
            fix,
            silently,
            _fold_if_exact(layer, setting, quantizer),
            severity="refused" if refused else "reported",
        )


def scaled_biases(model: Any, backend: str) -> Iterator[Violation]:
    """A bias that is scaled by a power of two: hls4ml 1.3.0 rounds it again without the scale."""
    for layer, setting, quantizer in _quantized_weights(model):
        alpha = plain(getattr(quantizer, "alpha", None))
        is_scaled = setting == "bias_quantizer" and _is_power_of_two(alpha) and alpha != 1
        if is_scaled and type(layer).__name__.startswith(_SCALED_ALPHA):
            yield Violation(
                layer.name,
                f"{setting}.alpha",
                f"{setting} has alpha={alpha!r}: hls4ml takes out the kernel's scale and rounds the bias with alpha=1",
                "set alpha=1 and other integer bits, or more bits",
                "every output may differ",
                _fold_if_exact(layer, setting, quantizer),
                severity="reported",
            )


def noisy_weights(model: Any, backend: str) -> Iterator[Violation]:
    """Quantizers that let a part of the float weight through."""
    for layer, setting, quantizer in _quantized_weights(model):
        factor = getattr(quantizer, "qnoise_factor", None)
        if factor is not None and float(factor) != 1.0:
            problem = f"{setting} has qnoise_factor={float(factor)!r}: its weights are partly float"
            setting += ".qnoise_factor"
            silently = "the float part is lost"
            yield Violation(layer.name, setting, problem, "set qnoise_factor=1.0", silently, severity="reported")


def _quantized_weights(model: Any) -> Iterator[tuple[Any, str, Any]]:
    for layer in judged_layers(model):
        for setting, quantizer in weight_quantizers(layer).items():
            if quantizer is not None:
                yield layer, setting, quantizer


def _fold_if_exact(layer: Any, setting: str, quantizer: Any) -> RepairKind | None:
    return "fold" if weight_values(layer, setting, quantizer) is not None else None


def _is_power_of_two(alpha: Any) -> bool:
    if not isinstance(alpha, (int, float)):
        return False
    value = float(alpha)
    return value > 0 and value.hex().split("p")[0] in ("0x1.0000000000000", "0x1.0")
