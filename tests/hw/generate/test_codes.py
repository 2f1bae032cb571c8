"""Weights stored as codes: same bits as values, in every strategy and io type; stored bits counted as they are."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benches import compile_bench, run_bench
from helpers.kept import compile_once
from helpers.models import Toolbox, qkeras_model, weight_quantizers
from hypothesis import given
from hypothesis import strategies as st

from hw.accelerator import Accelerator
from hw.generate.codes import HEADER, Codebook, _codebook, choose_codebooks
from hw.generate.convert import convert
from hw.generate.hardware import HardwareConfig
from hw.generate.project import HlsProject
from hw.generate.testbench import Origin, TestBench
from hw.simulate.exactness import probe_inputs, require_exact
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import EXTREMES, IMAGE_GRID
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.runtime import runtime
from qmodels.victims import KerasVictim

RESOURCE = {"strategy": "resource", "layers": {"conv2": {"reuse_factor": 6}, "fc1": {"reuse_factor": 8}}}


@pytest.fixture(scope="module")
def model(toolbox: Toolbox) -> Any:
    """A small cnn4 whose kernels have at most eight values each, spread as the inverse of the µ-law."""
    config = QuantizationConfig.model_validate(
        {"method": "codebook", "weight_bits": 3, "activation_bits": 5, "calibration_samples": 200}
    )
    return quantize_model(toolbox.float_model, config, toolbox.data.train.values).model


def codes(**hardware: Any) -> HardwareConfig:
    return HardwareConfig.model_validate({"weight_storage": "codes", **hardware})


@pytest.mark.gxx
def test_codes_give_the_bits_of_values(toolbox: Toolbox, model: Any) -> None:
    """In one strategy and io type; the test bench below holds the other against QKeras."""
    config = codes(backend="Vivado", **RESOURCE)
    accelerator = Accelerator(model, config)
    assert accelerator.project.files["firmware/defines.h"].count(b"typedef nnet::codebook<3, ") == 4
    images = probe_inputs(IMAGE_GRID, toolbox.data.test.x[:10], 5, seed=0)
    csim = accelerator.compile(optimize=False)
    require_exact(KerasVictim(model, "quantized"), csim, images)
    require_exact(csim, accelerator, images)


@pytest.mark.gxx
def test_depthwise_and_pointwise_kernels_may_be_codes() -> None:
    keras, q = runtime().keras, runtime().qkeras
    four_bits = q.quantized_bits(4, 0, alpha=1)
    image = keras.Input((4, 4, 2), name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = q.QDepthwiseConv2D(3, depthwise_quantizer=four_bits, use_bias=False, name="dw")(x)
    x = q.QConv2D(3, 1, kernel_quantizer=four_bits, use_bias=False, name="pw")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    net = keras.Model(image, q.QDense(3, name="logits", **weight_quantizers())(x), name="own")
    images = probe_inputs(IMAGE_GRID, np.zeros((0, 4, 4, 2), np.uint8), 20, seed=0)
    accelerator = Accelerator(net, codes())
    csim = accelerator.compile(optimize=False)
    require_exact(KerasVictim(net, "quantized"), csim, images)
    require_exact(csim, accelerator, images)


@pytest.mark.gxx
def test_the_test_bench_passes_with_codes_and_one_flipped_code_bit_fails(
    toolbox: Toolbox, model: Any, tmp_path: Path
) -> None:
    accelerator = Accelerator(model, codes(io_type="io_stream"))
    project = accelerator.project
    assert project.files["firmware/defines.h"].count(b"typedef nnet::codebook<3, ") == 4
    images = probe_inputs(IMAGE_GRID, toolbox.data.test.x[:10], 0, seed=0)
    origins = tuple([Origin("clean")] * 10 + [Origin("extreme")] * EXTREMES)
    project.write(tmp_path)
    quantized = KerasVictim(model, "quantized")
    require_exact(quantized, accelerator, images)
    TestBench(images, quantized.logits(images), origins).write(tmp_path)
    assert "PASS: 0 of" in _bench(tmp_path, project, 0)
    weights = sorted((tmp_path / "firmware" / "weights").glob("w*.txt"))[-1]  # the last layer's: every one is at work
    first, rest = weights.read_text().split(",", 1)
    weights.write_text(f"{int(first) ^ 1},{rest}")
    assert "MISMATCH line" in _bench(tmp_path, project, 1)


def _bench(folder: Path, project: HlsProject, status: int) -> str:
    """What the test bench says; it is compiled if it is not there yet."""
    if not (folder / "bench").exists():
        compile_bench(folder, project)
    found, said = run_bench(folder)
    assert found == status, said
    return said


@pytest.mark.gxx
def test_synthesis_reads_the_same_codes_from_the_headers(model: Any, tmp_path: Path) -> None:
    """What the vendor's synthesis compiles (-D__SYNTHESIS__), not the text files of the simulation."""
    Accelerator(model, codes()).project.write(tmp_path)
    weights = sorted((tmp_path / "firmware" / "weights").glob("w*.txt"))[-1]
    name, text = weights.stem, weights.read_text()
    (tmp_path / "main.cpp").write_text(
        '#include "firmware/defines.h"\n#define __SYNTHESIS__\n#include "firmware/weights/'
        f'{name}.h"\n#include <cstdio>\nint main() {{ for (auto w : {name}) std::printf("%d, ", w.code.to_int()); }}\n'
    )
    flags = ["-std=c++14", "-w", "-Ifirmware/ap_types/", "-Ifirmware"]
    compile_once(tmp_path, [*flags, "main.cpp"], "main")
    out = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.rstrip(", ") == text


