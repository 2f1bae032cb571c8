"""The exactness contract: what hls4ml 1.3.0 reproduces bit for bit. Everything else is refused here, by name."""

from __future__ import annotations

import re
from typing import Any

from qmodels.errors import UserError
from qmodels.quantize.layers import WEIGHTED

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: `input` is hls4ml's own; the rest would not compile as C++ names.
RESERVED = frozenset(
    "input output auto bool break case catch char class const continue default delete do double else enum explicit "
    "export extern false float for friend goto if inline int long mutable namespace new operator private protected "
    "public register return short signed sizeof static struct switch template this throw true try typedef typename "
    "union unsigned using virtual void volatile while main model nnet result".split()
)


def check_contract(model: Any) -> None:
    """Raise UserError naming the first layer and setting that hls4ml would not reproduce exactly."""
    for layer in model.layers:
        check_layer_name(layer.name)
        kind = type(layer).__name__
        if kind in WEIGHTED:
            raise UserError(f"layer {layer.name!r}: {kind} has float weights; use Q{kind}")
        for setting, quantizer in _quantizers(layer):
            _check_quantizer(layer.name, setting, quantizer)
        _check_activation(layer)
    _check_input(model)


def check_layer_name(name: str) -> None:
    """Layer names become C++ names and file names."""
    if _IDENTIFIER.fullmatch(name) is None or name in RESERVED:
        raise UserError(
            f"layer name {name!r} cannot be used: hls4ml makes it a C++ name; allowed: a letter, then letters, "
            f"digits and _, and none of the reserved words ('input', C++ keywords)"
        )


def _quantizers(layer: Any) -> list[tuple[str, Any]]:
    names = ("kernel_quantizer_internal", "depthwise_quantizer_internal", "bias_quantizer_internal")
    found = [(name.removesuffix("_internal"), getattr(layer, name, None)) for name in names if hasattr(layer, name)]
    if type(layer).__name__.startswith(("QDense", "QConv", "QDepthwise")):
        used = {name for name, quantizer in found if quantizer is not None}
        needed = {"bias_quantizer"} if layer.use_bias else set()
        needed |= {"depthwise_quantizer"} if hasattr(layer, "depthwise_quantizer_internal") else {"kernel_quantizer"}
        for name in sorted(needed - used):
            raise UserError(
                f"layer {layer.name!r}: {name} is missing, hls4ml would use ap_fixed<16,6>; "
                f"set {name}=quantized_bits(bits, integer, alpha=1)"
            )
    return [(name, quantizer) for name, quantizer in found if quantizer is not None]


def _check_quantizer(layer: str, setting: str, quantizer: Any) -> None:
    kind = type(quantizer).__name__
    alpha = getattr(quantizer, "alpha", None)
    if kind not in ("quantized_bits", "ternary"):
        raise UserError(
            f"layer {layer!r}: {setting} {kind} is not reproduced exactly by hls4ml; "
            f"allowed: quantized_bits(..., alpha=1), ternary(alpha=1)"
        )
    if isinstance(alpha, str) or alpha is None or not _power_of_two(float(alpha)):
        raise UserError(
            f"layer {layer!r}: {setting} has alpha={alpha!r}, which hls4ml rounds differently; set alpha=1 "
            f"or a power of two"
        )


def _check_activation(layer: Any) -> None:
    activation = getattr(layer, "quantizer", None) or getattr(layer, "activation", None)
    kind = getattr(activation, "__name__", type(activation).__name__)
    if kind == "softmax" or type(layer).__name__ == "Softmax":
        raise UserError(f"layer {layer.name!r}: softmax is never bit-exact in hls4ml; end the model in logits")
    if kind not in _ACTIVATIONS:
        raise UserError(
            f"layer {layer.name!r}: activation {kind} is not reproduced exactly by hls4ml; allowed: quantized_relu, "
            f"quantized_bits(..., alpha=1), quantized_tanh, quantized_sigmoid, relu, linear"
        )
    for setting, exact in _ACTIVATIONS[kind].items():
        value = getattr(activation, setting, exact[0])
        if value not in exact:
            raise UserError(
                f"layer {layer.name!r}: {kind} with {setting}={value!r} is not reproduced exactly by hls4ml; "
                f"set {setting}={exact[0]!r}"
            )


#: Activations that are exact, and the settings they must have (first: what to set). Measured with bit_exact=True.
_ACTIVATIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "NoneType": {},
    "linear": {},
    "relu": {},
    "quantized_relu": {"negative_slope": (0.0,)},
    "quantized_bits": {"alpha": (1, None), "symmetric": (0,), "keep_negative": (True,)},
    "quantized_tanh": {},
    "quantized_sigmoid": {},
}


def _power_of_two(value: float) -> bool:
    return value > 0 and float(value).hex().split("p")[0] in ("0x1.0000000000000", "0x1.0")


def _check_input(model: Any) -> None:
    """The first layer must round the input; without it hls4ml truncates to ap_fixed<16,6>."""
    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    quantizer = getattr(first, "quantizer", None)
    if type(first).__name__ != "QActivation" or type(quantizer).__name__ != "quantized_bits":
        raise UserError(
            f"model {model.name}: the first layer must be QActivation(quantized_bits(9, 0, alpha=1)); "
            f"without it hls4ml truncates the input (found: {getattr(first, 'name', 'no layer')!r})"
        )
