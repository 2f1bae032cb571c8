"""The generated test bench, compiled by g++ and run: it passes, and any differing bit makes it fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.benches import compile_bench, run_bench
from helpers.models import STREAM, Toolbox, grid_codes

from hw.accelerator import Accelerator
from hw.generate.testbench import FOLDER, INPUTS, OUTPUTS, Origin, TestBench, select, with_checks
from hw.synth.reports import verdict
from qmodels.attacks import FGSM
from qmodels.victims import KerasVictim


@pytest.fixture(scope="module")
def bench(toolbox: Toolbox) -> TestBench:
    """Clean images and FGSM examples, with the QKeras model's outputs."""
    victim = KerasVictim(toolbox.quantized.model, "quantized")
    clean, labels = toolbox.data.test.x[:20], toolbox.data.test.y[:20]
    attacked = FGSM()(victim, clean, labels, epsilon_lsb=32, seed=0).x
    images = np.concatenate([clean, attacked])
    origins = tuple(Origin(kind) for kind in ["clean"] * 20 + ["adversarial"] * 20)
    return TestBench(images, victim.logits(images), origins)


@pytest.fixture(scope="module")
def built(toolbox: Toolbox, bench: TestBench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An io_stream project with its test bench, compiled as the vendor's C simulation does: sources and test bench."""
    folder = tmp_path_factory.mktemp("project")
    project = Accelerator(toolbox.quantized.model, STREAM).project
    project.write(folder)
    bench.write(folder)
    compile_bench(folder, project, apart=True)
    return folder


@pytest.mark.gxx
def test_passes_on_clean_and_adversarial_inputs(built: Path, bench: TestBench) -> None:
    status, out = run_bench(built)
    assert status == 0, out
    assert f"PASS: 0 of {bench.outputs.size} outputs differ, in 0 of 40 inputs" in out
    counts = {"inputs": 40, "outputs_compared": bench.outputs.size, "outputs_different": 0}
    assert verdict(out, "C simulation") == counts  # what synth reads in the vendor's words


@pytest.mark.gxx
def test_one_flipped_weight_bit_fails(built: Path) -> None:
    candidates = sorted((built / "firmware" / "weights").glob("w*.txt"))
    weights = candidates[-1]  # the last layer's: every weight is at work
    before = weights.read_text()
    values = [float(value) for value in before.split(",")]
    step = min(abs(value) for value in values if value)  # the least significant bit of a weight
    flipped = [values[0] + (step if values[0] <= 0 else -step), *values[1:]]
    try:
        weights.write_text(", ".join(repr(value) for value in flipped))
        status, out = run_bench(built)
    finally:
        weights.write_text(before)
    assert status == 1
    assert "MISMATCH line" in out and "FAIL: " in out


@pytest.mark.gxx
def test_one_wrong_prediction_fails_and_is_named(built: Path, bench: TestBench) -> None:
    outputs = bench.outputs.copy()
    outputs[25, 3] += 2.0**-12
    replace(bench, outputs=outputs).write(built)
    try:
        status, out = run_bench(built)
    finally:
        bench.write(built)
    assert status == 1
    assert "MISMATCH line 26, output 3: expected" in out
    assert f"FAIL: 1 of {outputs.size} outputs differ, in 1 of 40 inputs" in out


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / OUTPUTS).unlink(), "is missing, empty or cut"),
        (lambda folder: (folder / INPUTS).write_text(""), "is missing, empty or cut"),
        (lambda folder: _cut(folder / OUTPUTS, lines=30), "is missing, empty or cut"),
        (lambda folder: _cut(folder / INPUTS, lines=30), "is missing, empty or cut"),
        (lambda folder: (folder / INPUTS).write_text("0.5 0.5\n"), "line 1 has 2 inputs and 10 outputs"),
    ],
)
def test_nothing_compared_is_no_success(built: Path, bench: TestBench, damage: object, said: str) -> None:
    try:
        damage(built / FOLDER)  # type: ignore[operator]
        status, out = run_bench(built)
    finally:
        bench.write(built)
    assert status == 1
    assert said in out


def _cut(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


def test_files_hold_exact_decimals(bench: TestBench, tmp_path: Path) -> None:
    bench.write(tmp_path)
    for name, expected in ((INPUTS, bench.grid.to_values(bench.inputs)), (OUTPUTS, bench.outputs)):
        text = (tmp_path / FOLDER / name).read_text()
        assert "e" not in text
        read = np.loadtxt(text.splitlines(), dtype=np.float64)
        np.testing.assert_array_equal(read, expected.reshape(len(expected), -1).astype(np.float64))
    tiny = TestBench(bench.inputs[:1], np.array([[2.0**-30, -0.0, -(2.0**-20)]], np.float32), (Origin("clean"),))
    assert tiny.files[OUTPUTS].split() == [b"0.000000000931322574615478515625", b"0", b"-0.00000095367431640625"]


def test_same_bench_same_bytes(bench: TestBench) -> None:
    again = TestBench(bench.inputs.copy(), bench.outputs.copy(), bench.origins)
    assert again.digest == bench.digest
    other = bench.inputs.copy()
    other[0, 0, 0, 0] ^= 1
    assert TestBench(other, bench.outputs, bench.origins).digest != bench.digest


def test_index_says_where_a_line_comes_from(tmp_path: Path) -> None:
    origin = Origin("adversarial", 7, 3, "pgd-linf", 16.0, "F.L.+mu/quantized")
    TestBench(grid_codes(1), np.zeros((1, 2), np.float32), (origin,)).write(tmp_path)
    index = json.loads((tmp_path / FOLDER / "tb_index.json").read_text())
    assert index["lines"] == [
        {
            "line": 1,
            "kind": "adversarial",
            "image": 7,
            "label": 3,
            "attack": "pgd-linf",
            "epsilon_lsb": 16.0,
            "source": "F.L.+mu/quantized",
        }
    ]


def test_every_attack_has_its_turn() -> None:
    assert select([3, 1, 2], 5) == [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1)]
    assert select([2], 5) == [(0, 0), (0, 1)]
    assert select([], 5) == []


def test_another_form_of_hls4ml_test_bench_is_noticed() -> None:
    with pytest.raises(AssertionError, match="differs from that of"):
        with_checks("int main() {\n    return 0;\n}\n", "Vitis", 4, 2)
