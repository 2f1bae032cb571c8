"""hls4ml 1.3.0 converts, and computes something else than Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.findings import Finding


@pytest.mark.slow
@pytest.mark.gxx
def test_kernels_one_high(finding: Finding) -> None:
    names = finding.run()
    finding.still(bool((names["keras_y"] != names["hls_y"]).any()))


@pytest.mark.slow
@pytest.mark.gxx
def test_padded_max_pooling(finding: Finding) -> None:
    names = finding.run()
    ours, theirs = (names[name].reshape(20, 3, 3) for name in ("keras_y", "hls_y"))
    np.testing.assert_array_equal(ours[:, :2, :2], theirs[:, :2, :2])  # what no padding touches
    finding.still(bool((theirs[:, 2] >= 2.0).all()) and bool((ours[:, 2] < 2.0).all()))


def test_dense_on_an_image(finding: Finding) -> None:
    names = finding.run()
    finding.still(bool((names["ours"].ravel() != names["theirs"].ravel()).any()))


def test_relu_has_no_parameters(finding: Finding) -> None:
    layer = finding.run()["layer"]
    finding.still(layer.class_name == "Activation" and "nnet::relu<" in layer.get_attr("function_cpp"))


def test_two_roundings_in_a_row(finding: Finding) -> None:
    names = finding.run()
    hls = names["hls"]
    finding.still("bits" not in hls.graph and names["result_of"](hls, "relu").startswith("fixed<4,2"))


@pytest.mark.slow
@pytest.mark.gxx
def test_quartus(finding: Finding) -> None:
    names = finding.run()
    finding.still(bool((names["averages"] != names["wrong_averages"]).any()))
    finding.still(bool((names["sums"] != names["wrong_sums"]).any()))


@pytest.mark.slow
@pytest.mark.gxx
def test_catapult(finding: Finding) -> None:
    names = finding.run()
    ours, theirs = (names[name].reshape(20, 20) for name in ("keras_y", "hls_y"))
    for part in (slice(16), slice(16, 20)):  # the average of two tensors, average pooling
        finding.still(bool((ours[:, part] != theirs[:, part]).any()))


def test_a_type_of_another_layer(finding: Finding) -> None:
    names = finding.run()
    defined = [line for line in names["defines"].splitlines() if line.endswith(" fc_weight_t;")]
    needed = names["result_of"](names["hls"], "fc_weight").removeprefix("fixed<").split(",")[:2]
    finding.still(defined == ["typedef ap_fixed<4,1> fc_weight_t;"] and needed != ["4", "1"])


@pytest.mark.slow
@pytest.mark.gxx
def test_ternary_tanh(finding: Finding, tmp_path: Path) -> None:
    finding.still(finding.status(tmp_path)[0] == 7)


def test_ternary_is_left_out(finding: Finding) -> None:
    finding.still("nnet::" not in finding.run()["source"].partition("// NETWORK INSTANTIATION")[2])


@pytest.mark.slow
@pytest.mark.gxx
def test_selu(finding: Finding) -> None:
    parallel, stream = finding.run()["both"]
    finding.still(bool((parallel != stream).any()))


def test_legacy_softmax(finding: Finding) -> None:
    config = finding.run()["config"].partition("};")[0]
    assert "nnet::softmax_implementation::legacy" in config
    finding.still("table_t table_t;" not in config and " table_size " not in config)


def test_whole_numbers(finding: Finding) -> None:
    names = finding.run()
    finding.still(names["result_of"](names["hls"], "whole") == "uint<6>")


@pytest.mark.slow
@pytest.mark.gxx
def test_no_integer_bit(finding: Finding, tmp_path: Path) -> None:
    finding.still(finding.status(tmp_path)[0] == 7)


def test_batch_norm_behind_depthwise(finding: Finding) -> None:
    finding.still(finding.run()["hls"].graph["conv"].weights["weight"].data.shape == (2, 2, 3, 3))


def test_causal_with_a_stride(finding: Finding) -> None:
    finding.still(finding.run()["hls"].graph["conv"].get_attr("pad_left") == 2)


def test_scaled_bias(finding: Finding) -> None:
    names = finding.run()
    finding.still(bool((names["ours"] != names["theirs"]).all()))


def test_symmetric_and_unsigned(finding: Finding) -> None:
    symmetric, unsigned = finding.run()["types"]
    finding.still("SAT_SYM" not in symmetric)
    finding.still(not unsigned.startswith("ufixed"))


def test_dilation(finding: Finding) -> None:
    names = finding.run()
    finding.still(names["ours"] == (4, 4, 1) and names["theirs"] == (5, 5, 1))


def test_binary_weights(finding: Finding) -> None:
    weight = finding.run()["weight"]
    finding.still(weight.data.min() == 0 and "xnor" not in type(weight.type.precision).__name__.lower())
