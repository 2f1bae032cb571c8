"""ONNX files whose numbers are out of all bounds are told before qonnx computes with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.qonnx_models import write_convolution

from hw.generate.onnx_checks import read_onnx
from qmodels.errors import UserError

onnx = pytest.importorskip("onnx", reason='needs onnx: pip install "robust-hls[onnx]"')
pytest.importorskip("qonnx", reason='needs qonnx: pip install "robust-hls[onnx]"')


def constant(name: str, value: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        (tensor,) = (item for item in model.graph.initializer if item.name == name)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))

    return edit


def shaped(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 10**9


def inflated(model: Any) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([10**5, 10**5], np.int64), "sizes"))
    model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["sizes"], ["huge"], name="huge"))


def outside(model: Any) -> None:
    (tensor,) = (item for item in model.graph.initializer if item.name == "matrix")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"


def lengthened(model: Any) -> None:
    (tensor,) = (item for item in model.graph.initializer if item.name == "matrix")
    tensor.dims[0] = 10**12


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (constant("act_bits", 1e20), r"layer act: Quant has 1e\+20 bits; allowed: 1 to 64"),
        (constant("kernel_q_bits", -3), "layer kernel_q: Quant has -3 bits; allowed: 1 to 64"),
        (constant("act_scale", 0), "layer act: Quant has scale 0; allowed: more than 0"),
        (constant("act_scale", np.nan), "layer act has weights that are not finite"),
        (constant("matrix", [[np.inf, 0.0]]), "layer matrix_q has weights that are not finite .1 of 2 in matrix are"),
        (shaped, r"tensor 'image' of shape \(1, 1, 1000000000, 4\) has more than 100000000 numbers"),
        (inflated, r"tensor 'huge' of shape \(100000, 100000\) has more than 100000000 numbers"),
        (lengthened, r"layer matrix_q: tensor 'matrix' of shape \(1000000000000, 3\): at most 100000000 are loaded"),
    ],
)
def test_what_is_out_of_all_bounds(tmp_path: Path, edit: Callable[[Any], None], told: str) -> None:
    path = tmp_path / "own.onnx"
    write_convolution(path)
    model = onnx.load(str(path))
    edit(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=f"own.onnx: {told}"):
        read_onnx(path)


def test_no_file_outside_its_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "own.onnx"
    write_convolution(path)
    model = onnx.load(str(path))
    outside(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match="outside"):
        read_onnx(path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "own.onnx").touch()
    with pytest.raises(UserError, match=r"own.onnx: not a readable ONNX model \(an empty file"):
        read_onnx(tmp_path / "own.onnx")


def test_a_good_model_passes(tmp_path: Path) -> None:
    write_convolution(tmp_path / "own.onnx")
    assert len(read_onnx(tmp_path / "own.onnx").graph.node) > 3
