"""QKeras quantizers in a file: their numbers are checked, and those in activation layers are written as texts.

`QActivation(quantized_relu(6))` is stored as an object, which tf_keras reads back from HDF5 only. The text
`QActivation("quantized_relu(6,0)")` means the same and is read back from every format.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmodels.errors import UserError
from qmodels.loading.tree import Json, nodes
from qmodels.runtime import runtime

#: Quantizers, and the settings that they take by position.
QUANTIZERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("quantized_bits", "quantized_relu", "quantized_ulaw", "quantized_hswish"), ("bits", "integer")),
    **dict.fromkeys(("quantized_tanh", "quantized_sigmoid"), ("bits",)),
    **dict.fromkeys(("quantized_po2", "quantized_relu_po2"), ("bits", "max_value")),
    **dict.fromkeys(("bernoulli", "ternary", "stochastic_ternary", "stochastic_binary"), ("alpha",)),
    "binary": ("use_01", "alpha"),
}
_BITS = {"quantized_po2": 16, "quantized_relu_po2": 16}  # bits of an exponent: QKeras takes 2 to its power
_MAX_BITS = 64
_LARGEST = 1e9
#: What is no number in a quantizer's text, and no calculation: True, auto_po2, 'auto'.
_WORD = re.compile(r"""[\w '".:/-]*""")
_TEXT = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
#: What the config of a quantizer holds and its class does not take, with the value that it always has.
_FIXED = {("quantized_hswish", "keep_negative"): True}


def check_quantizers(architecture: Json, path: Path) -> None:
    """See that no quantizer has settings that would take for ever, or all memory; loads no TensorFlow.

    Raises:
        UserError: bits, integer bits or another number is out of all bounds, or a text holds something to calculate.
    """
    for layer, name, settings in _quantizers(architecture):
        for key, value in settings.items():
            allowed = _allowed(name, key)
            number = _number(value)
            calculated = number is None and isinstance(value, str) and not _WORD.fullmatch(value)
            if calculated or (number is None and key in ("bits", "integer")):
                raise UserError(
                    f"{path}: layer {layer!r}: {name} has {key}={str(value)[:40]}; allowed: a number"
                    + ("" if key in ("bits", "integer") else ", True, False, None, or a word such as 'auto'")
                )
            if number is not None and not (allowed[0] <= number <= allowed[1]):
                told = str(value)[:40]
                raise UserError(
                    f"{path}: layer {layer!r}: {name} has {key}={told}; allowed: {allowed[0]:g} to {allowed[1]:g}"
                )


def write_as_text(architecture: Json, path: Path) -> list[str]:
    """Give QActivation, and Activation with a quantizer, their quantizer as a text (in place).

    An `Activation` that quantizes becomes the QActivation that computes the same.

    Returns:
        names of the layers that were changed.

    Raises:
        UserError: a setting cannot be written as text, or is none of the quantizer's.
    """
    changed: list[str] = []
    for layer in [*nodes(architecture)]:
        if not isinstance(layer, dict) or layer.get("class_name") not in ("Activation", "QActivation"):
            continue
        held = layer["config"].get("activation")
        if not isinstance(held, dict):
            continue
        name = str(layer["config"].get("name"))
        layer["config"]["activation"] = text_of(held, f"{path}: layer {name!r}")
        if held["class_name"] in QUANTIZERS:
            layer["class_name"] = "QActivation"
            if "module" in layer:
                layer |= {"module": "qkeras.qlayers", "registered_name": "QActivation"}
        changed.append(name)
    return changed


def text_of(quantizer: Json, where: str) -> str:
    """The text that makes QKeras build a quantizer: `quantized_relu(6,0,negative_slope=0.25)`.

    Args:
        quantizer: `{"class_name": ..., "config": ...}`, as Keras stores it; of a function, its name.
        where: file and layer, for messages.
    """
    name, settings = str(quantizer["class_name"]), quantizer.get("config")
    if not isinstance(settings, dict):
        return str(settings) if name == "function" else name
    if name not in QUANTIZERS:
        raise UserError(f"{where}: an object of {name!r} is no activation; allowed: {', '.join(QUANTIZERS)}")
    defaults = inspect.signature(getattr(runtime().qkeras.quantizers, name)).parameters
    parts = [str(settings[key]) for key in ("bits", "integer") if key in settings]
    for key, value in settings.items():
        if key in ("bits", "integer") or _FIXED.get((name, key)) == value:
            continue
        if key not in defaults:
            raise UserError(f"{where}: {name} of QKeras 0.9 has no setting {key!r}; build the layer without it")
        if not isinstance(value, (bool, int, float, str, type(None))):
            raise UserError(f"{where}: {name} has one {key} per channel ({str(value)[:60]}); allowed: one number")
        if value != defaults[key].default:
            parts.append(f"{key}={value!r}")
    return f"{name}({','.join(parts)})"


def _quantizers(architecture: Json) -> Iterator[tuple[str, str, Json]]:
    """Layer, class and settings of every quantizer, be it an object or a text."""
    for layer in nodes(architecture):
        if not (isinstance(layer, dict) and isinstance(layer.get("config"), dict) and "name" in layer["config"]):
            continue
        name = str(layer["config"]["name"])
        for value in nodes({key: child for key, child in layer["config"].items() if key not in ("layers", "layer")}):
            if isinstance(value, dict) and value.get("class_name") in QUANTIZERS:
                settings = value.get("config")
                yield name, value["class_name"], settings if isinstance(settings, dict) else {}
            elif isinstance(value, str) and (found := _TEXT.fullmatch(value)) and found[1] in QUANTIZERS:
                yield name, found[1], _arguments(found[1], found[2])


def _arguments(name: str, text: str) -> Json:
    arguments: Json = {}
    for place, item in enumerate(text.split(",") if text.strip() else ()):
        key, equals, value = item.partition("=")
        named = QUANTIZERS[name][place] if place < len(QUANTIZERS[name]) else f"argument {place + 1}"
        arguments[key.strip() if equals else named] = value.strip() if equals else item.strip()
    return arguments


def _allowed(name: str, key: str) -> tuple[float, float]:
    if key == "bits":
        return 1, _BITS.get(name, _MAX_BITS)
    return (-_MAX_BITS, _MAX_BITS) if key == "integer" else (-_LARGEST, _LARGEST)


def _number(value: Any) -> float | None:
    """A setting's value where it is a number; infinity for a whole number beyond any float."""
    if not isinstance(value, (str, int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return None
