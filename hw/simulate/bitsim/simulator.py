"""BitSim: an hls4ml accelerator's exact bits, computed in native integers over whole batches."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.codes import Element, Status
from hw.simulate.bitsim.encode import Encoded, encode
from hw.simulate.bitsim.encode.elements import may_be_bytes
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.inputs import Array, Arrays, Fractions, Samples, read
from hw.simulate.bitsim.kernels import library
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Network, Value
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.processors import processors
from qmodels.victims import Logits


@dataclass(frozen=True)
class LayerOverflow:
    """How many numbers of one layer did not fit their format.

    `place` is "result" or "accumulator". An accumulator overflows at most once a product; `of` counts the layer's
    results either way (samples x elements).
    """

    layer: str
    place: str
    saturated: int
    wrapped: int
    of: int


class _Machine:
    """One compiled program: an encoding and the library's handle on it."""

    def __init__(
        self, network: Network, seen: tuple[Value, ...], counting: bool = False, bytes_in: bool = False
    ) -> None:
        self._library = library.load()
        lanes, quads = self._library.bitsim_lanes(), bool(self._library.bitsim_quads())
        self.encoded: Encoded = encode(network, seen, lanes, counting=counting, bytes_in=bytes_in, quads=quads)
        self._network = network
        self._fallback: _Machine | None = None
        pointers = (ctypes.c_void_p * max(1, len(self.encoded.blobs)))(*[b.ctypes.data for b in self.encoded.blobs])
        code = self.encoded.code
        self._handle = self._library.bitsim_create(code.ctypes.data, pointers, len(self.encoded.blobs))
        if not self._handle:
            raise AssertionError("the kernels do not understand this program")
        self.seen = seen

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.bitsim_destroy(self._handle)
            self._handle = None

    def run(self, inputs: Sequence[Samples], threads: int, counters: NDArray[np.int64] | None = None) -> list[Array]:
        """Every seen value, shape (N, elements), in the inputs' float type, float32 for codes."""
        samples = len(inputs[0].array)
        dtype = np.float64 if any(x.element is Element.FLOAT64 for x in inputs) else np.float32
        elements = np.array([x.element for x in inputs], np.int32)
        fractions = np.array([x.fraction for x in inputs], np.int32)
        outputs: list[Array] = [np.empty((samples, value.size), dtype) for value in self.seen]
        pointers = (ctypes.c_void_p * len(inputs))(*[x.array.ctypes.data for x in inputs])
        results = (ctypes.c_void_p * max(1, len(outputs)))(*[y.ctypes.data for y in outputs])
        result = self._library.bitsim_run(
            self._handle,
            None if self._fallback is None else self._fallback._handle,
            pointers,
            elements.ctypes.data,
            fractions.ctypes.data,
            results,
            samples,
            int(dtype is np.float64),
            threads,
            None if counters is None else counters.ctypes.data,
            0 if counters is None else len(counters),
        )
        if result == Status.OUT_OF_BOUNDS and self._fallback is None:
            self._fallback = _Machine(self._network, self.seen)
            return self.run(inputs, threads, counters)
        if result != Status.DONE:
            raise MemoryError("bitsim could not allocate its working memory")
        return outputs


def _predictor(network: Network) -> _Machine:
    """The machine for `predict`.

    Inputs of 8-bit pixels in a signed type are first taken to be 0..255; a block of samples where one is negative is
    done again by a machine for all numbers.
    """
    fused = fuse(network)
    return _Machine(fused, fused.outputs, bytes_in=any(may_be_bytes(value.format) for value in network.inputs))


