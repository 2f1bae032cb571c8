"""A model that scales its own inputs: that is done to the data, and the run says so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.conversion import spread
from helpers.own_models import act, both, chain

from hw.experiment.config import load_config
from hw.experiment.folder import RunFolder
from hw.experiment.run import Run
from qmodels.data import load_data
from qmodels.errors import UserError
from qmodels.runtime import runtime
from qmodels.storage import save_model

RUN = ("--model", "own.keras", "--data", "own.npz", "--out", "run", "--set", "simulation.verify_random=20")


def write(cli: Cli, model: Any, x: Any) -> None:
    """Model and data of three classes; labels are the model's own."""
    save_model(spread(model), cli.folder / "own.keras")
    y = np.arange(len(x)) % 3
    np.savez(cli.folder / "own.npz", x_train=x[20:], y_train=y[20:], x_test=x[:20], y_test=y[:20])


def run_of(cli: Cli, **model: Any) -> Run:
    config = load_config(None, {"model.file": "own.keras", "data.name": "own.npz"} | model)
    return Run(config, RunFolder(cli.folder / "run"))


def layers() -> Any:
    return runtime().keras.layers


def pixels(high: int = 256) -> Any:
    return np.random.default_rng(0).integers(0, high, (200, 4, 4, 1))


def test_pixels_stay_pixels_and_their_scale_goes_into_the_weights(cli: Cli) -> None:
    body = layers().Conv2D(2, 3, activation="relu"), layers().Flatten(), layers().Dense(3)
    write(cli, chain((4, 4, 1), layers().Rescaling(1 / 255), *body), pixels().astype(np.uint8))
    run = run_of(cli)
    assert run.data.grid.span == 256 and run.data.grid.step == 1 / 256
    np.testing.assert_array_equal(run.data.test.x, np.load(cli.folder / "own.npz")["x_test"])
    assert run.loaded is not None and run.own_model is not None
    x = run.data.test.x.astype(np.float32)
    np.testing.assert_allclose(run.own_model(run.data.test.values), run.loaded.model(x), rtol=1e-3, atol=1e-3)
    assert "divided by 256 before the device, and the first weights by 0.996" in run.adopted[1]


def test_numbers_are_moved_and_divided_as_the_model_did(cli: Cli) -> None:
    x = np.random.default_rng(0).normal(50.0, 9.0, (200, 5))
    adapted = layers().Normalization(mean=np.full(5, 50.0), variance=np.full(5, 81.0))
    write(cli, chain((5,), adapted, layers().Dense(3)), x)
    run = run_of(cli)
    inputs = run.data.inputs
    assert inputs.scale == "model" and inputs.divisor is not None and inputs.divisor[0] == pytest.approx(9)
    assert inputs.steps(9.0, "value", (5,)) == pytest.approx(1 / run.data.grid.format.lsb)
    assert run.loaded is not None and run.own_model is not None
    values = inputs.unscaled(run.data.test.values).astype(np.float32)
    np.testing.assert_allclose(run.own_model(run.data.test.values), run.loaded.model(values), rtol=1e-3, atol=1e-3)


def test_two_scalings_are_refused(cli: Cli) -> None:
    write(cli, chain((5,), layers().Rescaling(0.5), layers().Dense(3)), np.random.default_rng(0).normal(size=(200, 5)))
    said = cli.refuses("run", *RUN, "--set", "data.input.scale=standard")
    assert "data.input.scale: standard, and your model scales its inputs itself" in said
    assert "leave data.input.scale out" in said


def test_data_that_were_read_without_the_model_are_not_scaled_wrongly(cli: Cli) -> None:
    x = np.random.default_rng(0).normal(size=(200, 5))
    write(cli, chain((5,), layers().Rescaling(0.5), layers().Dense(3)), x)
    data = load_data(cli.folder / "own.npz")
    config = load_config(None, {"model.file": "own.keras", "data.name": "own.npz"})
    with pytest.raises(UserError, match="sizing does not do that: build the model without these layers"):
        _ = Run(config, RunFolder(cli.folder / "run"), data=data).own_model


@pytest.mark.gxx
def test_a_quantized_model_is_repaired(cli: Cli) -> None:
    """Pixels in 0..1 are numbers of the user's: the model wants them in -1..1."""
    body = act("quantized_bits(9, 0, alpha=1)"), runtime().keras.layers.Flatten(), runtime().qkeras.QDense(3, **both(6))
    write(cli, chain((4, 4, 1), layers().Rescaling(2.0, offset=-1.0), *body), pixels() / 255)
    said = cli.refuses("generate", *RUN)
    assert "Rescaling of the input is no layer of an accelerator" in said and "(--repair does it)" in said
    outcome = cli("simulate", *RUN, "--repair")
    assert outcome.status == 0, outcome.err
    record = json.loads((cli.folder / "run" / "repair.json").read_text())
    assert "your numbers are moved by -0.5, then divided by 0.5 before the device" in record["repairs"][0]
    assert record["exact"] and record["change"]["largest_difference"] < 1e-6
    gate = json.loads((cli.folder / "run" / "simulation.json").read_text())
    assert (gate["exactness"], gate["mismatched_outputs"]) == ("required", 0)
