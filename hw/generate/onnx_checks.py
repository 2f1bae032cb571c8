"""What an ONNX file asks for, looked at before qonnx and hls4ml compute with it: sizes, numbers, quantizers."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from qmodels.errors import UserError
from qmodels.loading.limits import MAX_NUMBERS

_MAX_BYTES = 8 * MAX_NUMBERS
_MEND = "check the file; a model for an FPGA is far smaller"
#: The inputs of qonnx' quantizers that are numbers, with what they may be.
_BITS = (1, 64)
_QUANTIZERS = {
    "Quant": {1: "scale", 2: "zero point", 3: "bits"},
    "BipolarQuant": {1: "scale"},
    "Trunc": {1: "scale", 2: "zero point", 3: "bits", 4: "bits"},
}


def read_onnx(path: Path) -> Any:
    """An ONNX model that may be worked on.

    Raises:
        UserError: the file is empty or too large, or asks for tensors larger than memory, or has weights that are not
            finite, or quantizers of more than 64 bits.
        Exception: onnx' own, where the file is damaged.
    """
    import onnx

    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path}: not a readable ONNX model (an empty file)")
    if size > _MAX_BYTES:
        raise UserError(f"{path}: has {size} bytes; at most {_MAX_BYTES} are loaded; {_MEND}")
    model = onnx.load(str(path))
    constants = _checked_constants(model, path)
    _check_shapes(model, path)
    for node in model.graph.node:
        for place, what in _QUANTIZERS.get(node.op_type, {}).items():
            held = constants.get(node.input[place]) if place < len(node.input) else None
            if held is None or held.size == 0:
                continue
            low, high = float(np.min(held)), float(np.max(held))
            if what == "bits" and not _BITS[0] <= low <= high <= _BITS[1]:
                wrong = low if low < _BITS[0] else high
                raise UserError(f"{_layer(node, path)}: {node.op_type} has {wrong:g} bits; allowed: 1 to 64")
            if what == "scale" and low <= 0:
                raise UserError(f"{_layer(node, path)}: {node.op_type} has scale {low:g}; allowed: more than 0")
    return model


def _checked_constants(model: Any, path: Path) -> dict[str, Any]:
    """The model's constant tensors by name, all of them finite and small enough."""
    from onnx import numpy_helper

    found: dict[str, Any] = {}
    numbers = 0
    takers = {name: node for node in model.graph.node for name in node.input}
    for name, tensor, node in _tensors(model):
        numbers += prod(tensor.dims)
        layer = takers.get(name, node)
        where = _layer(layer, path) if layer is not None else f"{path}"
        if numbers > MAX_NUMBERS or any(size < 0 for size in tensor.dims):
            shape = tuple(tensor.dims)
            raise UserError(f"{where}: tensor {name!r} of shape {shape}: at most {MAX_NUMBERS} are loaded; {_MEND}")
        found[name] = numpy_helper.to_array(tensor, base_dir=str(path.parent))
        if found[name].dtype.kind != "f":
            continue
        wrong = int(found[name].size - np.isfinite(found[name]).sum())
        if wrong:
            raise UserError(
                f"{where} has weights that are not finite ({wrong} of {found[name].size} in {name} are NaN or "
                "infinite); train it again, with a lower learning rate, and export it then"
            )
    return found


def _tensors(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, tensor, and the node that holds it (None: the graph)."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor, None
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield (node.output[0] if node.op_type == "Constant" else attribute.name), attribute.t, node


def _check_shapes(model: Any, path: Path) -> None:
    """See that no tensor between the nodes is larger than memory, as far as shapes follow from the file."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in [*model.graph.input, *graph.value_info, *graph.output]:
        shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if prod(max(1, size) for size in shape) > MAX_NUMBERS:
            raise UserError(
                f"{path}: tensor {value.name!r} of shape {shape} has more than {MAX_NUMBERS} numbers; {_MEND}"
            )


def _layer(node: Any, path: Path) -> str:
    return f"{path}: layer {node.name or node.op_type}"
