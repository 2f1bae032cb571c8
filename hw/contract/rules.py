"""The rules: each looks at a model and yields what breaks the contract. Measured with hls4ml 1.3.0, QKeras 0.9.0.

hls4ml itself raises for few of these. Most give a project that compiles, runs and computes something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hw.contract.names import is_free_name, name_problem
from qmodels.errors import UserError
from qmodels.quantize.averages import unrounded_averages
from qmodels.quantize.layers import WEIGHTED

RepairKind = Literal["input", "fold", "softmax"]


@dataclass(frozen=True)
class Violation:
    """One setting that hls4ml would not reproduce."""

    layer: str  # layer name, or "" for the model as a whole
    setting: str
    problem: str
    fix: str
    silently: str  # what hls4ml does with it when nobody checks
    repair: RepairKind | None = None  # which repair mends it without changing what the model computes

    def __str__(self) -> str:
        where = f"layer {self.layer!r}: " if self.layer else ""
        return f"{where}{self.problem}; {self.fix}. Unchecked, {self.silently}"


Rule = Callable[[Any, str], Iterator[Violation]]

#: Weight quantizers that are exact with alpha=1 or a power of two.
EXACT_WEIGHTS = ("quantized_bits", "ternary")
#: Others whose values lie on a power-of-two grid once their scale does: `fold` writes the values down.
FOLDABLE = (*EXACT_WEIGHTS, "binary", "quantized_po2")
_QUANTIZED = ("QDense", "QConv", "QDepthwise", "QSeparable")
_FLOAT_WEIGHTS = (*WEIGHTED, "DepthwiseConv1D", "SeparableConv1D", "SeparableConv2D", "Conv2DTranspose", "LSTM", "GRU")
_FLOAT_ACTIVATIONS = ("LeakyReLU", "PReLU", "ELU", "ThresholdedReLU")
#: Activations that are exact, and the settings they must have (first: what to set).
_ACTIVATIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "NoneType": {},
    "linear": {},
    "relu": {},
    "quantized_relu": {
        "negative_slope": (0.0,),
        "use_sigmoid": (0,),
        "relu_upper_bound": (None,),
        "qnoise_factor": (1.0,),
    },
    "quantized_bits": {"alpha": (1, None), "symmetric": (0,), "keep_negative": (True,), "qnoise_factor": (1.0,)},
    "quantized_tanh": {},
    "quantized_sigmoid": {},
}
_SILENTLY = {
    "negative_slope": "it computes something else in about a quarter of the outputs, or stops",
    "symmetric": "about a third of the outputs differ",
    "keep_negative": "most outputs differ",
    "use_sigmoid": "the sigmoid is left out",
    "relu_upper_bound": "the bound is left out",
    "qnoise_factor": "the float part of the value is lost",
    "alpha": "outputs differ in their last bits",
}
_MISSING = "the numbers become ap_fixed<16,6>, rounded down"


def violations(model: Any, backend: str = "Vitis") -> list[Violation]:
    """Everything in a Keras model that hls4ml would not reproduce bit for bit; empty: the contract is fulfilled.

    Args:
        model: a QKeras model.
        backend: hls4ml's name of the backend: some layers are exact on one and not on another.
    """
    return [violation for rule in RULES for violation in rule(model, backend)]


def check_contract(model: Any, backend: str = "Vitis") -> None:
    """Raise UserError naming every layer and setting that hls4ml would not reproduce exactly."""
    found = violations(model, backend)
    if not found:
        return
    mendable = sum(violation.repair is not None for violation in found)
    hint = f"\n{mendable} of {len(found)} can be mended without changing the model's outputs: add --repair"
    intro = "" if len(found) == 1 else f"model {model.name}: {len(found)} settings break exactness:\n  - "
    raise UserError(intro + "\n  - ".join(map(str, found)) + (hint if mendable else ""))


def activation_of(layer: Any) -> tuple[str, Any]:
    """Kind and object of a layer's activation or quantizer; ("NoneType", None) when it has none."""
    activation = getattr(layer, "quantizer", None) or getattr(layer, "activation", None)
    if isinstance(activation, str):  # QActivation("softmax") keeps the text beside the function
        return activation.partition("(")[0], activation
    return getattr(activation, "__name__", type(activation).__name__), activation


