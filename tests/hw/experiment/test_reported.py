"""A model that hls4ml cannot reproduce: the accelerator's own bits are attacked, and the difference is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.conversion import spread
from helpers.models import far_from_zero, qkeras_model, write_data

from hw.accelerator import Accelerator
from qmodels.grid import IMAGE_GRID
from qmodels.loading import load_model
from qmodels.runtime import runtime
from qmodels.storage import save_model

pytestmark = [
    pytest.mark.gxx,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]
RUN = ("--model", "own.keras", "--data", "own.npz", "--out", "run", "--set", "simulation.verify_random=20")
PLAN = """evaluation:
  samples: 12
  check_convergence: false
  attacks:
  - {attack: {kind: fgsm}, epsilons_lsb: [16]}
  - {attack: {kind: square, queries: 30}, epsilons_lsb: [16]}
"""


def scaled_model() -> Any:
    """Its layer has a scale that QKeras chooses, which hls4ml rounds differently."""
    return spread(qkeras_model(kernel_quantizer=runtime().qkeras.quantized_bits(4, 0, alpha="auto")))


@pytest.fixture
def scaled(cli: Cli) -> Cli:
    save_model(scaled_model(), cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    (cli.folder / "plan.yaml").write_text(PLAN)
    return cli


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "run" / name).read_text())


def test_the_accelerators_own_bits_are_attacked(scaled: Cli) -> None:
    outcome = scaled("run", *RUN, "--plan", "plan.yaml")
    assert outcome.status == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "exactness: reported. hls4ml cannot give your model's bits" in said
    assert "layer 'logits': kernel_quantizer has alpha='auto'" in said
    results = read(scaled.folder, "results.json")
    gate = results["exactness"]
    assert (gate["exactness"], gate["mismatched_outputs"]) == ("reported", 0)
    found = gate["model_difference"]
    assert 0 < found["outputs"] <= found["of_outputs"] and found["largest_gap"] > 0
    assert found["of_decisions"] == gate["inputs"] and found["first_layer"].startswith("logits")
    assert found["suspect"].startswith("probably: layer 'logits': kernel_quantizer has alpha='auto'")
    assert f"exactness: the accelerator differs from the model in {found['outputs']} of {found['of_outputs']}" in said
    assert "the accelerator differs from the model in" in (scaled.folder / "run" / "report.html").read_text()
    attacked = {(row["attack"], row["victim"]) for row in results["rows"] if row["knowledge"] != "transfer"}
    assert {("fgsm", "bitsim"), ("square", "bitsim")} <= attacked
    assert ("fgsm", "quantized") not in attacked  # the model is a witness: the examples are carried over to it
    assert not any("accelerator-disagrees" in row["flags"] for row in results["rows"])


def test_the_difference_is_that_of_the_files_left_behind(scaled: Cli) -> None:
    """Counted again from the model and its accelerator; the test bench must give the accelerator's outputs."""
    outcome = scaled("simulate", *RUN, "--set", "simulation.verify_random=0")
    assert outcome.status == 0, outcome.err
    record = read(scaled.folder, "simulation.json")
    model = load_model(scaled.folder / "run" / "quantized.keras")
    accelerator = Accelerator(model, exactness="reported")
    images = np.load(scaled.folder / "own.npz")["x_test"][..., None]
    images = np.concatenate([images, IMAGE_GRID.extremes((4, 4, 1))])
    theirs, ours = model.predict(IMAGE_GRID.to_values(images), verbose=0), accelerator.logits(images)
    assert 0 < record["model_difference"]["outputs"] == np.count_nonzero(theirs != ours)
    assert record["model_difference"]["largest_gap"] == np.abs(theirs.astype(np.float64) - ours).max()
    bench = np.loadtxt(scaled.folder / "run" / "hls" / "tb_data" / "tb_output_predictions.dat")
    np.testing.assert_array_equal(bench, ours)


def test_a_model_that_must_be_exact_is_refused_with_both_ways_out(scaled: Cli) -> None:
    told = scaled.refuses("generate", *RUN, "--set", "exactness=required")
    assert (
        "With exactness: reported the accelerator is made and simulated as it is, and the difference is reported"
        in told
    )


def narrowed(cli: Cli) -> tuple[str, ...]:
    """A model that fulfils the contract, and a sum that is too narrow for it."""
    save_model(far_from_zero(), cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    return "--set", "hardware.layers.logits.precision={accum: 'fixed<20,1>', result: 'fixed<20,4>'}"


def test_the_gate_names_the_type_that_did_it_and_can_be_told_to_report(cli: Cli) -> None:
    narrow = narrowed(cli)
    outcome = cli("simulate", *RUN, *narrow)
    assert outcome.status == 4
    assert "first layer that differs: 'logits'" in outcome.err
    assert "probably: precision.accum fixed<20,1,TRN,WRAP> cannot represent every value of" in outcome.err
    assert "With exactness: reported the run continues" in outcome.err
    outcome = cli("simulate", *RUN, *narrow, "--set", "exactness=reported", "--resume")
    assert outcome.status == 0, outcome.err
    assert read(cli.folder, "simulation.json")["model_difference"]["first_layer"] == "logits"


def test_a_float_model_that_cannot_be_quantized_is_told_what_can_be_done(cli: Cli) -> None:
    keras = runtime().keras
    layers = keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")
    keras.Sequential([keras.Input((4, 4, 1)), *layers]).save(cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    told = cli.refuses("generate", *RUN)
    assert "no layer named 'input_grid'" in told and "--set exactness=reported, or your own types" in told
    assert cli("generate", *RUN, "--set", "exactness=reported").status == 0


def test_float_keras_with_hls4mls_own_types(cli: Cli) -> None:
    keras = runtime().keras
    layers = keras.layers.Flatten(name="flat"), keras.layers.Dense(4, activation="relu", name="fc1")
    model = keras.Sequential([keras.Input((4, 4, 1), name="image"), *layers, keras.layers.Dense(3, name="out")])
    spread(model).save(cli.folder / "own.h5")
    write_data(cli.folder / "own.npz")
    (cli.folder / "mine.yml").write_text(
        "HLSConfig:\n  Model: {Precision: {default: 'ap_fixed<14,5>'}, ReuseFactor: 1}\n  LayerName:\n"
        "    fc1: {Precision: {result: 'ap_fixed<11,4>', weight: 'ap_fixed<7,3>'}}\n"
    )
    own = ("--model", "own.h5", "--data", "own.npz", "--out", "run", "--hls-config", "mine.yml")
    outcome = cli("simulate", *own, "--set", "simulation.verify_random=20")
    assert outcome.status == 0, outcome.err
    assert "not taken over" not in outcome.err
    types = (cli.folder / "run" / "hls" / "firmware" / "defines.h").read_text()
    assert "ap_fixed<11,4> layer3_t" in types or "ap_fixed<11,4> fc1_result_t" in types
    assert "ap_fixed<7,3> fc1_weight_t" in types and "ap_fixed<14,5>" in types
    record = read(cli.folder, "simulation.json")
    assert record["exactness"] == "reported" and record["mismatched_outputs"] == 0
    assert record["model_difference"]["outputs"] > 0
    assert not (cli.folder / "run" / "mapped.keras").exists()  # nothing was quantized here
