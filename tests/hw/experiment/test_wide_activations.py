"""A run with 16-bit activations passes the gate: model (in float64), bitsim and csim agree on every bit."""

from __future__ import annotations

import json

import pytest
from helpers.cli import Cli
from helpers.models import write_data

TINY = (
    *(
        "--data",
        "own.npz",
        "--set",
        "model.architecture=mlp",
        "--set",
        "model.hidden=[12]",
        "--set",
        "training.epochs=2",
    ),
    *("--set", "simulation.verify_samples=20", "--set", "simulation.verify_random=60"),
)


@pytest.mark.gxx
def test_the_gate_passes_and_says_so(cli: Cli) -> None:
    write_data(cli.folder / "own.npz")
    wide = ("--set", "quantization.weight_bits=8", "--set", "quantization.activation_bits=16")
    done = cli("simulate", *TINY, *wide, "--out", "run")
    assert done.status == 0, done
    record = json.loads((cli.folder / "run" / "simulation.json").read_text())
    assert (record["exactness"], record["mismatched_outputs"]) == ("required", 0)
    rows = json.loads((cli.folder / "run" / "quantization.json").read_text())
    assert {row["activation"].split(",")[0] for row in rows if row["activation"]} == {"ufixed<16"}


def test_more_than_16_bits_are_refused(cli: Cli) -> None:
    write_data(cli.folder / "own.npz")
    told = cli.refuses("simulate", *TINY, "--set", "quantization.activation_bits=17", "--out", "run")
    assert "quantization.activation_bits: " in told and "16" in told
