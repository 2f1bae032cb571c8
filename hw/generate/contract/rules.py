"""The rules: each looks at a model and yields what breaks the contract. Measured with hls4ml 1.3.0, QKeras 0.9.0.

hls4ml itself raises for few of these. Most give a project that compiles, runs and computes something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from hw.generate.contract.activations import activation_of, activations, heads, merged_roundings, whole_numbers
from hw.generate.contract.classes import causal, classes, judged_layers, settings
from hw.generate.contract.names import NAME_RULE, PARTS, is_free_name
from hw.generate.contract.norms import norms
from hw.generate.contract.quantizers import (
    float_weights,
    missing_quantizers,
    noisy_weights,
    scaled_biases,
    scaled_weights,
    unknown_quantizers,
)
from hw.generate.contract.violation import Rule, Violation
from qmodels.errors import UserError
from qmodels.layers import calls_of, reads_input
from qmodels.quantize.averages import unrounded_averages
from qmodels.quantize.limits import CALLS, limits

#: Whether the model must equal the accelerator on every bit, or how much they differ is measured and told.
Exactness = Literal["required", "reported"]


def contract(model: Any, backend: str = "Vitis") -> tuple[Violation, ...]:
    """Everything in a Keras model that hls4ml would not reproduce bit for bit; empty: the contract is fulfilled.

    Each violation has a grade: "repairable" (`repair_model` mends it), "refused" (there is no accelerator worth a
    look), or "reported": the accelerator is well defined, bitsim and csim agree on it, the model may differ from it.

    Args:
        model: a Keras or QKeras model.
        backend: hls4ml's name of the backend: some layers are exact on one and not on another.
    """
    return tuple(violation for rule in RULES for violation in rule(model, backend))


def check_contract(model: Any, backend: str = "Vitis", *, exactness: Exactness = "required") -> None:
    """Raise UserError naming every layer and setting that hls4ml would not reproduce exactly.

    Args:
        model: a Keras or QKeras model.
        backend: hls4ml's name of the backend.
        exactness: "reported" lets through what is well defined, though the model may differ from the accelerator.
    """
    found = contract(model, backend)
    stopping = [violation for violation in found if exactness == "required" or violation.severity == "refused"]
    if not stopping:
        return
    intro = "" if len(stopping) == 1 else f"model {model.name}: {len(stopping)} settings break exactness:\n  - "
    raise UserError(intro + "\n  - ".join(map(str, stopping)) + _hints(stopping, found))


def _hints(stopping: list[Violation], found: tuple[Violation, ...]) -> str:
    """What a user can do at once: repair, or accept that the model differs."""
    if any(violation.blocks_repair for violation in found):
        return ""
    hints, total = "", len(stopping)
    exact = sum(violation.repair not in (None, "requantize") for violation in stopping)
    rounded = sum(violation.repair == "requantize" for violation in stopping)
    if exact:
        hints += f"\n{exact} of {total} can be fixed without changing the model's outputs: add --repair"
    if rounded:
        hints += f"\n{rounded} of {total} can be fixed by rounding weights again, which changes outputs: add --repair"
    if all(violation.severity == "reported" for violation in stopping):
        hints += (
            "\nWith exactness: reported the accelerator is made and simulated as it is, and the difference is reported"
        )
    return hints


def _names(model: Any, backend: str) -> Iterator[Violation]:
    inputs = list(model.input_names)
    clashing = {f"{layer.name}_{part}" for layer in model.layers for part in PARTS}
    for layer in model.layers:
        if layer.name in clashing and type(layer).__name__ != "QActivation":  # whose type has a number for a name
            of, _, part = layer.name.rpartition("_")
            problem = f"it has the name that hls4ml gives the type of {part} of layer {of!r}"
            silently = "of the two types the first is taken for both: outputs differ"
            yield Violation(layer.name, "name", problem, "rename the layer", silently, "name")
    for name in dict.fromkeys([*inputs, *(layer.name for layer in model.layers)]):
        if not is_free_name(name, inside=name not in inputs):
            silently = "the generated C++ does not compile, or means another variable"
            problem = f"the name cannot be used: hls4ml makes it a C++ name; allowed: {NAME_RULE}"
            yield Violation(name, "name", problem, "rename the layer", silently, "name")


def _input(model: Any, backend: str) -> Iterator[Violation]:
    """What reads the input must round it; without that hls4ml truncates to ap_fixed<16,6>."""
    calls = calls_of(model)
    readers = [layer for layer in model.layers if any(reads_input(call, model) for call in calls[layer.name])]
    first = next((layer for layer in readers if not _rounds_input(layer)), None)
    if first is not None or not readers:
        yield Violation(
            "",
            "input",
            f"model {model.name}: the first layer must be QActivation(quantized_bits(bits, integer, alpha=1)) with the "
            "format of the data, quantized_bits(9, 0, alpha=1) for pixels k/256; without it hls4ml truncates the input "
            f"(found: {getattr(first, 'name', 'no layer')!r})",
            "add that layer",
            "almost every output differs, or the conversion stops at 'unexpected input layer chain'",
            "input",
            severity="reported",
            stops_bit_exact=True,
        )


def unrounded_inputs(model: Any) -> list[str]:
    """Names of the inputs that a layer reads without rounding them first."""
    calls = calls_of(model)
    return [
        name
        for name, image in zip(model.input_names, model.inputs, strict=True)
        if any(
            taken is image and not _rounds_input(layer)
            for layer in model.layers
            for call in calls[layer.name]
            for taken in call.keras_inputs
        )
    ]


def _rounds_input(layer: Any) -> bool:
    quantizer = type(getattr(layer, "quantizer", None)).__name__
    return type(layer).__name__ == "QActivation" and quantizer == "quantized_bits"


def _ports(model: Any, backend: str) -> Iterator[Violation]:
    if len(model.outputs) != 1:
        problem = f"model {model.name}: it has {len(model.outputs)} outputs; attacks and the test bench judge one"
        silently = "only the first one would be compared"
        fix = "choose one, or join them: keras.Model(model.inputs, Concatenate()(model.outputs))"
        yield Violation("", "output", problem, fix, silently, blocks_repair=True)


def _averages(model: Any, backend: str) -> Iterator[Violation]:
    if any(limit.setting == CALLS for limit in limits(model)):
        return  # refused already, and a layer's output would not be one tensor
    for layer in unrounded_averages(model, lambda reader: type(reader).__name__ == "QActivation"):
        problem = f"{type(layer).__name__} divides by a number that is no power of two, and nothing rounds the quotient"
        fix = "put QActivation(quantized_relu(...)) or QActivation(quantized_bits(..., alpha=1)) behind it"
        silently = "outputs differ in their last bits"
        yield Violation(layer.name, "pool_size", problem, fix, silently, severity="reported")


#: Kinds of layers that are exact on Vitis and Vivado, and not on another backend.
_INEXACT = {
    "Catapult": {"AveragePooling": "use MaxPooling", "Average": "use Add"},
    "Quartus": {
        "AveragePooling": "use MaxPooling",
        "Depthwise": "use QConv2D or QConv1D",
        "Separable": "use QConv2D or QConv1D",
    },
}


def _backend_limits(model: Any, backend: str) -> Iterator[Violation]:
    """What is exact on Vitis and Vivado, and not on others."""
    for layer in judged_layers(model):
        kind = type(layer).__name__
        fix = next((fix for part, fix in _INEXACT.get(backend, {}).items() if part in kind), None)
        if fix is not None:
            problem = f"{kind} is not exact on the backend {backend}"
            silently = "almost every output differs, or the C simulation crashes"
            yield Violation(layer.name, "backend", problem, f"{fix}, or backend Vitis", silently)
        if backend == "Catapult" and activation_of(layer)[0] == "quantized_sigmoid":
            problem = "quantized_sigmoid is wrong on the backend Catapult"
            yield Violation(layer.name, "backend", problem, "use quantized_relu, or backend Vitis", "outputs differ")


RULES: tuple[Rule, ...] = (
    _names,
    _ports,
    classes,
    settings,
    causal,
    norms,
    float_weights,
    missing_quantizers,
    unknown_quantizers,
    scaled_weights,
    scaled_biases,
    noisy_weights,
    heads,
    activations,
    whole_numbers,
    merged_roundings,
    _input,
    _averages,
    _backend_limits,
)
