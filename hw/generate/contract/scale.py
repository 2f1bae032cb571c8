"""A power of two between the user's numbers and a model's: taken into the first weights, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hw.generate.contract.draft import Draft
from hw.generate.contract.rules import contract
from hw.generate.contract.violation import plain
from qmodels.formats import FixedPoint
from qmodels.layers import MOVING, calls_of
from qmodels.quantize.model import input_quantizer

#: Behind the input's quantizer these give what they get, or zeros.
_PASSING = (*MOVING, "Permute", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D")
#: The first weights of a layer: those that the input meets.
_FIRST_WEIGHTS = {
    **{kind: "kernel_quantizer" for kind in ("QDense", "QConv1D", "QConv2D")},
    **{kind: "depthwise_quantizer" for kind in ("QDepthwiseConv2D", "QSeparableConv1D", "QSeparableConv2D")},
}


def fold_scale(model: Any, shifts: Sequence[int], formats: Sequence[FixedPoint], backend: str = "Vitis") -> Any | None:
    """A copy of a model that takes numbers 2**shift times as large and gives the same outputs, bit for bit.

    The input's quantizer is widened and the first weights are divided, by the alpha of their quantizer: codes of the
    input, of the weights and of all sums stay what they were; only the binary point moves.

    Args:
        model: QKeras. What breaks the contract behind its first layers, and is converted bit-exactly all the same,
            stays as it is.
        shifts: of every input, how many binary places.
        formats: of every input's numbers, as they are now.
        backend: hls4ml's name of the backend.

    Returns:
        None where that is not exact: an input that meets something else than weights first, a quantizer of the input
        that is coarser than the format, a backend or a width on which it breaks the contract.
    """
    before = contract(model, backend)
    draft = Draft(model)
    for image, shift, fmt in zip(model.inputs, shifts, formats, strict=True):
        found = list(_first_layers(model, image)) if shift else []
        named = {getattr(layer, "name", "") for layer in found}
        broken = any(v.severity == "refused" or v.stops_bit_exact or v.layer in (*named, "") for v in before)
        if shift and (not found or None in found or broken):
            return None
        for layer in found:
            if not _moved(draft, layer, shift, fmt):
                return None
    folded = draft.build()
    return folded if contract(folded, backend) == before else None


def _moved(draft: Draft, layer: Any, shift: int, fmt: FixedPoint) -> bool:
    """Widen the input's quantizer, or divide the first weights; False where that is not exact."""
    if type(layer).__name__ != "QActivation":
        quantizer = draft.config(layer.name)[_FIRST_WEIGHTS[type(layer).__name__]]["config"]
        quantizer["alpha"] = float(plain(quantizer["alpha"])) * 2.0**-shift
        return True
    widened = _widened(layer.quantizer, shift, fmt)
    if widened is not None:
        draft.config(layer.name)["activation"] = input_quantizer(widened)
    return widened is not None


def _first_layers(model: Any, source: Any, rounded: bool = False) -> Iterator[Any]:
    """Quantizers of the input, and the layers with weights behind them; None where something else reads it."""
    calls = calls_of(model)
    for layer in model.layers:
        if not any(taken is source for call in calls[layer.name] for taken in call.keras_inputs):
            continue
        kind = type(layer).__name__
        if kind in _FIRST_WEIGHTS and rounded:
            yield layer
        elif kind == "QActivation" and not rounded:
            yield layer
            yield from _first_layers(model, layer.output, rounded=True)
        elif kind in _PASSING:
            yield from _first_layers(model, layer.output, rounded)
        elif kind != "InputLayer":
            yield None


def _widened(quantizer: Any, shift: int, fmt: FixedPoint) -> FixedPoint | None:
    """What the input's quantizer must round to; None if it would not be the identity on the data's format."""
    if type(quantizer).__name__ != "quantized_bits" or not plain(quantizer.keep_negative):
        return None
    bits, integer = int(quantizer.bits), int(quantizer.integer)
    if bits - integer - 1 < fmt.fraction or integer < fmt.integer - fmt.signed:
        return None
    moved = fmt._replace(integer=fmt.integer + shift)
    return moved if moved.integer - moved.signed >= 0 else None