def test_cost_counts_codes_and_tables(model: Any) -> None:
    design = Accelerator(model, codes())
    for layer in design.cost.layers:
        if layer.kind not in ("Dense", "Conv2D"):
            continue
        found = re.search(
            rf"typedef nnet::codebook<(\d), ap_u?fixed<(\d+),.* {layer.layer}_weight_t",
            design.project.files["firmware/defines.h"].decode(),
        )
        assert found is not None
        bits, width = int(found[1]), int(found[2])
        kernel, _ = model.get_layer(layer.layer).get_weights()
        values = Accelerator(model, HardwareConfig()).cost
        plain = next(other for other in values.layers if other.layer == layer.layer)
        assert layer.weight_bits == plain.weight_bits - kernel.size * (width - bits) + width * 2**bits
        assert layer.ebops == plain.ebops  # the products are the same


def test_auto_takes_codes_where_they_save_bits(model: Any) -> None:
    config = HardwareConfig(weight_storage="auto")
    graph = convert(model, config).graph
    books = choose_codebooks(graph, config)
    for layer in graph.get_layers():
        for kernel in layer.weights.values():
            plain = kernel.type.precision.width * kernel.data.size
            if kernel.name in books:
                assert books[kernel.name].stored_bits(kernel.data.size) < plain
    assert 0 < len(books) < 4
    assert choose_codebooks(graph, HardwareConfig()) == {}
    one = HardwareConfig.model_validate({"layers": {"fc1": {"weight_storage": "codes"}}})
    assert list(choose_codebooks(graph, one)) == [graph.graph["fc1"].weights["weight"].name]


@given(st.sets(st.integers(-100, 100), min_size=1, max_size=256), st.randoms(use_true_random=False))
def test_a_codes_value_is_the_weight(raws: set[int], random: Any) -> None:
    fmt, ordered = FixedPoint(8, 2), sorted(raws)
    bits = max((len(ordered) - 1).bit_length(), 1)
    book = Codebook(bits, fmt, (*ordered, *[ordered[-1]] * (2**bits - len(ordered))))
    kernel = np.array([random.choice(ordered) for _ in range(30)]).reshape(5, 6)
    stored = book.codes(kernel * fmt.lsb)
    assert stored.shape == kernel.shape and stored.min() >= 0 and stored.max() < 2**bits
    np.testing.assert_array_equal(np.asarray(book.raw)[stored], kernel)


def test_what_cannot_be_codes_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match=r"hardware.weight_storage.*codes need the backend Vitis, .*, not Quartus"):
        Accelerator(model, codes(backend="Quartus"))
    assert HEADER not in Accelerator(model, HardwareConfig(backend="Quartus", weight_storage="auto")).project.files
    wide = runtime().qkeras.quantized_bits(12, 0, alpha=1)
    many = qkeras_model(shape=(20, 20, 1), kernel_quantizer=wide)
    with pytest.raises(
        UserError, match=r"layer 'logits': its kernel has \d+ distinct values, codes can have at most 256"
    ):
        Accelerator(many, codes())


@dataclass
class Kernel:
    """hls4ml's weight variable, as far as we read it."""

    precision: str
    data: Any

    @property
    def type(self) -> Kernel:
        """Its named type."""
        return self


@pytest.mark.parametrize(("text", "fits"), [("fixed<32,1>", True), ("ufixed<31,1>", True), ("ufixed<32,1>", False)])
def test_values_that_are_no_cpp_ints_are_not_coded(text: str, fits: bool) -> None:
    values = np.array([0.25, 0.5])
    if fits:
        book = _codebook(Kernel(text, values), "here", "codes", "Vitis")
        assert book is not None and max(book.raw) == 2 ** (book.format.fraction - 1)
        return
    with pytest.raises(UserError, match=r"here: its kernel's type ufixed<32,.* is too wide.*at most 32 bits"):
        _codebook(Kernel(text, values), "here", "codes", "Vitis")
    assert _codebook(Kernel(text, values), "here", "auto", "Vitis") is None
