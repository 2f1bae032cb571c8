"""The simulate step: what it records is what it counted, one conversion does, and overflows are told."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers.cli import Cli
from helpers.models import Toolbox, far_from_zero, grid_codes, write_data

from hw.experiment import gate
from hw.experiment.run import Run
from hw.simulate.exactness import Exactness
from qmodels.storage import save_model
from qmodels.victims import KerasVictim


def own_model(cli: Cli) -> tuple[str, ...]:
    """Arguments for a small model of the user's and its data; its sums are far from zero."""
    save_model(far_from_zero(), cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    return "--model", "own.keras", "--data", "own.npz", "--out", "run"


def test_mismatches_are_added_up_not_assumed(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate whose comparisons let differing outputs pass would record them."""
    answers = iter((2, 30, 400))
    monkeypatch.setattr(gate, "require_exact", lambda *_, **__: Exactness("a", "b", 5, next(answers)))
    accelerator = SimpleNamespace(name="bitsim", trace=None, csim_for=lambda samples: None, formats={})
    settings = SimpleNamespace(seed=0, simulation=SimpleNamespace(verify_samples=2))
    victim = KerasVictim(toolbox.quantized.model, "quantized")
    run = SimpleNamespace(
        accelerator=accelerator,
        quantized=victim,
        prequantized=victim,
        config=settings,
        data=toolbox.data,
        exactness="required",
    )
    record = gate.pass_gate(cast(Run, run), grid_codes(5), adversarial=True)
    assert (record.mismatched_outputs, record.inputs, record.adversarial_inputs, record.csim_inputs) == (432, 5, 5, 2)


@pytest.mark.gxx
def test_a_run_converts_once_and_shows_that_nothing_overflows(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import hls4ml.converters

    calls: list[Any] = []
    original = hls4ml.converters.convert_from_keras_model

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr("hls4ml.converters.convert_from_keras_model", counted)
    outcome = cli("simulate", *own_model(cli), "--overflow")
    assert outcome.status == 0, outcome.err
    assert len(calls) == 1
    assert "Overflow: on 12 clean test inputs every sum and every result fits its type." in outcome.out
    record = json.loads((cli.folder / "run" / "overflow.json").read_text())
    assert {"hidden", "logits"} <= {layer["layer"] for layer in record["layers"]}
    assert json.loads((cli.folder / "run" / "simulation.json").read_text())["mismatched_outputs"] == 0
    outcome = cli("simulate", "run", "--resume", "--engine", "csim", "--overflow")
    assert outcome.status == 0, outcome.err
    assert "Overflow: not counted, it needs bitsim, and the engine of this run is csim." in outcome.out


@pytest.mark.gxx
def test_sums_that_wrap_stop_the_run_and_are_shown(cli: Cli) -> None:
    narrow = "hardware.layers.logits.precision={accum: 'fixed<20,1>', result: 'fixed<20,4>'}"
    outcome = cli("simulate", *own_model(cli), "--set", narrow, "--overflow")
    assert outcome.status == 4, outcome.err
    assert "bitsim differs from quantized" in outcome.err and "first layer that differs: 'logits'" in outcome.err
    layers = json.loads((cli.folder / "run" / "overflow.json").read_text())["layers"]
    wrapped = {(layer["layer"], layer["place"]): layer["wrapped"] for layer in layers if layer["wrapped"]}
    assert set(wrapped) == {("logits", "accumulator")}
    assert f"{wrapped['logits', 'accumulator']} numbers wrapped around and 0 saturated" in outcome.out
    assert not (cli.folder / "run" / "simulation.json").exists()