class BitSim:
    """Simulates one hls4ml model: `predict` and `trace` give what the model's own C simulation gives, bit for bit.

    A `Victim`.
    """

    name = "bitsim"
    threads: int | None = None  # where a call does not say; None: one per processor
    grid: InputGrid = IMAGE_GRID  # of the codes that `logits` takes

    def __init__(self, network: Network) -> None:
        self._network = network
        self._machines: dict[str, _Machine] = {"predict": _predictor(network)}

    @classmethod
    def from_graph(cls, model_graph: Any) -> BitSim:
        """From an hls4ml `ModelGraph` after its passes (what `convert_from_keras_model` returns).

        Raises:
            UserError: a layer, type or backend bitsim does not simulate (it names it; csim does).
            ToolMissing: no g++, or it failed, the first time the kernels are built on this machine.
        """
        return cls(lower(model_graph))

    def update_weights(self, model_graph: Any) -> None:
        """Take the weights of a graph of the same structure. Nothing is compiled."""
        network = lower(model_graph)
        if _structure(network) != _structure(self._network):
            raise UserError(
                "update_weights needs a model of the same layers, shapes and formats; use BitSim.from_graph"
            )
        self._network, self._machines = network, {"predict": _predictor(network)}

    @property
    def network(self) -> Network:
        """The accelerator as data, in integers: its operations, formats and weights."""
        return self._network

    @property
    def formats(self) -> dict[str, FixedPoint]:
        """Format of every layer's output."""
        known = {value.layer: value.format for value in self._network.inputs}
        return known | {name: value.format for name, value in self._network.traced.items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The layers whose results `predict` returns."""
        return tuple(value.layer for value in self._network.outputs)

    @property
    def kernels(self) -> dict[str, str]:
        """Which kernel computes each linear layer in `predict`: a LinearKernel's name in small letters."""
        return {layer: kernel.name.lower() for layer, kernel in self._machines["predict"].encoded.kernels.items()}

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample of every input."""
        return tuple(value.shape for value in self._network.inputs)

    def predict(self, x: Arrays, threads: int | None = None, *, fraction: Fractions = None) -> Any:
        """Outputs for x: what csim's `predict` returns, always with the batch axis.

        Args:
            x: shape (N, *input_shape); a list of such arrays for several inputs. Real numbers (float32 or float64),
                or integer codes (uint8, int8, uint16, int16, int32), which are read as they are, not converted first.
            threads: how many to use; None: one a CPU. The result does not depend on it.
            fraction: for codes only: each stands for code * 2**-fraction. A list for several inputs, with None for
                those of real numbers.

        Returns:
            (N, outputs) of x's float type, float32 for codes; a list of them when the model has several outputs.
            Codes give exactly what the real numbers they stand for give.

        Raises:
            UserError: wrong shapes or types, or codes without a fraction.
        """
        inputs = read(x, fraction, self._network.inputs)
        outputs = self._machines["predict"].run(inputs, self._count(threads))
        return outputs[0] if len(outputs) == 1 else outputs

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid."""
        fractions = [fmt.fraction for fmt in self.grid.formats]
        return np.asarray(self.predict(self.grid.feed(x), fraction=fractions))

    def trace(self, x: Arrays, threads: int | None = None, *, fraction: Fractions = None) -> dict[str, Array]:
        """Every layer's output, with the names and shapes of hls4ml's `ModelGraph.trace`: (N, *shape).

        Arguments as in `predict`.
        """
        inputs = read(x, fraction, self._network.inputs)
        traced = self._network.traced
        outputs = self._machine("trace", tuple(traced.values())).run(inputs, self._count(threads))
        return {name: out.reshape(-1, *value.shape) for (name, value), out in zip(traced.items(), outputs, strict=True)}

    def overflow_report(
        self, x: Arrays, threads: int | None = None, *, fraction: Fractions = None
    ) -> list[LayerOverflow]:
        """Per layer, how many results (and accumulator updates) saturated or wrapped on x.

        Arguments as in `predict`.
        """
        inputs = read(x, fraction, self._network.inputs)
        machine = self._machine("report", ())
        counters = machine.encoded.counters
        counts = np.zeros(max(1, len(counters)), np.int64)
        machine.run(inputs, self._count(threads), counts)
        found: dict[tuple[str, str], list[int]] = {}
        for counter, count in zip(counters, counts.tolist(), strict=False):
            entry = found.setdefault((counter.layer, counter.place), [0, 0])
            entry[int(counter.wraps)] += count
        report = []
        for layer, value in self._network.traced.items():
            for place in ("accumulator", "result"):
                saturated, wrapped = found.get((layer, place), (0, 0))
                if place == "result" or (layer, place) in found:
                    report.append(LayerOverflow(layer, place, saturated, wrapped, len(inputs[0].array) * value.size))
        return report

    def _count(self, threads: int | None) -> int:
        return _threads(self.threads if threads is None else threads)

    def _machine(self, kind: str, seen: tuple[Value, ...]) -> _Machine:
        if kind not in self._machines:
            self._machines[kind] = _Machine(self._network, seen, counting=kind == "report")
        return self._machines[kind]


def _threads(threads: int | None) -> int:
    if threads is None:
        return processors()
    if threads < 1:
        raise UserError(f"threads is {threads}, must be at least 1")
    return threads


def _structure(network: Network) -> list[tuple[str, str, tuple[int, ...], FixedPoint]]:
    return [(type(op).__name__, op.out.layer, op.out.shape, op.out.format) for op in network.ops]
