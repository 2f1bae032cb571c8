"""One hls4ml graph for many quantizations of a network: weights and formats are replaced, nothing is converted again.

A graph keeps its layers, shapes, strategies and reuse factors. What changes from one quantization to the next are
kernels, biases, the formats of the ReLUs behind them, and the types that hls4ml's `bit_exact` pass infers from these.
Its own rules (`_produce_kif`) are asked again here, layer by layer, and each answer is kept: layers that two
quantizations share are inferred once. A swapped graph is costed and simulated; it is never written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw.generate.contract import teach_bit_exact
from hw.generate.hardware import HardwareConfig
from hw.generate.precision import hls4ml_precision, override_precisions, tightest
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.layers import kernel_of, weighted_layers

#: hls4ml's classes that may stand in such a graph: those that the QKeras twin of a float model becomes.
_LINEAR = ("Dense", "Conv1D", "Conv2D", "PointwiseConv1D", "PointwiseConv2D", "DepthwiseConv1D", "DepthwiseConv2D")
_POOLING = ("Pooling1D", "Pooling2D", "GlobalPooling1D", "GlobalPooling2D")
_OTHERS = ("Input", "Reshape", "Merge", "Concatenate", "Transpose", "ZeroPadding1D", "ZeroPadding2D")
_COPIES = ("Clone", "Repack")  # io_stream: they hand on what they get
_MOVING = (*_COPIES, "Reshape", "ZeroPadding1D", "ZeroPadding2D")
_KEEP_BYTES = 256 << 20  # of weights whose types are known
_KNOWN = (*_LINEAR, *_POOLING, *_OTHERS, *_COPIES, "Activation")


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer's rounded weights, as Keras has them."""

    key: Hashable  # equal keys of one layer: equal weights
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32] | None


class _Types(NamedTuple):
    """What bit_exact gives a layer."""

    result: FixedPoint
    accumulator: FixedPoint


