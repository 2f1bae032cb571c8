"""Types in hls4ml's graph that are not hls4ml's: tighter weights, and the user's overrides.

hls4ml's `bit_exact` pass infers every type and overwrites those of its own configuration. So overrides are applied
after it, and held against what it proved: a kernel or bias must fit its type; narrower sums and results are told.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from hw.generate.contract import Violation
from hw.generate.hardware import HardwareConfig
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding

_WEIGHTS = {"weight": ("weight", "depthwise", "pointwise"), "bias": ("bias",)}


def tighten_weights(graph: Any) -> None:
    """Give every weight the fewest integer bits that hold its values.

    hls4ml 1.3.0 (`utils/qinterval.py`, minimal_kif) counts a zero as needing zero integer bits, so a kernel below one
    half that holds a zero, as most do, gets a wider type than its values: 3-bit codes of step 1/64 become 6 bits.
    """
    for layer in graph.get_layers():
        for weight in layer.get_weights():
            old = weight.type.precision
            if not hasattr(old, "integer") or not np.any(weight.data):
                continue
            fraction = old.width - old.integer
            width = _fewest_bits(weight.data, fraction, bool(old.signed))
            if width < old.width:
                new = copy.copy(old)  # other weights may share the old one
                new.width, new.integer = width, width - fraction
                weight.update_precision(new)


def tightest(weights: Any) -> FixedPoint:
    """The type that weights have after hls4ml's inference and `tighten_weights`."""
    from hls4ml.model.optimizer.passes import bit_exact

    k, i, f = bit_exact.kif_arrs_to_ints(bit_exact.minimal_kif(weights))
    fmt = FixedPoint.from_hls4ml(bit_exact.to_hls4ml_fixed(k, i, f, "weight").precision)
    if not np.any(weights):
        return fmt
    width = min(fmt.width, _fewest_bits(weights, fmt.fraction, fmt.signed))
    return fmt._replace(width=width, integer=width - fmt.fraction)


def _fewest_bits(weights: Any, fraction: int, signed: bool) -> int:
    raw = np.rint(np.asarray(weights, np.float64) * 2.0**fraction)
    largest = int(max(raw.max(), -raw.min() - 1, 0))
    return max(largest.bit_length() + signed, 1 + signed)


def override_precisions(graph: Any, config: HardwareConfig) -> list[Violation]:
    """Put the config's types into the graph; what they may cost in exactness is returned.

    Raises:
        UserError: a type that cannot hold its weights, or one that the layer does not have.
    """
    found: list[Violation] = []
    for layer in graph.get_layers():
        own = config.of_layer(layer.name, graph).precision.model_dump(exclude_none=True)
        if any(name in layer.weights for name in _WEIGHTS["weight"]):
            own = config.precision.model_dump(exclude_none=True) | own
        for name, text in own.items():
            found += _override(layer, name, FixedPoint.parse(text), f"hardware.layers.{layer.name}.precision.{name}")
    return found


def _override(layer: Any, name: str, new: FixedPoint, key: str) -> list[Violation]:
    if name in _WEIGHTS:
        _override_weights(layer, name, new, key)
        return []
    holder = layer.get_output_variable().type if name == "result" else layer.get_attr("accum_t")
    if holder is None:
        raise UserError(f"{key}: layer {layer.name!r} ({layer.class_name}) has no {name} type")
    old = FixedPoint.from_hls4ml(holder.precision)
    if name == "result":
        _check_result(old, key)
    _retype(layer, holder, new)
    if new.fraction >= old.fraction and new.minimum <= old.minimum and new.maximum >= old.maximum:
        return []
    problem = f"{new} cannot represent every value of {old}, which hls4ml infers for exactness"
    fix = f"leave it out, or use one as wide as {old}"
    silently = "outputs differ where the values need the bits"
    return [Violation(layer.name, f"precision.{name}", problem, fix, silently, severity="reported")]


def _check_result(old: FixedPoint, key: str) -> None:
    if (old.rounding, old.overflow) != (Rounding.TRN, Overflow.WRAP):
        raise UserError(f"{key}: {old} is what the model's quantizer computes; change the quantizer in the model")


def _override_weights(layer: Any, name: str, new: FixedPoint, key: str) -> None:
    weights = [layer.weights[kind] for kind in _WEIGHTS[name] if kind in layer.weights]
    if not weights:
        raise UserError(f"{key}: layer {layer.name!r} ({layer.class_name}) has no {name}")
    for weight in weights:
        try:
            new.to_raw(np.asarray(weight.data, np.float64))
        except ValueError as error:
            needed = FixedPoint.from_hls4ml(weight.type.precision)
            raise UserError(f"{key}: {error}; every {name} of the layer needs {needed}") from None
        precision = hls4ml_precision(weight.type.precision, new)
        weight.update_precision(precision)
        for named in layer.types.values():
            if named.name == weight.type.name:
                named.precision = precision


def _retype(layer: Any, holder: Any, new: FixedPoint) -> None:
    """Every use of the type's name: in io_parallel a reshape shares its input's type, and C++ has one definition."""
    precision = hls4ml_precision(holder.precision, new)
    holder.precision = precision
    for other in layer.model.get_layers():
        shared = [*other.types.values(), *(variable.type for variable in other.variables.values())]
        for named in shared:
            if named.name == holder.name:
                named.precision = precision


def hls4ml_precision(like: Any, fmt: FixedPoint) -> Any:
    """hls4ml's precision object of a format, in the C++ dialect of `like`."""
    from hls4ml.backends.fpga.fpga_types import ACTypeConverter, APTypeConverter
    from hls4ml.model.types import FixedPrecisionType

    converter = ACTypeConverter() if type(like).__name__.startswith("AC") else APTypeConverter()
    modes = (fmt.rounding.value, fmt.overflow.value)
    return converter.convert(FixedPrecisionType(fmt.width, fmt.integer, fmt.signed, *modes))
