"""Layers that move numbers: reshape, transpose, padding, cropping, upsampling, clones, concatenation.

C++: nnet_transpose.h, nnet_padding.h, nnet_cropping.h, nnet_image.h, nnet_stream.h, nnet_merge.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.lower.lowering import Handler, Lowering, refuse
from hw.simulate.bitsim.program import Alias, Gather, Map, Pad, Value
from hw.simulate.bitsim.recipes import Cast, recipe


def _moved(low: Lowering, layer: Any, source: Value, index: NDArray[Any]) -> None:
    """out[i] = source[index[i]] (0 where negative), cast to the output's type."""
    out = low.result(layer)
    cast = recipe(Cast(source.format, out.format, layer.name))
    everything = np.arange(out.size, dtype=np.int32)
    low.emit(Gather(source, out, index.reshape(-1).astype(np.int32), everything, cast))


def _indices(value: Value) -> NDArray[np.int32]:
    return np.arange(value.size, dtype=np.int32).reshape(value.shape)


def _reshape(low: Lowering, layer: Any) -> None:
    source, out = low.source(layer), low.result(layer)
    if out.format == source.format:
        low.emit(Alias(source, out))
        return
    middle = low.new(layer, source.shape, out.format)
    low.emit(Map(source, middle, recipe(Cast(source.format, out.format, layer.name))))
    low.emit(Alias(middle, out))


def _repack(low: Lowering, layer: Any) -> None:
    _reshape(low, layer)


def _clone(low: Lowering, layer: Any) -> None:
    source = low.source(layer)
    for name in layer.outputs:
        out = low.result(layer, name)
        if out.format == source.format:
            low.emit(Alias(source, out))
        else:
            low.emit(Map(source, out, recipe(Cast(source.format, out.format, layer.name))))


def _transpose(low: Lowering, layer: Any) -> None:
    source = low.source(layer)
    perm = tuple(int(axis) for axis in layer.get_attr("perm"))
    if len(perm) != len(source.shape):
        refuse(layer, f"a permutation {perm} of shape {source.shape}")
    _moved(low, layer, source, _indices(source).transpose(perm))


def _zero_padding(low: Lowering, layer: Any) -> None:
    source, get = low.source(layer), layer.get_attr
    if get("data_format", "channels_last") != "channels_last":
        refuse(layer, "channels_first data")
    around = [(int(get("pad_left")), int(get("pad_right"))), (0, 0)]
    if layer.class_name == "ZeroPadding2D":
        around.insert(0, (int(get("pad_top")), int(get("pad_bottom"))))
    if low.format(layer) == source.format:
        (top, bottom), (left, right) = around[0] if len(around) == 3 else (0, 0), around[-2]
        low.emit(Pad(source, low.result(layer), top, left, bottom, right))
        return
    _moved(low, layer, source, np.pad(_indices(source), around, constant_values=-1))


def _cropping(low: Lowering, layer: Any) -> None:
    source, get = low.source(layer), layer.get_attr
    if get("data_format", "channels_last") != "channels_last":
        refuse(layer, "channels_first data")
    index = _indices(source)
    width = slice(int(get("crop_left")), index.shape[-2] - int(get("crop_right")))
    if layer.class_name == "Cropping1D":
        _moved(low, layer, source, index[width])
        return
    _moved(low, layer, source, index[int(get("crop_top")) : index.shape[0] - int(get("crop_bottom")), width])


def _upsampling(low: Lowering, layer: Any) -> None:
    if layer.get_attr("algorithm") != "nearest":
        refuse(layer, f"{layer.get_attr('algorithm')} interpolation")
    source, get = low.source(layer), layer.get_attr
    height, width = int(get("in_height")), int(get("in_width"))
    rows = _nearest(height, int(get("out_height")))
    columns = _nearest(width, int(get("out_width")))
    index = _indices(source).reshape(height, width, -1)
    _moved(low, layer, source, index[rows][:, columns])


def _nearest(size: int, new: int) -> NDArray[np.int64]:
    """resize_nearest's 16-bit fixed-point ratio (a whole ratio, as streams need, gives the same)."""
    ratio = (size << 16) // new + 1
    return (np.arange(new) * ratio) >> 16


def _concatenate(low: Lowering, layer: Any) -> None:
    sources = [low.source(layer, i) for i in range(len(layer.inputs))]
    out = low.result(layer)
    axis = int(layer.get_attr("axis"))
    axis = axis - 1 if axis > 0 else axis
    shapes = np.concatenate([np.full(s.shape, i) for i, s in enumerate(sources)], axis=axis)
    if shapes.shape != out.shape:
        refuse(layer, f"a concatenation of shapes {[s.shape for s in sources]} into {out.shape}")
    for i, source in enumerate(sources):
        to = np.flatnonzero(shapes.reshape(-1) == i).astype(np.int32)
        everything = np.arange(source.size, dtype=np.int32)
        low.emit(Gather(source, out, everything, to, recipe(Cast(source.format, out.format, layer.name))))


HANDLERS: dict[str, Handler] = {
    "Reshape": _reshape,
    "Repack": _repack,
    "Clone": _clone,
    "Transpose": _transpose,
    "ZeroPadding1D": _zero_padding,
    "ZeroPadding2D": _zero_padding,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "Resize": _upsampling,
    "Concatenate": _concatenate,
}
