"""Cost without synthesis: counts are exact, estimates stay near public vendor reports."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.models import HARDWARE, STREAM, Toolbox, qkeras_model
from helpers.vendor_designs import design_graph, vendor_reports

from hw.cost import Cost, bram_blocks, estimate_cost
from hw.cost.weights import raw_weights
from hw.generate.convert import convert
from hw.generate.hardware import HardwareConfig
from qmodels.formats import FixedPoint
from qmodels.quantize.constants import enclosed_bits
from qmodels.runtime import runtime
from qmodels.storage import save_model


def dense_cost(weights: Any, **hardware: Any) -> Cost:
    """16 inputs of 9 bits, quantized_bits(4, 0): 3 outputs."""
    model = qkeras_model()
    model.get_layer("logits").set_weights([np.asarray(weights, np.float32), np.zeros(3, np.float32)])
    return estimate_cost(convert(model, HardwareConfig(**hardware)).graph)


@pytest.mark.parametrize(
    ("raw", "bits"),
    [(0, 0), (1, 1), (-1, 1), (2, 1), (8, 1), (3, 2), (6, 2), (-6, 2), (5, 3), (7, 3), (96, 2)],
)
def test_enclosed_bits(raw: int, bits: int) -> None:
    assert enclosed_bits(np.array([raw])).tolist() == [bits]
    assert len(f"{abs(raw):b}".strip("0")) == bits  # the definition


def test_raw_weights_are_those_of_the_format() -> None:
    fmt = FixedPoint(4, 1)
    values = np.arange(fmt.raw_min, fmt.raw_max + 1)
    np.testing.assert_array_equal(raw_weights(values * fmt.lsb, fmt), values)


@pytest.mark.parametrize(
    ("depth", "width", "blocks"),
    [(32, 16, 0), (33, 16, 1), (900, 16, 1), (1024, 18, 1), (1025, 18, 2), (512, 36, 1), (512, 37, 2), (16384, 1, 1)],
)
def test_block_rams(depth: int, width: int, blocks: int) -> None:
    """The first cases as in the public reports: depth 16 none, 36 and 900 one a channel."""
    assert bram_blocks(depth, width) == blocks


def test_zero_weights_cost_nothing_and_shifts_one_bit() -> None:
    weights = np.zeros((16, 3))
    weights[0, 0], weights[1, 1], weights[2, 2] = 0.5, 0.375, -0.625  # 1, 2 and 3 enclosed bits
    cost = dense_cost(weights)
    (layer,) = [layer for layer in cost.layers if layer.kind == "Dense"]
    assert (layer.multiplications, layer.multipliers) == (3, 3)
    inputs = layer.ebops // 6
    assert layer.ebops == (1 + 2 + 3) * inputs and inputs in (8, 9)
    assert cost.total("ebops") == layer.ebops


def adders(weights: Any, **hardware: Any) -> int | None:
    model = qkeras_model()
    model.get_layer("logits").set_weights([np.asarray(weights, np.float32), np.zeros(3, np.float32)])
    return estimate_cost(convert(model, HardwareConfig(**hardware)).graph, adders=True).adder_bits


def test_adders_are_those_of_shared_shifts_and_sums() -> None:
    pytest.importorskip("alkaid")
    weights = np.zeros((16, 3))
    weights[0, 0], weights[1, 1], weights[2, 2] = 0.5, 0.25, -0.5
    shifts = adders(weights)
    weights[0, 0] = 0.375  # x/2 - x/8: one adder
    one = adders(weights)
    weights[0, 1], weights[1, 1] = 0.375, 0.0  # the same product: shared
    assert shifts is not None and one is not None and shifts < one <= shifts + 20
    assert adders(weights) == one
    assert adders(weights, strategy="resource") is None  # time-multiplexed weights are data


def test_a_depthwise_kernel_has_one_matrix_a_channel() -> None:
    pytest.importorskip("alkaid")
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((3, 3, 2), name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = q.QDepthwiseConv2D(3, depthwise_quantizer=q.quantized_bits(4, 0, alpha=1), use_bias=False, name="dw")(x)
    model = keras.Model(image, keras.layers.Flatten(name="flatten")(x), name="own")
    found = []
    for kernel in (np.full((3, 3, 2, 1), 0.5), np.full((3, 3, 2, 1), 0.5) * [[[[1], [0]]]]):
        model.get_layer("dw").set_weights([kernel.astype(np.float32)])
        found.append(estimate_cost(convert(model, HARDWARE).graph, adders=True).adder_bits)
    assert found[0] == 2 * found[1] > 0  # nine taps are summed in each channel


def test_printed_it_says_totals_and_the_layers_that_cost_something() -> None:
    told = str(dense_cost(np.full((16, 3), 0.5)))
    assert told.startswith("estimated: ") and "LUTs" in told.splitlines()[0]
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["logits"]


def test_reuse_divides_multipliers_and_multiplies_cycles() -> None:
    weights = np.full((16, 3), 0.625)
    one = dense_cost(weights, strategy="resource", reuse_factor=1)
    eight = dense_cost(weights, strategy="resource", reuse_factor=8)
    assert (one.total("multipliers"), eight.total("multipliers")) == (48, 6)
    assert (one.ii_cycles, eight.ii_cycles) == (1, 8)
    assert eight.latency_cycles > one.latency_cycles
    assert eight.total("luts_estimated") < one.total("luts_estimated")
    assert one.total("multiplications") == eight.total("multiplications") == 48


def test_a_convolution_counts_positions_per_inference_and_kernels_in_hardware(toolbox: Toolbox) -> None:
    graph = convert(toolbox.quantized.model, HARDWARE).graph
    cost = estimate_cost(graph)
    layer = next(layer for layer in cost.layers if layer.layer == "conv1")
    kernel = toolbox.quantized.model.get_layer("conv1").kernel.numpy()
    assert layer.multipliers == np.count_nonzero(kernel)
    assert layer.multiplications == 64 * layer.multipliers
    assert layer.interval_cycles == 64 == cost.ii_cycles  # hls4ml goes over the 8x8 positions


def test_streams_are_stored_and_layers_overlap(toolbox: Toolbox) -> None:
    parallel = estimate_cost(convert(toolbox.quantized.model, HARDWARE).graph)
    stream = estimate_cost(convert(toolbox.quantized.model, STREAM).graph)
    assert parallel.total("fifo_bits") == 0 < stream.total("fifo_bits")
    assert parallel.total("weight_bits") == stream.total("weight_bits")
    assert stream.latency_cycles < stream.total("latency_cycles")
    assert stream.ii_cycles >= 100  # the padded 10x10 image, pixel by pixel


def test_json_says_what_is_estimated(toolbox: Toolbox) -> None:
    cost = estimate_cost(convert(toolbox.quantized.model, HARDWARE).graph)
    record = json.loads(json.dumps(cost.as_json()))
    assert record["ebops"] == sum(layer["ebops"] for layer in record["layers"])
    assert {"luts_estimated", "dsps_estimated", "latency_cycles_estimated", "ii_cycles_estimated"} <= set(record)


@pytest.fixture(scope="module")
def against_reports() -> list[tuple[dict[str, Any], Cost]]:
    return [(design, estimate_cost(design_graph(design))) for design in vendor_reports()]


def test_estimates_stay_near_public_vendor_reports(against_reports: list[tuple[dict[str, Any], Cost]]) -> None:
    """The figures of docs/cost.md: if the model of the cost changes, they change."""
    assert len(against_reports) >= 3
    errors = []
    for design, cost in against_reports:
        report = design["synthesis"] or design["csynth"]
        errors.append(abs(cost.total("luts_estimated") / report["luts"] - 1))
        if design["io_type"] == "io_stream":
            assert cost.ii_cycles == design["csynth"]["ii_cycles"]
            assert abs(cost.latency_cycles / design["csynth"]["latency_cycles"] - 1) < 0.02
            assert abs(cost.total("bram_18k") - design["csynth"]["bram_18k"]) <= 2
    assert median(errors) < 0.15
    assert max(errors) < 0.3


def test_every_report_has_its_source() -> None:
    for design in vendor_reports():
        assert design["source"].startswith("https://github.com/") and len(design["source"].split("/")[6]) == 40


def test_generate_prints_the_cost(cli: Cli) -> None:
    q = runtime().qkeras
    wide = q.quantized_bits(16, 0, alpha=1)
    save_model(qkeras_model(shape=(8, 8, 1), classes=10, kernel_quantizer=wide), cli.folder / "own.keras")
    outcome = cli("generate", "--model", "own.keras")
    assert outcome.status == 0, outcome.err
    assert "Cost without synthesis" in outcome.out
    record = json.loads((cli.folder / "hls_projects" / "own" / "cost.json").read_text())
    assert f"{record['ebops']:,}" in outcome.out
    assert "warning: layer 'logits': its sums may need" in outcome.out
