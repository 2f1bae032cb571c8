"""Softmax: latency, stable, legacy and argmax, with their tables.

C++: nnet_activation.h (init_exp_table, init_invert_table, softmax_*); types as SoftmaxConfigTemplate resolves them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.simulate.bitsim.codes import SoftmaxKind
from hw.simulate.bitsim.lower.activation import Float, exp_float, index_actions
from hw.simulate.bitsim.lower.lowering import Handler, Lowering, from_float, precision_format, refuse
from hw.simulate.bitsim.program import Ints, Softmax, Value
from hw.simulate.bitsim.recipes import Action, Affine, Cast, Clamp, Recipe, recipe
from hw.simulate.bitsim.scalars import quantize
from qmodels.formats import FixedPoint

_KINDS = {kind.name.lower(): kind for kind in SoftmaxKind}
_DEFAULT = "model_default_t"


@dataclass(frozen=True)
class _Types:
    exp: FixedPoint
    inverse: FixedPoint
    accumulator: FixedPoint
    inverse_input: FixedPoint
    normalized: FixedPoint
    exp_size: int
    inverse_size: int
    scale: float


def _named(low: Lowering, layer: Any, name: str) -> tuple[str, FixedPoint]:
    named = layer.get_attr(name)
    if named is None:
        refuse(layer, f"a softmax without {name}")
    return str(named.name), precision_format(layer, named.precision)


def _types(low: Lowering, layer: Any, x: FixedPoint) -> _Types:
    """As in hls4ml's SoftmaxConfigTemplate.format."""
    get = layer.get_attr
    size = int(get("table_size", 1024))
    exp_size, inverse_size = int(get("exp_table_size", size)), int(get("inv_table_size", size))
    _, exp = _named(low, layer, "exp_table_t")
    _, inverse = _named(low, layer, "inv_table_t")
    _, accumulator = _named(low, layer, "accum_t")
    name, inverse_input = _named(low, layer, "inv_inp_t")
    if name == _DEFAULT:
        inverse_input = exp
    if str(get("implementation")) == "stable" and get("inp_norm_t") is not None:
        normalized = _named(low, layer, "inp_norm_t")[1]
    else:
        sign = int(x.signed)
        normalized = FixedPoint(x.width - sign, x.integer - sign, False)
        if sign and str(get("implementation")) == "stable":
            exp_size = min(inverse_size, 1 << normalized.width)
    return _Types(
        exp, inverse, accumulator, inverse_input, normalized, exp_size, inverse_size, float(get("exp_scale", 1.0))
    )


def _address_bits(size: int) -> int:
    """nnet::ceillog2."""
    return max(0, math.ceil(math.log2(size)))


def _top_bits(fmt: FixedPoint, size: int) -> tuple[Action, ...]:
    """softmax_idx_from_real_val: the top bits of the pattern, as a table index."""
    bits = _address_bits(size)
    pattern = Cast(FixedPoint(fmt.width, fmt.width, fmt.signed), FixedPoint(fmt.width, fmt.width, False))
    down = Cast(FixedPoint(fmt.width, bits, False), FixedPoint(bits, bits, False))
    return pattern, down


def _values(fmt: FixedPoint, size: int) -> list[np.float32]:
    """softmax_real_val_from_idx for every index: the index as the top bits."""
    bits = _address_bits(size)
    raws = [i << (fmt.width - bits) for i in range(size)]
    if fmt.signed:
        raws = [raw - (1 << fmt.width) if raw > fmt.raw_max else raw for raw in raws]
    return [Float(raw * 2.0**-fmt.fraction) for raw in raws]


def _exp_table(fmt: FixedPoint, types: _Types, negative: bool) -> Ints:
    sign = -1.0 if negative else 1.0
    points = [Float(float(x) * float(Float(types.scale))) for x in _values(fmt, types.exp_size)]
    return _quantized([float(exp_float(Float(sign * float(x)))) for x in points], types.exp)


def _inverse_table(types: _Types) -> Ints:
    with np.errstate(divide="ignore"):
        inverted = [float(Float(1) / x) for x in _values(types.inverse_input, types.inverse_size)]
    return _quantized(inverted, types.inverse)


def _quantized(numbers: list[float], fmt: FixedPoint) -> Ints:
    return np.array([from_float(x, fmt) for x in numbers], dtype=np.int64)