def weight_quantizers(layer: Any) -> dict[str, Any]:
    """Quantizers of a QKeras layer's weights by setting name; None where there is none."""
    wanted = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer", "bias_quantizer")
    found = {name: getattr(layer, f"{name}_internal", None) for name in wanted if hasattr(layer, f"{name}_internal")}
    if not getattr(layer, "use_bias", True):
        found.pop("bias_quantizer", None)
    if "depthwise_quantizer" in found and "pointwise_quantizer" not in found:
        found.pop("kernel_quantizer", None)  # QDepthwiseConv2D inherits one that it never uses
    return found


def is_softmax(layer: Any) -> bool:
    """Whether the layer ends in a softmax."""
    return type(layer).__name__ == "Softmax" or activation_of(layer)[0] == "softmax"


def _names(model: Any, backend: str) -> Iterator[Violation]:
    for layer in model.layers:
        if not is_free_name(layer.name):
            silently = "the generated C++ does not compile, or means another variable"
            yield Violation("", "name", name_problem(layer.name), "rename the layer", silently)


def _float_weights(model: Any, backend: str) -> Iterator[Violation]:
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in _FLOAT_WEIGHTS:
            yield Violation(layer.name, "class", f"{kind} has float weights", f"use Q{kind}", _MISSING)
        if kind in ("BatchNormalization", "QBatchNormalization"):
            problem = f"{kind} multiplies by a factor that is no fixed-point number"
            fix = "fold it into the weights of the layer before it, then quantize them"
            yield Violation(layer.name, "class", problem, fix, "outputs differ in their last bits")


def _missing_quantizers(model: Any, backend: str) -> Iterator[Violation]:
    for layer in model.layers:
        if not type(layer).__name__.startswith(_QUANTIZED):
            continue
        for setting, quantizer in weight_quantizers(layer).items():
            if quantizer is None:
                problem = f"{setting} is missing, hls4ml would use ap_fixed<16,6>"
                fix = f"set {setting}=quantized_bits(bits, integer, alpha=1)"
                yield Violation(layer.name, setting, problem, fix, _MISSING)


def _unknown_quantizers(model: Any, backend: str) -> Iterator[Violation]:
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
        yield Violation(layer.name, setting, problem, fix, silently, _fold_if_exact(layer, setting, quantizer))


def _scaled_weights(model: Any, backend: str) -> Iterator[Violation]:
    for layer, setting, quantizer in _quantized_weights(model):
        alpha = getattr(quantizer, "alpha", None)
        if type(quantizer).__name__ not in EXACT_WEIGHTS or _is_power_of_two(alpha):
            continue
        problem = f"{setting} has alpha={alpha!r}, which hls4ml rounds differently"
        if alpha is None:
            problem += " (QKeras makes it auto_po2)"
        silently = (
            "the scale becomes a layer of its own, or C++ that does not compile"
            if alpha in (None, "auto_po2")
            else "the scale is rounded: weights are up to 0.07 off"
        )
        fix = "set alpha=1 or a power of two"
        yield Violation(
            layer.name, f"{setting}.alpha", problem, fix, silently, _fold_if_exact(layer, setting, quantizer)
        )


def _noisy_weights(model: Any, backend: str) -> Iterator[Violation]:
    for layer, setting, quantizer in _quantized_weights(model):
        factor = getattr(quantizer, "qnoise_factor", None)
        if factor is not None and float(factor) != 1.0:
            problem = f"{setting} has qnoise_factor={float(factor)!r}: its weights are partly float"
            yield Violation(
                layer.name, f"{setting}.qnoise_factor", problem, "set qnoise_factor=1.0", "the float part is lost"
            )


def _softmax(model: Any, backend: str) -> Iterator[Violation]:
    for layer in model.layers:
        if is_softmax(layer):
            last = any(layer.output is output for output in model.outputs)
            yield Violation(
                layer.name,
                "activation",
                "softmax is never bit-exact in hls4ml",
                "end the model in logits",
                "it is read from tables and differs in almost every output",
                "softmax" if last else None,
            )


def _activations(model: Any, backend: str) -> Iterator[Violation]:
    for layer in model.layers:
        kind, activation = activation_of(layer)
        if is_softmax(layer):
            continue
        if type(layer).__name__ in _FLOAT_ACTIVATIONS:
            kind = type(layer).__name__
        if kind not in _ACTIVATIONS:
            problem = f"activation {kind} is not reproduced exactly by hls4ml"
            fix = (
                "allowed: quantized_relu, quantized_bits(..., alpha=1), quantized_tanh, quantized_sigmoid, relu, linear"
            )
            yield Violation(layer.name, "activation", problem, fix, "it is read from a table, or left out")
            continue
        for setting, exact in _ACTIVATIONS[kind].items():
            value = _plain(getattr(activation, setting, exact[0]))
            if value not in exact:
                problem = f"{kind} with {setting}={value!r} is not reproduced exactly by hls4ml"
                fix = f"set {setting}={exact[0]!r}"
                yield Violation(layer.name, f"{kind}.{setting}", problem, fix, _SILENTLY[setting])


