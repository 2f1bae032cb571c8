"""The two programs of a network, as the numbers that gradients.cpp reads: forward, and backward."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.gradients.balance import by_phase
from hw.simulate.gradients.network import Integers, Layer, Network, Tensor

_INPUT, _LINEAR, _ADD, _MAX_POOL, _SUM_POOL, _OUTPUT = range(6)
_SEED, _BACKWARD_LINEAR, _BACKWARD_POOL, _MERGE, _GRADIENT = range(6, 11)

#: Sums of this many times the weights' Euclidean length are so rare that gradients are cut off there.
_SPREADS = 4.0


@dataclass(frozen=True)
class Machine:
    """Sizes that depend on the instruction set: bytes of a row, and of what is kept of where gradients pass."""

    row: int
    mask: int


@dataclass(eq=False)
class Place:
    """Where a tensor, or the gradient by it, lies: rows with a border of zeros."""

    shape: tuple[int, int, int]
    wide: bool = False
    border: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # above, below, left, right

    @property
    def pairs(self) -> int:
        """Pairs of channels."""
        return (self.shape[2] + 1) // 2

    @property
    def line(self) -> int:
        """Rows (vectors) from one line of pixels to the next."""
        return (self.border[2] + self.shape[1] + self.border[3]) * self.pairs

    def reach(self, above: int, below: int, left: int, right: int) -> None:
        """Make the border at least so wide."""
        self.border = [max(pair) for pair in zip(self.border, (above, below, left, right), strict=True)]

    def rows(self) -> int:
        """Vectors, border included."""
        return (self.border[0] + self.shape[0] + self.border[1]) * self.line * (2 if self.wide else 1)


@dataclass(frozen=True)
class Program:
    """What `gradients_create` takes."""

    code: NDArray[np.int64]
    blobs: list[NDArray[np.int32]]


def encode(network: Network, machine: Machine) -> tuple[Program, Program]:
    """The forward and the backward program."""
    masks = _Masks(network, machine)
    return _Forward(network, machine, masks).program(), _Backward(network, machine, masks).program()


class _Masks:
    """Where each tensor's and each pool's masks lie in what a group of samples keeps."""

    def __init__(self, network: Network, machine: Machine) -> None:
        self.of_tensor: dict[int, int] = {}
        self.of_pool: dict[int, int] = {}
        self.size = 0
        for number, tensor in enumerate(network.tensors):
            if tensor.activation is not None and tensor.activation.open is not None:
                self.of_tensor[number] = self._take(tensor, machine)
        for layer in network.layers:
            if layer.kind == "max-pool":
                window = layer.window[0] * layer.window[1]
                self.of_pool[layer.result] = self._take(network.tensors[layer.result], machine, window)

    def _take(self, tensor: Tensor, machine: Machine, times: int = 1) -> int:
        start = self.size
        height, width, channels = tensor.shape
        self.size += height * width * ((channels + 1) // 2) * machine.mask * times
        return start

    def numbers(self, tensor: int) -> tuple[int, int]:
        """(is there one, where) for an operation that sets to zero what the tensor's activation stops."""
        return int(tensor in self.of_tensor), self.of_tensor.get(tensor, 0)


class _Encoder:
    """Collects places and operations; numbers are written when all borders are known."""

    def __init__(self, network: Network, machine: Machine, masks: _Masks) -> None:
        self.network, self.machine, self.masks = network, machine, masks
        self.places: list[Place] = []
        self.operations: list[list[Any]] = []
        self.blobs: list[NDArray[np.int32]] = []

    def place(self, shape: tuple[int, int, int], wide: bool = False) -> Place:
        self.places.append(Place(shape, wide))
        return self.places[-1]

    def blob(self, numbers: Any) -> int:
        self.blobs.append(np.ascontiguousarray(numbers, np.int32))
        return len(self.blobs) - 1

    def finished(self) -> Program:
        """The program of all operations; a number of an operation may be a place, or made from borders by a call."""
        offset, tensors = 0, []
        for number, place in enumerate(self.places):
            height, width, _ = place.shape
            above, _, left, right = place.border
            full = left + width + right
            tensors += [height, width, place.pairs, above, left, full, int(place.wide), number, offset]
            offset += place.rows() * self.machine.row
        words: list[int] = []
        for operation in self.operations:
            for item in operation:
                words.append(self._word(item))
        head = [offset, self.masks.size, len(self.places), len(self.places), len(self.operations)]
        return Program(np.array([*head, *tensors, *words], np.int64), self.blobs)

    def _word(self, item: Any) -> int:
        if isinstance(item, Place):
            return self.places.index(item)
        if isinstance(item, float):
            return int(struct.unpack("<q", struct.pack("<d", item))[0])
        return int(item() if callable(item) else item)