def _softmax(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    implementation = str(layer.get_attr("implementation", "stable")).lower()
    kind = _KINDS.get(implementation)
    if kind is None:
        refuse(layer, f"the implementation {implementation!r}")
    if int(layer.get_attr("n_inner", 1)) > 1:
        refuse(layer, "an axis that is not the last")
    n = source.shape[-1]
    declared = int(layer.get_attr("n_in", source.size)) // int(layer.get_attr("n_outer", 1))
    if declared != n and not low.stream:
        refuse(layer, f"softmax over {declared} of shape {source.shape}")
    if kind is SoftmaxKind.ARGMAX:
        _argmax(low, layer, source, out)
    elif kind is SoftmaxKind.LEGACY:
        _legacy(low, layer, source, out)
    else:
        _normalized(low, layer, source, out, kind)


_NOTHING = np.zeros(1, np.int64)


def _argmax(low: Lowering, layer: Any, source: Value, out: Value) -> None:
    low.emit(
        Softmax(
            source,
            out,
            SoftmaxKind.ARGMAX,
            _NOTHING,
            _NOTHING,
            0,
            Recipe(),
            recipe(Clamp(0, 0)),
            (0, 0),
            Recipe(),
            Recipe(),
            recipe(Cast(FixedPoint(2, 2), out.format, layer.name)),
        )
    )


def _normalized(low: Lowering, layer: Any, source: Value, out: Value, kind: SoftmaxKind) -> None:
    types, x = _types(low, layer, source.format), source.format
    stable = kind is SoftmaxKind.STABLE
    address = types.normalized if stable else x
    if _address_bits(types.exp_size) > address.width or _address_bits(types.inverse_size) > types.inverse_input.width:
        refuse(
            layer,
            f"tables of {types.exp_size} and {types.inverse_size} entries for {address} and {types.inverse_input}",
        )
    difference = FixedPoint(x.width + 1, x.integer + 1)
    accumulator = types.accumulator
    exps = _exp_table(address, types, stable)
    cast_exps = _cast_all(exps, types.exp, accumulator)
    n = source.shape[-1]
    # one value is returned as it is; sums are cast to accum_t
    bounds = (2 * accumulator.raw_min, 2 * accumulator.raw_max)
    product = FixedPoint(accumulator.width + types.inverse.width, accumulator.integer + types.inverse.integer, True)
    low.emit(
        Softmax(
            source,
            out,
            kind,
            cast_exps,
            _inverse_table(types),
            0,
            recipe(Cast(difference, types.normalized, layer.name, "accumulator")) if stable else Recipe(),
            recipe(*_top_bits(address, types.exp_size)),
            bounds if n > 1 else (accumulator.raw_min, accumulator.raw_max),
            recipe(Cast(accumulator, accumulator, layer.name, "accumulator")),
            recipe(
                Cast(accumulator, types.inverse_input, layer.name, "accumulator"),
                *_top_bits(types.inverse_input, types.inverse_size),
            ),
            recipe(Cast(product, out.format, layer.name)),
        )
    )


def _cast_all(raws: Ints, source: FixedPoint, target: FixedPoint) -> Ints:
    return np.array([quantize(int(raw), source, target) for raw in raws], dtype=np.int64)


def _legacy(low: Lowering, layer: Any, source: Value, out: Value) -> None:
    x, get = source.format, layer.get_attr
    # the generated config leaves table_t and table_size at activ_config's defaults
    table, size = FixedPoint(18, 8), int(get("table_size", 1024))
    exp_size = 1024 if low.stream else int(get("exp_table_size", size))
    inverse_size = 1024 if low.stream else int(get("inv_table_size", size))
    points = [Float(2 * 8.0 * (i - exp_size / 2.0) / exp_size) for i in range(exp_size)]
    exps = _quantized([float(exp_float(p)) for p in points], table)
    steps = [Float(64.0 * i / inverse_size) for i in range(inverse_size)]
    inverse = _quantized([1.0 / float(v) if v > 0 else 0.0 for v in steps], table)
    difference = FixedPoint(x.width + 1, x.integer + 1)
    to_index = (*index_actions(difference, exp_size, 16), Affine(1, exp_size // 2), Clamp(0, exp_size - 1))
    to_inverse = (*index_actions(table, inverse_size, 64), Clamp(0, inverse_size - 1))
    low.emit(
        Softmax(
            source,
            out,
            SoftmaxKind.LEGACY,
            exps,
            inverse,
            from_float(1.0, table),
            Recipe(),
            recipe(*to_index),
            (2 * table.raw_min, 2 * table.raw_max),
            recipe(Cast(table, table, layer.name, "accumulator")),
            recipe(*to_inverse),
            recipe(Cast(table, out.format, layer.name)),
        )
    )


HANDLERS: dict[str, Handler] = {
    "Softmax": _softmax,
}
