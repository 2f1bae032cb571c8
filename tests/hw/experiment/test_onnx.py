"""A QONNX file from the command line: no gradients, so it is asked, not differentiated."""

from __future__ import annotations

import json

import pytest
from helpers.cli import Cli
from helpers.models import write_data
from helpers.qonnx_models import write_convolution

pytest.importorskip("qonnx", reason='needs qonnx: pip install "robust-hls[onnx]"')


@pytest.fixture
def own(cli: Cli) -> tuple[str, ...]:
    write_convolution(cli.folder / "own.onnx")
    write_data(cli.folder / "own.npz")
    return "--model", "own.onnx", "--data", "own.npz", "--out", "run"


@pytest.mark.gxx
def test_the_accelerator_alone_is_attacked(cli: Cli, own: tuple[str, ...]) -> None:
    (cli.folder / "plan.yaml").write_text(
        "evaluation:\n  samples: 12\n  attacks:\n  - {attack: {kind: square, queries: 50}, epsilons_lsb: [16]}\n"
        "  - {attack: {kind: uniform}, epsilons_lsb: [16]}\n"
    )
    outcome = cli("run", *own, "--plan", "plan.yaml", "--set", "simulation.verify_random=20")
    assert outcome.status == 0, outcome.err
    results = json.loads((cli.folder / "run" / "results.json").read_text())
    assert {row["victim"] for row in results["rows"]} == {"bitsim"}
    assert {row["attack"] for row in results["rows"]} == {"clean", "square", "uniform"}
    assert results["exactness"]["mismatched_outputs"] == 0 and results["exactness"]["csim_inputs"] > 20
    assert results["exactness"]["model_difference"] is None
    assert "there is no model to compare the accelerator with" in " ".join(outcome.out.split())
    assert (cli.folder / "run" / "hls" / "tb_data").is_dir()


def test_an_attack_that_needs_gradients_is_told_before_anything_runs(cli: Cli, own: tuple[str, ...]) -> None:
    plan = "evaluation.attacks=[{attack: {kind: fgsm}, epsilons_lsb: [4]}]"
    told = cli.refuses("run", *own, "--set", plan)
    assert "evaluation.attacks.0: fgsm needs gradients, and an ONNX model has none here; allowed: square" in told


def test_shapes_that_do_not_fit_are_told(cli: Cli, own: tuple[str, ...]) -> None:
    write_convolution(cli.folder / "own.onnx", size=5)
    told = cli.refuses("generate", *own)
    assert "own.onnx: takes [(5, 5, 1)] and gives [(3,)], channels last; the data set 'own' needs [(4, 4, 1)]" in told


def test_what_is_no_onnx_model_is_told(cli: Cli, own: tuple[str, ...]) -> None:
    (cli.folder / "own.onnx").write_bytes(b"nothing like it")
    assert "own.onnx: not a readable ONNX model (" in cli.refuses("generate", *own)
