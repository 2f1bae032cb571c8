"""QONNX models, written node by node as Brevitas exports them: quantizers are nodes, images are channels first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

QUANT = "qonnx.custom_op.general"


class Writer:
    """Nodes and constants of one model."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        """A constant tensor's name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of a new node's output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, domain=domain, **attributes))
        return f"{name}_out"

    def quant(self, name: str, source: str, bits: int, step: float, signed: int = 1) -> str:
        """Round to `bits` bits of `step`."""
        settings = {"scale": step, "zero": 0.0, "bits": float(bits)}
        parts = [self.constant(f"{name}_{key}", np.float32(value)) for key, value in settings.items()]
        options = {"narrow": 0, "signed": signed, "rounding_mode": "ROUND"}
        return self.node("Quant", name, source, *parts, domain=QUANT, **options)


def write_convolution(path: Path, size: int = 4, classes: int = 3, seed: int = 0) -> None:
    """A network for images (1, size, size): convolution, ReLU, matrix, all quantized."""
    from onnx import TensorProto, helper

    rng, to = np.random.default_rng(seed), Writer()
    inside = 2 * (size - 2) ** 2
    kernel = to.constant("kernel", rng.normal(size=(2, 1, 3, 3)).astype(np.float32) * 0.5)
    matrix = to.constant("matrix", rng.normal(size=(inside, classes)).astype(np.float32) * 0.5)
    x = to.quant("grid", "image", 9, 2.0**-8)
    settings: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
    x = to.node("Conv", "conv", x, to.quant("kernel_q", kernel, 6, 2.0**-5), group=1, **settings)
    x = to.quant("act", to.node("Relu", "relu", x), 8, 2.0**-5, signed=0)
    x = to.node("Reshape", "flat", x, to.constant("shape", np.array([1, inside], np.int64)))
    to.node("MatMul", "logits", x, to.quant("matrix_q", matrix, 6, 2.0**-5))
    ends = (("image", [1, 1, size, size]), ("logits_out", [1, classes]))
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends]
    graph = helper.make_graph(to.nodes, "own", *ports, to.constants)
    versions = [helper.make_opsetid("", 13), helper.make_opsetid(QUANT, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    path.write_bytes(model.SerializeToString())