class _Forward(_Encoder):
    def program(self) -> Program:
        network = self.network
        at = [self.place(tensor.shape, tensor.wide) for tensor in network.tensors]
        self.operations.append([_INPUT, at[0], network.tensors[0].shape[2]])
        for layer in network.layers:
            sources, result = [at[source] for source in layer.sources], at[layer.result]
            if layer.kind == "linear":
                self._linear(layer, sources[0], result)
            elif layer.kind == "add":
                self.operations.append([_ADD, *sources, result, *layer.ups, *self._activation(layer.result)])
            else:
                kind = [_MAX_POOL] if layer.kind == "max-pool" else [_SUM_POOL]
                mask = [self.masks.of_pool[layer.result]] if layer.kind == "max-pool" else []
                self.operations.append([*kind, *sources, result, *layer.window, *layer.strides, *mask])
        last = network.tensors[-1]
        self.operations.append([_OUTPUT, at[-1], last.shape[2], 2.0**-last.fraction])
        return self.finished()

    def _activation(self, number: int) -> list[Any]:
        """The numbers of an `Activation`."""
        found = self.network.tensors[number].activation
        if found is None:
            return [0] * 7
        open_end = -1 if found.open is None else found.open
        masked, mask = self.masks.numbers(number)
        return [1, found.shift, found.low, found.high, masked, open_end, mask]

    def _linear(self, layer: Layer, source: Place, result: Place) -> None:
        assert layer.kernel is not None and layer.bias is not None
        (kh, kw), (sh, sw), (above, left) = layer.window, layer.strides, layer.before
        height, width, channels = result.shape
        below = (height - 1) * sh + kh - above - source.shape[0]
        right = (width - 1) * sw + kw - left - source.shape[1]
        source.reach(above, max(below, 0), left, max(right, 0))
        pixels = [(y, x) for y in range(height) for x in range(width)]
        starts = [(y * sh - above, x * sw - left) for y, x in pixels]
        lines = [(line, 0) for line in range(kh)]
        blocks = (channels + 3) // 4
        self.operations.append([
            _LINEAR, source, result, len(pixels), kh, kw * source.pairs, blocks, 0,
            lambda: self._offsets(source, starts, origin=True), lambda: self._offsets(source, lines),
            self.blob(range(len(pixels))), self.blob(_packed(layer.kernel << layer.scale, blocks)),
            self.blob(np.pad(layer.bias, (0, 4 * blocks - channels))), *self._activation(layer.result),
        ])  # fmt: skip

    def _offsets(self, source: Place, pixels: Sequence[tuple[int, int]], origin: bool = False) -> int:
        return self.blob(offsets(source, pixels, self.machine.row, origin))


