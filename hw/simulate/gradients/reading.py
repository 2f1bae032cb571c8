"""Reads a prequantized Keras model into a `Network`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.gradients.balance import balanced
from hw.simulate.gradients.network import INT16, INT32, Activation, Layer, Network, NotCovered, Tensor
from qmodels.grid import InputGrid
from qmodels.quantize.prequantized import BEYOND, ROUNDING, Rounding


def read(model: Any, grid: InputGrid) -> Network:
    """The network of a prequantized model.

    Args:
        model: what `prequantize` gives: one input, one output of one row of numbers.
        grid: what its inputs can be.

    Raises:
        NotCovered: it says what of the model is not computed here.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(grid.formats) != 1:
        raise NotCovered("several inputs or outputs")
    return _Reader(model, grid).network()


class _Reader:
    def __init__(self, model: Any, grid: InputGrid) -> None:
        self.model, self.grid = model, grid
        self.tensors: list[Tensor] = []
        self.layers: list[Layer] = []
        self.of: dict[str, int] = {}  # the tensor of a Keras layer
        self.users: dict[str, int] = {}
        for layer in model.layers:
            if len(layer.inbound_nodes) > 1 and type(layer).__name__ != "InputLayer":
                raise NotCovered(f"{layer.name} is called several times")
            for name in _sources(layer):
                self.users[name] = self.users.get(name, 0) + 1

    def network(self) -> Network:
        self._input()
        for layer in self.model.layers:
            kind = type(layer).__name__
            if kind == "InputLayer":
                continue
            make = _KINDS.get(kind)
            if make is None:
                raise NotCovered(f"{layer.name}, a {kind}")
            make(self, layer, [self.of[name] for name in _sources(layer)])
            self._own_activation(layer, kind)
        output = self.of[_layer_of(self.model.outputs[0])]
        if self.tensors[output].shape[:2] != (1, 1):
            raise NotCovered("an output that is a picture")
        if output != len(self.tensors) - 1 or not self.layers:
            raise NotCovered("an output in the middle of the network")
        return Network(
            tuple(self.tensors), balanced(self.layers, self.tensors), self.tensors[0].size, float(self.grid.step)
        )

    def _input(self) -> None:
        shape = _picture(self.model.inputs[0].shape[1:])
        fmt = self.grid.formats[0]  # not the grid's bounds: a clean sample may lie outside of them
        if all(type(layer).__name__ in _SHAPELESS for layer in self._first_layers()):
            shape = (1, 1, math.prod(shape))  # a dense layer comes first: pairs of neighbours, not of channels
        self.tensors.append(Tensor(shape, fmt.fraction, fmt.raw_min, fmt.raw_max))
        if self.tensors[0].wide:
            raise NotCovered("inputs of more than 15 bits")
        self.of[_layer_of(self.model.inputs[0])] = 0

    def _first_layers(self) -> list[Any]:
        """The layers up to the first dense one, or up to one that looks at pictures."""
        found = []
        for layer in self.model.layers:
            found.append(layer)
            if type(layer).__name__ not in _SHAPELESS or type(layer).__name__ == "Dense":
                break
        return found

    def _add(self, layer: Any, operation: Layer, tensor: Tensor) -> None:
        self.layers.append(replace(operation, result=len(self.tensors)))
        self.of[layer.name] = len(self.tensors)
        self.tensors.append(tensor)

    # Layers

    def linear(self, layer: Any, sources: list[int]) -> None:
        """A dense layer or a convolution."""
        source = self.tensors[sources[0]]
        if source.wide:
            raise NotCovered(f"{layer.name} reads sums that nothing has rounded")
        weights = layer.get_weights()
        kernel = np.asarray(weights[0], np.float64)
        if kernel.ndim == 2:
            if len(layer.input_shape) != 2:
                raise NotCovered(f"{layer.name}: a dense layer at every place")
            window, strides, before = source.shape[:2], (1, 1), (0, 0)
            kernel = kernel.reshape(*source.shape, kernel.shape[1])
        else:
            if layer.groups != 1 or set(layer.dilation_rate) != {1} or layer.data_format != "channels_last":
                raise NotCovered(f"{layer.name} has groups or is dilated")
            kernel = kernel[None] if kernel.ndim == 3 else kernel
            window, strides = _plane(layer.kernel_size), _plane(layer.strides)
            before = _before(layer.padding, source.shape, window, strides)
        shape = _picture(layer.output_shape[1:])
        bits = _fraction(kernel, layer.name)
        whole = np.rint(np.ldexp(kernel, bits)).astype(np.int64)
        fraction, bias = source.fraction + bits, np.zeros(shape[2], np.float64)
        if layer.use_bias:
            bias = np.asarray(weights[1], np.float64)
        scale = max(0, _fraction(bias, layer.name) - fraction)
        added = np.rint(np.ldexp(bias, fraction + scale)).astype(np.int64)
        most = max(abs(source.low), abs(source.high))
        reach = (np.abs(whole << scale).sum(axis=(0, 1, 2)) * most + np.abs(added)).max()
        if reach > INT32 // 2 or np.abs(whole << scale).max() > INT16:
            raise NotCovered(f"{layer.name}: its sums do not fit 32 bits")
        operation = Layer(
            "linear", tuple(sources), 0, whole, whole, 2.0**-bits, added, scale, window, strides, before,
            products=whole.size * shape[0] * shape[1],
        )  # fmt: skip
        # Sums stay 32 bits wide until an activation rounds them, however small they are.
        self._add(layer, operation, Tensor(shape, fraction + scale, -INT32, INT32))

    def activation(self, layer: Any, sources: list[int]) -> None:
        """A rounding; it becomes part of the layer before it."""
        self._round(layer, getattr(layer.activation, ROUNDING, None), sources[0], _sources(layer)[0])

    def _own_activation(self, layer: Any, kind: str) -> None:
        function = getattr(layer, "activation", None)
        if kind == "Activation" or function is None or getattr(function, "__name__", "") == "linear":
            return
        self._round(layer, getattr(function, ROUNDING, None), self.of[layer.name], None)

    def _round(self, layer: Any, rounding: Rounding | None, source: int, producer: str | None) -> None:
        before = self.tensors[source]
        if rounding is None:
            raise NotCovered(f"{layer.name}: its activation")
        bits = -math.log2(rounding.step)
        low, high = rounding.low / rounding.step, rounding.high / rounding.step
        if not bits.is_integer() or not low.is_integer() or not high.is_integer():
            raise NotCovered(f"{layer.name}: an activation that is no power of two")
        fraction = int(bits)
        if not before.wide:  # already rounded: the same numbers come out, or it is not covered
            up = fraction - before.fraction
            if rounding.clipped or up < 0 or before.low << up < low or before.high << up > high:
                raise NotCovered(f"{layer.name} rounds what has been rounded")
            self.of[layer.name] = source
            return
        if producer is not None and self.users[producer] > 1:
            raise NotCovered(f"{producer} is used before and after its activation")
        shift = before.fraction - fraction
        if not -15 <= shift < 31 or high > INT16 or low < -INT16:
            raise NotCovered(f"{layer.name}: its numbers do not fit 16 bits")
        end = math.ceil(high * BEYOND * 2.0**shift)
        found = Activation(shift, int(low), int(high), min(end, INT32) if rounding.clipped else None)
        self.tensors[source] = Tensor(before.shape, fraction, int(low), int(high), found)
        self.of[layer.name] = source

    def add(self, layer: Any, sources: list[int]) -> None:
        """The sum of two tensors."""
        if len(sources) != 2 or sources[0] == sources[1]:
            raise NotCovered(f"{layer.name} adds {len(sources)} tensors")
        parts = [self.tensors[source] for source in sources]
        if parts[0].shape != parts[1].shape:
            raise NotCovered(f"{layer.name} broadcasts")
        fraction = max(part.fraction for part in parts)
        ups = tuple(fraction - part.fraction for part in parts)
        most = sum(self._bound(source) << up for source, up in zip(sources, ups, strict=True))
        if most > INT32 // 2:
            raise NotCovered(f"{layer.name}: its sums do not fit 32 bits")
        operation = Layer("add", tuple(sources), 0, ups=ups)
        self._add(layer, operation, Tensor(parts[0].shape, fraction, -INT32, INT32))

    def _bound(self, number: int) -> int:
        """The largest magnitude that a tensor can have."""
        tensor = self.tensors[number]
        if not tensor.wide:
            return max(abs(tensor.low), abs(tensor.high))
        layer = next(layer for layer in self.layers if layer.result == number)
        if layer.kernel is None or layer.bias is None:
            return sum(self._bound(source) << up for source, up in zip(layer.sources, layer.ups, strict=True))
        most = self._bound(layer.sources[0])
        return int((np.abs(layer.kernel << layer.scale).sum(axis=(0, 1, 2)) * most + np.abs(layer.bias)).max())

    def max_pool(self, layer: Any, sources: list[int]) -> None:
        """The largest of windows that do not overlap."""
        source, operation, shape = self._pool("max-pool", layer, sources)
        self._add(layer, operation, replace(source, shape=shape, activation=None))

    def average_pool(self, layer: Any, sources: list[int]) -> None:
        """The mean of windows that do not overlap, as a sum."""
        source, operation, shape = self._pool("sum-pool", layer, sources)
        size = math.prod(operation.window)
        low, high, bits = source.low * size, source.high * size, math.log2(size)
        if not bits.is_integer() or low < -INT16 or high > INT16:
            raise NotCovered(f"{layer.name}: means of {size} numbers")
        self._add(layer, replace(operation, unit=1.0 / size), Tensor(shape, source.fraction + int(bits), low, high))

    def _pool(self, kind: str, layer: Any, sources: list[int]) -> tuple[Tensor, Layer, tuple[int, int, int]]:
        source = self.tensors[sources[0]]
        height, width, channels = source.shape
        window = _plane(layer.pool_size) if hasattr(layer, "pool_size") else (height, width)  # else a global one
        strides = _plane(layer.strides) if hasattr(layer, "strides") else window
        shape = height // strides[0], width // strides[1], channels
        if source.wide or layer.data_format != "channels_last" or _picture(layer.output_shape[1:]) != shape:
            raise NotCovered(f"{layer.name} pools sums or beyond the edge")
        if any(stride < size for stride, size in zip(strides, window, strict=True)):
            raise NotCovered(f"{layer.name}: windows that overlap")
        return source, Layer(kind, tuple(sources), 0, window=window, strides=strides), shape

    def same(self, layer: Any, sources: list[int]) -> None:
        """A layer that changes no number."""
        self.of[layer.name] = sources[0]