def _whole_numbers(model: Any, backend: str) -> Iterator[Violation]:
    """Activations without a fractional bit become ap_int, whose assignment neither rounds nor saturates."""
    for layer in model.layers:
        kind, activation = activation_of(layer)
        if kind not in ("quantized_relu", "quantized_bits"):
            continue
        bits, integer = int(activation.bits), int(activation.integer)
        signed = int(kind == "quantized_bits" and bool(_plain(activation.keep_negative)))
        if bits - integer - signed >= 1:
            continue
        yield Violation(
            layer.name,
            f"{kind}.integer",
            f"{kind}({bits}, {integer}) has no fractional bit, and hls4ml makes it ap_{'' if signed else 'u'}int",
            f"use {kind}({integer + signed + 1}, {integer}), with one fractional bit"
            + (f", or integer={bits - signed - 1}" if bits - signed >= 1 else ""),
            "it neither rounds nor saturates: almost every output differs",
        )


def _input(model: Any, backend: str) -> Iterator[Violation]:
    """The first layer must round the input; without it hls4ml truncates to ap_fixed<16,6>."""
    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    quantizer = getattr(first, "quantizer", None)
    if type(first).__name__ != "QActivation" or type(quantizer).__name__ != "quantized_bits":
        yield Violation(
            "",
            "input",
            f"model {model.name}: the first layer must be QActivation(quantized_bits(9, 0, alpha=1)); "
            f"without it hls4ml truncates the input (found: {getattr(first, 'name', 'no layer')!r})",
            "add that layer",
            "almost every output differs, or the conversion stops at 'unexpected input layer chain'",
            "input",
        )


def _ports(model: Any, backend: str) -> Iterator[Violation]:
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            problem = f"model {model.name}: it has {len(tensors)} {what}s; the simulators and the test bench take one"
            yield Violation("", what, problem, f"give it one {what}", "only the first one would be compared")


def _averages(model: Any, backend: str) -> Iterator[Violation]:
    for layer in unrounded_averages(model, lambda reader: type(reader).__name__ == "QActivation"):
        problem = f"{type(layer).__name__} divides by a number that is no power of two, and nothing rounds the quotient"
        fix = "put QActivation(quantized_relu(...)) or QActivation(quantized_bits(..., alpha=1)) behind it"
        yield Violation(layer.name, "pool_size", problem, fix, "outputs differ in their last bits")


def _backend_limits(model: Any, backend: str) -> Iterator[Violation]:
    """Layers that are exact on Vitis and Vivado, and not on others."""
    for layer in model.layers:
        kind = type(layer).__name__
        if backend == "Catapult" and "AveragePooling" in kind:
            problem = f"{kind} is not exact on the backend Catapult"
            yield Violation(layer.name, "backend", problem, "use MaxPooling, or backend Vitis", "outputs differ")
        if backend == "Catapult" and activation_of(layer)[0] == "quantized_sigmoid":
            problem = "quantized_sigmoid is wrong on the backend Catapult"
            yield Violation(layer.name, "backend", problem, "use quantized_relu, or backend Vitis", "outputs differ")


RULES: tuple[Rule, ...] = (
    _names,
    _ports,
    _float_weights,
    _missing_quantizers,
    _unknown_quantizers,
    _scaled_weights,
    _noisy_weights,
    _softmax,
    _activations,
    _whole_numbers,
    _input,
    _averages,
    _backend_limits,
)


def _quantized_weights(model: Any) -> Iterator[tuple[Any, str, Any]]:
    for layer in model.layers:
        for setting, quantizer in weight_quantizers(layer).items():
            if quantizer is not None:
                yield layer, setting, quantizer


def _fold_if_exact(layer: Any, setting: str, quantizer: Any) -> RepairKind | None:
    from hw.contract.repair import folded_weights

    return "fold" if folded_weights(layer, setting, quantizer) is not None else None


def _is_power_of_two(alpha: Any) -> bool:
    if isinstance(alpha, str) or alpha is None:
        return False
    value = float(alpha)
    return value > 0 and value.hex().split("p")[0] in ("0x1.0000000000000", "0x1.0")


def _plain(value: Any) -> Any:
    """A TensorFlow variable's number; everything else as it is."""
    return float(value.numpy()) if hasattr(value, "numpy") else value
