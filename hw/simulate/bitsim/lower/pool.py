"""Max, average and global pooling.

C++: nnet_pooling.h (io_parallel) and nnet_pooling_stream.h (io_stream), which add in a different order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hw.simulate.bitsim.lower.lowering import Handler, Lowering, refuse
from hw.simulate.bitsim.program import Pool, Value, Window
from hw.simulate.bitsim.recipes import Cast, DivideTowardsZero, Recipe, ShiftLeft, recipe
from qmodels.formats import FixedPoint


@dataclass(frozen=True)
class _Pooling:
    window: Window
    maximum: bool
    count_pad: bool
    padded: bool


def _read(low: Lowering, layer: Any) -> _Pooling:
    get = layer.get_attr
    if get("data_format", "channels_last") != "channels_last":
        refuse(layer, "channels_first data")
    window = Window(
        int(get("pool_height", 1)),
        int(get("pool_width")),
        int(get("stride_height", 1)),
        int(get("stride_width")),
        int(get("pad_top", 0) or 0),
        int(get("pad_left", 0) or 0),
    )
    padded = any(int(get(side, 0) or 0) for side in ("pad_top", "pad_bottom", "pad_left", "pad_right"))
    if padded and low.stream:
        refuse(layer, "padded pooling in io_stream (csim stops at an assertion too)")
    return _Pooling(window, str(get("pool_op")) == "Max", bool(get("count_pad", False)), padded)


def _padding_value(fmt: FixedPoint) -> int:
    """pad_val<Max>: the pattern with only the top bit set, which is the smallest number only of a signed type."""
    return fmt.raw_min if fmt.signed else 1 << (fmt.width - 1)


def _pooling(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    what = _read(low, layer)
    accumulator = low.type_of(layer, "accum_t")
    size = what.window.height * what.window.width
    to_accumulator = Cast(source.format, accumulator, layer.name, "accumulator")
    if what.maximum:
        after = recipe(to_accumulator, Cast(accumulator, out.format, layer.name))
        low.emit(
            _maximum(
                source,
                out,
                what.window,
                Recipe() if not low.stream else recipe(to_accumulator),
                after if not low.stream else recipe(Cast(accumulator, out.format, layer.name)),
            )
        )
        return
    constant = low.stream or what.count_pad or not what.padded
    divisors = (size,) if constant else tuple(range(1, size + 1))
    divide = tuple(
        recipe(DivideTowardsZero(d), Cast(accumulator, accumulator, layer.name, "accumulator")) for d in divisors
    )
    low.emit(_average(low, layer, source, out, what.window, accumulator, divide, low.stream))


def _maximum(source: Value, out: Value, window: Window, on_input: Recipe, after: Recipe) -> Pool:
    return Pool(source, out, window, True, False, _padding_value(source.format), on_input, Recipe(), (), after)


def _average(
    low: Lowering,
    layer: Any,
    source: Value,
    out: Value,
    window: Window,
    accumulator: FixedPoint,
    divide: tuple[Recipe, ...],
    tree: bool,
) -> Pool:
    if tree:  # every element is cast to accum_t first, then a balanced tree of accum_t
        on_input = recipe(Cast(source.format, accumulator, layer.name, "accumulator"))
        on_sum = recipe(Cast(accumulator, accumulator, layer.name, "accumulator"))
    else:
        on_input, on_sum, back = aligned_sum(layer, source.format, accumulator)
        divide = tuple(back + part for part in divide)
    return Pool(
        source, out, window, False, tree, 0, on_input, on_sum, divide, recipe(Cast(accumulator, out.format, layer.name))
    )


def aligned_sum(layer: Any, source: FixedPoint, accumulator: FixedPoint) -> tuple[Recipe, Recipe, Recipe]:
    """`accum += x`: the sum is exact, then cast. Recipes for x, for the sum, and from the sum's grid to accum_t's.

    The running sum is kept on the finer of the two grids.
    """
    finer = max(source.fraction - accumulator.fraction, 0)
    fine = FixedPoint(accumulator.width + finer, accumulator.integer, accumulator.signed)
    exact = FixedPoint(source.width + max(-finer, fine.fraction - source.fraction), source.integer, source.signed)
    on_sum = recipe(Cast(fine, accumulator, layer.name, "accumulator"), ShiftLeft(finer))
    return recipe(Cast(source, exact)), on_sum, recipe(Cast(fine, accumulator))


def _global(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    accumulator = low.type_of(layer, "accum_t")
    height, width, _ = source.image
    window = Window(height, width, height, width)
    to_accumulator = Cast(source.format, accumulator, layer.name, "accumulator")
    to_result = Cast(accumulator, out.format, layer.name)
    if str(layer.get_attr("pool_op")) == "Max":
        if low.stream:
            low.emit(_maximum(source, out, window, recipe(to_accumulator), recipe(to_result)))
        else:
            low.emit(_maximum(source, out, window, Recipe(), recipe(to_accumulator, to_result)))
        return
    divided = DivideTowardsZero(height * width)
    if low.stream:  # one by one, and the quotient is not cast to accum_t
        on_input = recipe(to_accumulator)
        on_sum = recipe(Cast(accumulator, accumulator, layer.name, "accumulator"))
        low.emit(Pool(source, out, window, False, False, 0, on_input, on_sum, (recipe(divided),), recipe(to_result)))
        return
    divide = (recipe(divided, Cast(accumulator, accumulator, layer.name, "accumulator")),)
    low.emit(_average(low, layer, source, out, window, accumulator, divide, tree=False))


HANDLERS: dict[str, Handler] = {
    "Pooling1D": _pooling,
    "Pooling2D": _pooling,
    "GlobalPooling1D": _global,
    "GlobalPooling2D": _global,
}