_SHAPELESS = ("InputLayer", "Activation", "Flatten", "Reshape", "Dense")
_KINDS = {
    "Dense": _Reader.linear,
    "Conv1D": _Reader.linear,
    "Conv2D": _Reader.linear,
    "FastConv2D": _Reader.linear,
    "Activation": _Reader.activation,
    "Add": _Reader.add,
    "MaxPooling1D": _Reader.max_pool,
    "MaxPooling2D": _Reader.max_pool,
    "AveragePooling1D": _Reader.average_pool,
    "AveragePooling2D": _Reader.average_pool,
    "GlobalAveragePooling1D": _Reader.average_pool,
    "GlobalAveragePooling2D": _Reader.average_pool,
    "Flatten": _Reader.same,
    "Dropout": _Reader.same,
}


def _picture(shape: Any) -> tuple[int, int, int]:
    """The shape of one sample as rows, columns and channels: a sequence is one row, a vector one place."""
    sizes = tuple(int(size) for size in shape)
    if not 1 <= len(sizes) <= 3:
        raise NotCovered(f"a tensor of shape {sizes}")
    rows, columns, channels = (1,) * (3 - len(sizes)) + sizes
    return rows, columns, channels


def _plane(sizes: Any) -> tuple[int, int]:
    """A window of rows and columns: of a sequence it has one row."""
    rows, columns = (1,) * (2 - len(sizes)) + tuple(int(size) for size in sizes)
    return rows, columns


def _layer_of(tensor: Any) -> str:
    return str(tensor.node.layer.name)


def _sources(layer: Any) -> list[str]:
    """Names of the layers whose results it reads."""
    if type(layer).__name__ == "InputLayer":
        return []
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [_layer_of(tensor) for tensor in tensors]


def _fraction(numbers: NDArray[np.float64], name: str) -> int:
    """Bits behind the point that numbers need, 0 at least."""
    for bits in range(31):
        scaled = np.ldexp(numbers, bits)
        if np.array_equal(scaled, np.rint(scaled)):
            return bits
    raise NotCovered(f"{name}: numbers of more than 30 bits behind the point")


def _before(
    padding: str, shape: tuple[int, int, int], window: tuple[int, int], strides: tuple[int, int]
) -> tuple[int, int]:
    """Zeros above and to the left, as TensorFlow pads."""
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise NotCovered(f"padding {padding}")
    above, left = (
        max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) // 2
        for size, kernel, stride in zip(shape[:2], window, strides, strict=True)
    )
    return above, left