class SwappableGraph:
    """hls4ml's graph of one structure, and the way to other weights and formats."""

    def __init__(self, graph: Any, model: Any, config: HardwareConfig) -> None:
        """Take a graph over; nobody else may use it.

        Args:
            graph: hls4ml's `ModelGraph` after its passes and ours.
            model: the QKeras model that it was converted from.
            config: what it was converted for: its types are set again on every quantization.

        Raises:
            UserError: a layer whose types we could not infer again; convert each quantization then.
        """
        teach_bit_exact()
        _teach_copies()
        self.graph, self._config = graph, config
        self._nodes = list(graph.get_layers())
        self._holders = _holders_by_name(self._nodes)
        self._types: dict[Hashable, _Types] = {}
        self._stored: dict[Hashable, list[tuple[NDArray[Any], FixedPoint]]] = {}
        self._stored_bytes = 0
        self._kernels = {layer.name: kernel_of(layer).numpy() for layer in weighted_layers(model)}
        self._layouts = {node.name: self._layout(node) for node in self._nodes if node.class_name in _LINEAR}
        for node in self._nodes:
            self._check(node)
            if node.class_name == "Input":
                node.attributes["trusted"] = True  # its type is the structure's, whatever the weights

    def put(self, weights: Mapping[str, LayerWeights], relus: Mapping[str, FixedPoint]) -> None:
        """Make it the graph of another quantization.

        Args:
            weights: of every layer with a kernel, by name.
            relus: the format of every rounded ReLU, by name.

        Raises:
            UserError: a type that the config sets does not hold these weights.
        """
        keys: dict[str, Hashable] = {}
        moved = [self._store(node, weights[node.name]) for node in self._nodes if node.class_name in _LINEAR]
        for node in self._nodes:
            keys[node.name] = self._key(node, keys, weights, relus)
            if node.class_name == "Activation":
                self._retype(node.get_output_variable().type, relus[node.name])
            elif _takes_over(node):
                self._take_over(node)
            elif node.class_name != "Input":
                self._infer(node, keys[node.name])
        for node, kernel in moved:
            node.weights["weight"].data = kernel
        override_precisions(self.graph, self._config)

    def _store(self, node: Any, new: LayerWeights) -> tuple[Any, NDArray[Any]]:
        """Weights as Keras has them into a node, for inference; the kernel as hls4ml's backend wants it comes back."""
        key = (node.name, new.key)
        if key not in self._stored:
            kernel = new.kernel.astype(np.float64)
            bias = np.zeros(node.weights["bias"].data.shape) if new.bias is None else new.bias.astype(np.float64)
            self._stored_bytes += kernel.nbytes + bias.nbytes
            if self._stored_bytes > _KEEP_BYTES:
                self._stored.clear()
                self._stored_bytes = kernel.nbytes + bias.nbytes
            self._stored[key] = [(array, tightest(array)) for array in (kernel, bias)]
        for name, (array, fmt) in zip(("weight", "bias"), self._stored[key], strict=True):
            variable = node.weights[name]
            variable.data = array
            variable.update_precision(hls4ml_precision(variable.type.precision, fmt))
            self._retype(variable.type, fmt)
        axes, shape = self._layouts[node.name]
        return node, self._stored[key][0][0].transpose(axes).reshape(shape)

    def _key(
        self,
        node: Any,
        keys: Mapping[str, Hashable],
        weights: Mapping[str, LayerWeights],
        relus: Mapping[str, FixedPoint],
    ) -> Hashable:
        """What a node's types follow from: its weights and its inputs, back to the nearest rounded ReLU."""
        if node.class_name == "Activation":
            return node.name, relus[node.name]
        own = weights[node.name].key if node.class_name in _LINEAR else None
        return node.name, own, tuple(keys[source.name] for source in _sources(node))

    def _infer(self, node: Any, key: Hashable) -> None:
        if key not in self._types:
            self._types[key] = _inferred(node)
            for other in self._nodes:  # hls4ml's own memory, of these weights only
                other.attributes.attributes.pop("_produce_kif", None)
        types = self._types[key]
        for variable in node.variables.values():
            self._retype(variable.type, types.result)
        if node.get_attr("accum_t") is not None:
            self._retype(node.get_attr("accum_t"), types.accumulator)

    def _take_over(self, node: Any) -> None:
        fmt = FixedPoint.from_hls4ml(_sources(node)[0].get_output_variable().type.precision)
        for variable in node.variables.values():
            self._retype(variable.type, fmt)

    def _retype(self, named: Any, fmt: FixedPoint) -> None:
        """Every use of a type's name: C++ has one definition."""
        precision = hls4ml_precision(named.precision, fmt)
        for holder in self._holders.get(named.name, ()):
            holder.precision = precision
        named.precision = precision

    def _layout(self, node: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """In which order hls4ml's backend stores a kernel's axes, and in which shape."""
        kernel = self._kernels.get(node.name)
        if kernel is None:
            raise UserError(f"layer {node.name!r} is not in the model")
        natural = tuple(range(kernel.ndim))
        turned = (*natural[-1:], *natural[:-1])
        axes = turned if node.get_attr("_weights_transposed", False) else natural
        stored = np.asarray(node.weights["weight"].data)
        if not np.array_equal(kernel.transpose(axes).reshape(-1), stored.reshape(-1)):
            raise UserError(f"layer {node.name!r}: hls4ml stores its kernel in an order that we do not know")
        return axes, stored.shape

    def _check(self, node: Any) -> None:
        rounded = node.class_name == "Activation"
        if node.class_name not in _KNOWN or (rounded and not _is_rounded_relu(node)):
            raise UserError(f"layer {node.name!r} ({node.class_name}): its types cannot be inferred again")


def relu_format(width: int, integer: int) -> FixedPoint:
    """The type of `quantized_relu(width, integer)` in hls4ml's graph."""
    return FixedPoint(width, integer, False, Rounding.RND_CONV, Overflow.SAT)


def _is_rounded_relu(node: Any) -> bool:
    """A ReLU whose type the quantizer says: it asks for every bit of what it reads."""
    fmt = FixedPoint.from_hls4ml(node.get_output_variable().type.precision)
    is_relu = str(node.get_attr("activation")).lower() == "relu" and bool(node.get_attr("trusted", False))
    return is_relu and (fmt.rounding, fmt.overflow, fmt.signed) == (Rounding.RND_CONV, Overflow.SAT, False)


def _takes_over(node: Any) -> bool:
    """Whether a node has its source's very type: it was put in after bit_exact, or is the same variable in C++."""
    if node.class_name not in _MOVING:
        return False
    shared = node.get_output_variable().type.name == _sources(node)[0].get_output_variable().type.name
    return shared or not node.attributes.get("bit_exact_transformed")


def _inferred(node: Any) -> _Types:
    """hls4ml's own inference. No reader asks for less than a node makes: every ReLU rounds and saturates by itself."""
    from hls4ml.model.optimizer.passes import bit_exact

    k, i, f = bit_exact.kif_arrs_to_ints(bit_exact._produce_kif(node))
    result = FixedPoint.from_hls4ml(bit_exact.to_hls4ml_fixed(k, i, f, node.name).precision)
    grown = 0
    if node.class_name in _POOLING and node.attributes["pool_op"] == "Average":  # summed before it is divided
        grown = int(np.ceil(np.log2(np.prod(bit_exact._get_px_shape(node)))))
    return _Types(result, result._replace(width=result.width + grown, integer=result.integer + grown))


def _sources(node: Any) -> list[Any]:
    from hls4ml.model.optimizer.passes.bit_exact import get_input_layers

    return [] if node.class_name == "Input" else list(get_input_layers(node))


def _holders_by_name(nodes: list[Any]) -> dict[str, list[Any]]:
    """Everything that carries a type, by the type's name."""
    found: dict[str, list[Any]] = {}
    for node in nodes:
        types = [*node.types.values(), *(variable.type for variable in node.variables.values())]
        for named in (*types, *(weight.type for weight in node.weights.values())):
            if all(named is not other for other in found.setdefault(named.name, [])):
                found[named.name].append(named)
    return found


def _teach_copies() -> None:
    """Tell bit_exact of the nodes that io_stream adds after it: they produce what they read."""
    from hls4ml.model.optimizer.passes import bit_exact

    with contextlib.suppress(ImportError):
        from hls4ml.backends.fpga.passes.clone import Clone
        from hls4ml.backends.fpga.passes.repack_stream import Repack

        bit_exact._produce_kif.register(Clone)(lambda node: bit_exact.get_input_kifs(node)[0])
        bit_exact._produce_kif.register(Repack)(_repacked)


def _repacked(node: Any) -> tuple[Any, ...]:
    from hls4ml.model.optimizer.passes import bit_exact

    shape = bit_exact.get_output_shape(node)
    return tuple(bits.reshape(shape) for bits in bit_exact.get_input_kifs(node)[0])
