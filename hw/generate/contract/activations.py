"""Rules for activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hw.generate.contract.classes import FLOAT_ACTIVATIONS, judged_layers
from hw.generate.contract.violation import Violation, plain
from qmodels.layers import MOVING, calls_of, reads_input

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
    "quantized_bits": {"alpha": (1, None), "qnoise_factor": (1.0,)},
    "quantized_tanh": {"use_real_tanh": (False,)},
    "quantized_sigmoid": {"use_real_sigmoid": (False,), "symmetric": (False,)},
}
#: What ends a classifier, and nothing else is lost with it.
HEADS = ("softmax", "sigmoid")
_INSTEAD = {"softmax": "Activation('softmax') there, or logits", "sigmoid": "quantized_sigmoid"}
#: Layers from which hls4ml does not take one.
_STOPS = {
    "QActivation": "the conversion stops: it knows quantizers only",
    "Softmax": "the generated C++ does not compile: it gets two names",
}
#: Activations that hls4ml computes, in tables or with a parameter, and that bitsim reproduces: not those of Keras.
_TABLES = ("tanh", "elu", "selu", "softplus", "softsign", "hard_sigmoid", *FLOAT_ACTIVATIONS)
_SILENTLY = {
    "negative_slope": "it computes something else in about a quarter of the outputs, or stops",
    "symmetric": "about a third of the outputs differ",
    "use_sigmoid": "the sigmoid is left out",
    "relu_upper_bound": "the bound is left out",
    "qnoise_factor": "the float part of the value is lost",
    "alpha": "outputs differ in their last bits",
    "use_real_tanh": "it is read from a table and differs",
    "use_real_sigmoid": "it is read from a table and differs",
}


def activation_of(layer: Any) -> tuple[str, Any]:
    """Kind and object of a layer's activation or quantizer; ("NoneType", None) when it has none."""
    activation = getattr(layer, "quantizer", None) or getattr(layer, "activation", None)
    if isinstance(activation, str):  # QActivation("softmax") keeps the text beside the function
        return activation.partition("(")[0], activation
    return getattr(activation, "__name__", type(activation).__name__), activation


def head_of(layer: Any) -> str:
    """ "softmax" or "sigmoid", where a layer ends in one; else ""."""
    kind = "softmax" if type(layer).__name__ == "Softmax" else activation_of(layer)[0]
    return kind if kind in HEADS else ""


def heads(model: Any, backend: str) -> Iterator[Violation]:
    """A softmax or sigmoid is read from tables."""
    calls = calls_of(model)
    for layer in judged_layers(model):
        kind = head_of(layer)
        if not kind:
            continue
        last = any(call.outputs is output for call in calls[layer.name] for output in model.outputs)
        stops = type(layer).__name__ in _STOPS
        yield Violation(
            layer.name,
            "activation",
            f"{kind} is never bit-exact in hls4ml",
            "end the model in logits" if last else f"use {_INSTEAD[kind]}",
            _STOPS[type(layer).__name__] if stops else "it is read from tables and differs in almost every output",
            "head" if last else None,
            severity="refused" if stops else "reported",
            stops_bit_exact=kind == "sigmoid",
        )


def activations(model: Any, backend: str) -> Iterator[Violation]:
    """Activations that are not exact, and settings of those that are."""
    for layer in judged_layers(model):
        kind, activation = activation_of(layer)
        if head_of(layer):
            continue
        if type(layer).__name__ in FLOAT_ACTIVATIONS:
            kind = type(layer).__name__
        if kind not in _ACTIVATIONS:
            yield _unknown(layer, kind)
            continue
        holder = {"QActivation": "Activation", "Activation": "QActivation"}.get(type(layer).__name__)
        if holder is not None and kind.startswith("quantized_") != (holder == "Activation"):
            problem = f"{type(layer).__name__} contains {kind}, which hls4ml does not read from it"
            yield Violation(layer.name, "class", problem, f"use {holder} for {kind}", "the conversion stops")
        for setting, exact in _ACTIVATIONS[kind].items():
            value = plain(getattr(activation, setting, exact[0]))
            if value not in exact:
                yield Violation(
                    layer.name,
                    f"{kind}.{setting}",
                    f"{kind} with {setting}={value!r} is not reproduced exactly by hls4ml",
                    f"set {setting}={exact[0]!r}",
                    _SILENTLY[setting],
                    severity="reported",
                    stops_bit_exact=setting == "negative_slope",
                )


def _unknown(layer: Any, kind: str) -> Violation:
    known = kind in _TABLES and type(layer).__name__ != "QActivation"
    return Violation(
        layer.name,
        "activation",
        f"activation {kind} is not reproduced exactly by hls4ml",
        "allowed: quantized_relu, quantized_bits(..., alpha=1), quantized_tanh, quantized_sigmoid, relu, linear",
        "it is read from a table, or left out" if known or kind == "binary" else "the conversion stops",
        severity="reported" if known or kind == "binary" else "refused",
        stops_bit_exact=known and kind != "LeakyReLU",
    )


def whole_numbers(model: Any, backend: str) -> Iterator[Violation]:
    """Activations without a fractional bit become ap_int, whose assignment neither rounds nor saturates."""
    for layer in judged_layers(model):
        kind, activation = activation_of(layer)
        if kind not in ("quantized_relu", "quantized_bits"):
            continue
        bits, integer = int(activation.bits), int(activation.integer)
        signed = int(kind == "quantized_bits" and bool(plain(activation.keep_negative)))
        if bits - integer - signed >= 1:
            continue
        yield Violation(
            layer.name,
            f"{kind}.integer",
            f"{kind}({bits}, {integer}) has no fractional bit, and hls4ml makes it ap_{'' if signed else 'u'}int",
            f"use {kind}({integer + signed + 1}, {integer}), with one fractional bit"
            + (f", or integer={bits - signed - 1}" if bits - signed >= 1 else ""),
            "it neither rounds nor saturates: almost every output differs",
            severity="reported",
        )


def merged_roundings(model: Any, backend: str) -> Iterator[Violation]:
    """Two roundings in a row: hls4ml makes the second one the type of the first layer's output."""
    calls = calls_of(model)
    for layer in judged_layers(model):
        if type(layer).__name__ != "QActivation" or activation_of(layer)[0] != "quantized_bits":
            continue
        for call in calls[layer.name]:
            source, source_call = _made_by(call)
            kind = activation_of(source)[0]
            is_grid = source_call is not None and reads_input(source_call, model)
            if kind.startswith("quantized_") and not is_grid:
                yield Violation(
                    layer.name,
                    "input",
                    f"quantized_bits directly behind {kind} of {source.name!r}: of two roundings hls4ml keeps one",
                    "remove one of the two",
                    "almost every output differs",
                    severity="reported",
                )


def _made_by(call: Any) -> tuple[Any, Any]:
    """The layer whose numbers a call reads, and that layer's own call; layers that hls4ml leaves out are skipped."""
    source, index, _ = call.keras_inputs[0]._keras_history
    own = source.inbound_nodes[index] if source.inbound_nodes else None
    if type(source).__name__ in MOVING and own is not None:
        return _made_by(own)
    return source, own
