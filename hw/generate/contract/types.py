"""What hls4ml's conversion has to be told, so that more of Keras and QKeras is exact. `convert` calls these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.contract.activations import activation_of
from hw.generate.contract.violation import plain
from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.layers import calls_of

Bits = NDArray[Any]
#: What hls4ml takes where nothing else is said.
_DEFAULT = FixedPoint(16, 6, signed=True)


def set_activation_types(hls_config: dict[str, Any], model: Any) -> None:
    """Correct the types of `quantized_bits` activations in hls4ml's configuration, granularity "name".

    hls4ml 1.3.0 reads neither `symmetric` (the most negative number is left out: AP_SAT_SYM) nor `keep_negative=False`
    (an unsigned type). With the right types both are exact.
    """
    for layer in model.layers:
        kind, quantizer = activation_of(layer)
        if kind != "quantized_bits" or (plain(quantizer.keep_negative) and not plain(quantizer.symmetric)):
            continue
        own = layer.name if type(layer).__name__ == "QActivation" else f"{layer.name}_{kind}"
        entry = hls_config["LayerName"].get(own)
        if entry is not None:
            entry["Precision"]["result"] = str(format_of(quantizer))


def set_input_types(hls_config: dict[str, Any], model: Any, formats: Sequence[FixedPoint]) -> None:
    """Give the model's inputs a type, where no quantizer rounds them (a conversion without bit_exact).

    hls4ml's C++ feeds an LSTM's state to the multiplier of its input, so all get one type that holds each; behind
    a quantizer the state gets the quantizer's.

    Args:
        hls_config: hls4ml's configuration, granularity "name".
        model: Keras.
        formats: of every input, or one for all.
    """
    memories = [layer for layer in model.layers if type(layer).__name__ in ("LSTM", "QLSTM")]
    sources = {layer.name: calls_of(model)[layer.name][0].keras_inputs[0]._keras_history[0] for layer in memories}
    states = [name for name, source in sources.items() if source.name in model.input_names]
    for name, source in sources.items():
        if activation_of(source)[0] == "quantized_bits":
            hls_config["LayerName"][name]["Precision"] |= dict.fromkeys(
                ("result", "accum"), str(format_of(source.quantizer))
            )
    if states:
        integer = max(_DEFAULT.integer, *(fmt.integer + (not fmt.signed) for fmt in formats))
        fraction = max(_DEFAULT.fraction, *(fmt.fraction for fmt in formats))
        formats = [FixedPoint(integer + fraction, integer, signed=True)]
    names = [*model.input_names, *states]
    for name, fmt in zip(names, formats if len(formats) == len(names) else [formats[0]] * len(names), strict=True):
        hls_config["LayerName"][name]["Precision"]["result"] = str(fmt)


def format_of(quantizer: Any) -> FixedPoint:
    """The format of a `quantized_bits` with alpha=1: what it rounds to, how it saturates."""
    signed, symmetric = bool(plain(quantizer.keep_negative)), bool(plain(quantizer.symmetric))
    overflow = Overflow.SAT_SYM if signed and symmetric else Overflow.SAT
    return FixedPoint(int(quantizer.bits), int(quantizer.integer) + signed, signed, Rounding.RND_CONV, overflow)


def teach_bit_exact() -> None:
    """Tell hls4ml's bit_exact pass what zero padding and cropping produce; without it the conversion stops.

    hls4ml keeps such rules in a table of its own, by class of layer. Adding ours twice changes nothing.
    """
    from hls4ml.model import layers
    from hls4ml.model.optimizer.passes import bit_exact

    def rule(move: Callable[[Any, Bits], Bits]) -> Callable[[Any], tuple[Bits, ...]]:
        """Sign, integer and fractional bits of every element, moved as the numbers are."""
        return lambda layer: tuple(move(layer, bits) for bits in bit_exact.get_input_kifs(layer)[0])

    moves = {"ZeroPadding1D": _pad, "ZeroPadding2D": _pad, "Cropping1D": _crop, "Cropping2D": _crop}
    for kind, move in moves.items():
        bit_exact._produce_kif.register(getattr(layers, kind))(rule(move))


def _pad(layer: Any, bits: Bits) -> Bits:
    return np.pad(bits, (*_sides(layer, "pad"), (0, 0)))  # a zero needs no bits


def _crop(layer: Any, bits: Bits) -> Bits:
    sides = _sides(layer, "crop")
    kept = (slice(start, size - end) for (start, end), size in zip(sides, bits.shape, strict=False))
    return bits[tuple(kept)]


def _sides(layer: Any, what: str) -> list[tuple[int, int]]:
    """What is added or taken at the start and the end of each axis, channels left out."""
    pixels = len(layer.get_output_variable().shape) - 1
    names = [("top", "bottom"), ("left", "right")][-pixels:]
    return [(int(layer.attributes[f"{what}_{one}"]), int(layer.attributes[f"{what}_{other}"])) for one, other in names]