class _Backward(_Encoder):
    def program(self) -> Program:
        network = self.network
        self.given: dict[int, list[Place]] = {}  # gradients by a tensor, from each layer that reads it
        self.uses = [0] * len(network.tensors)
        for layer in network.layers:
            for source in layer.sources:
                self.uses[source] += 1
        last = len(network.tensors) - 1
        seed = self.place(network.tensors[last].shape)
        self.operations.append([_SEED, seed, network.tensors[last].shape[2], *self.masks.numbers(last)])
        gradients = {last: seed}
        for layer in reversed(network.layers):
            gradient = gradients.get(layer.result) or self._joined(layer.result)
            if layer.kind == "linear":
                self._linear(layer, gradient)
            elif layer.kind == "add":
                for source in layer.sources:
                    self.given.setdefault(source, []).append(gradient)
            else:
                self._pool(layer, gradient)
        whole = network.tensors[0].shape[2]
        self.operations.append([_GRADIENT, self._joined(0), whole, network.step])
        return self.finished()

    def _joined(self, number: int) -> Place:
        """The gradient by a tensor, once all that read it have given theirs."""
        parts, (masked, mask) = self.given[number], self.masks.numbers(number)
        alone = len(parts) == 1 and self.uses[number] == 1
        if alone and (not masked or not self._is_shared(number)):
            return parts[0]
        joined = self.place(self.network.tensors[number].shape)
        self.operations.append([_MERGE, len(parts), *parts, joined, masked, mask])
        return joined

    def _is_shared(self, number: int) -> bool:
        """Whether its gradient is that of a sum, which is not masked by this tensor's activation."""
        return any(layer.kind == "add" and number in layer.sources for layer in self.network.layers)

    def _target(self, layer: Layer) -> tuple[Place, list[int]]:
        """A place for the gradient by what the layer reads, and the mask that it gets at once."""
        (source,) = layer.sources
        target = self.place(self.network.tensors[source].shape)
        self.given.setdefault(source, []).append(target)
        mask = self.masks.numbers(source) if self.uses[source] == 1 else (0, 0)
        return target, list(mask)

    def _pool(self, layer: Layer, gradient: Place) -> None:
        target, mask = self._target(layer)
        chosen = self.masks.of_pool.get(layer.result, -1)
        self.operations.append(
            [_BACKWARD_POOL, gradient, target, *layer.window, *layer.strides, chosen, *mask, layer.unit]
        )

    def _linear(self, layer: Layer, gradient: Place) -> None:
        assert layer.back is not None
        target, mask = self._target(layer)
        kernel, shape = layer.back, target.shape
        blocks = (shape[2] + 3) // 4
        dense = gradient.shape[:2] == (1, 1) and layer.window == shape[:2]
        tail = [*mask, _reach(kernel, layer.window if dense else layer.strides), layer.unit]
        if dense:  # every pixel has weights of its own
            packed = [_packed(kernel[y : y + 1, x : x + 1].swapaxes(2, 3), blocks) for y, x in _pixels(shape)]
            places = _pixels(shape)
            nothing = self.blob(np.zeros(len(places)))
            self.operations.append([
                _BACKWARD_LINEAR, gradient, target, len(places), 1, gradient.pairs, blocks, 1, nothing,
                self.blob([0]), self.blob(range(len(places))), self.blob(np.stack(packed)), 1, *tail,
            ])  # fmt: skip
            return
        begins = 1
        for row in range(min(layer.strides[0], shape[0])):
            for column in range(min(layer.strides[1], shape[1])):
                self._phase(layer, gradient, target, (row, column), [begins, *tail])
                begins = 0

    def _phase(self, layer: Layer, gradient: Place, target: Place, first: tuple[int, int], tail: list[Any]) -> None:
        """Of the pixels that lie at the same place between the windows: row, row + stride, ... and so the columns."""
        assert layer.back is not None
        height, width, channels = target.shape
        (above, left), (sh, sw) = layer.before, layer.strides
        pixels = list(itertools.product(range(first[0], height, sh), range(first[1], width, sw)))
        row, column = (first[0] + above) % sh, (first[1] + left) % sw  # the first of the weights that meet them
        rows, columns = range(row, layer.window[0], sh), range(column, layer.window[1], sw)
        # The last of the windows that hold the pixel; the others lie before it.
        last = [((y + above - row) // sh, (x + left - column) // sw) for y, x in pixels]
        taps = [(-back, 1 - len(columns)) for back in range(len(rows))] if columns else []
        if taps:
            gradient.reach(
                max(0, len(rows) - 1 - last[0][0]), max(0, last[-1][0] + 1 - gradient.shape[0]),
                max(0, len(columns) - 1 - last[0][1]), max(0, last[-1][1] + 1 - gradient.shape[1]),
            )  # fmt: skip
        blocks = (channels + 3) // 4
        part = layer.back[list(rows)][:, list(columns)[::-1]].swapaxes(2, 3)
        self.operations.append([
            _BACKWARD_LINEAR, gradient, target, len(pixels), len(taps), len(columns) * gradient.pairs, blocks, 0,
            lambda: self.blob(offsets(gradient, last, self.machine.row, origin=True)),
            lambda: self.blob(offsets(gradient, taps, self.machine.row)),
            self.blob([y * width + x for y, x in pixels]), self.blob(_packed(part, blocks)), *tail,
        ])  # fmt: skip


def _pixels(shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    return [(y, x) for y in range(shape[0]) for x in range(shape[1])]


def offsets(source: Place, pixels: Sequence[tuple[int, int]], row: int, origin: bool = False) -> Any:
    """Bytes from one pixel to others, or from the tensor's beginning."""
    above, left = (source.border[0], source.border[2]) if origin else (0, 0)
    return [((y + above) * source.line + (x + left) * source.pairs) * row for y, x in pixels]


def _reach(kernel: Integers, strides: tuple[int, int]) -> float:
    """How large a sum of weights times numbers up to one gets: at most, or as good as never beyond."""
    size = np.abs(kernel).astype(np.float64)
    total, squares = by_phase(size, strides), by_phase(size**2, strides)
    return float(np.minimum(total, _SPREADS * np.sqrt(squares)).max())


def _packed(kernel: Integers, blocks: int) -> NDArray[np.int32]:
    """(kh, kw, in, out) to [4 outputs][kh][kw][pair of inputs][output], two int16 in each int32."""
    kh, kw, inputs, outputs = kernel.shape
    whole = np.pad(kernel, ((0, 0), (0, 0), (0, inputs % 2), (0, 4 * blocks - outputs)))
    pairs = whole.reshape(kh, kw, whole.shape[2] // 2, 2, blocks, 4)
    words = (pairs[:, :, :, 0] & 0xFFFF) | (pairs[:, :, :, 1] << 16)  # (kh, kw, pairs, blocks, 4)
    return np.ascontiguousarray(words.transpose(3, 0, 1, 2, 4)).astype(np.int32)
