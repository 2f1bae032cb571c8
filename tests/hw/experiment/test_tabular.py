"""Data that are no images: shapes are told before TensorFlow starts; a table goes through the whole flow."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.models import qkeras_model, weight_quantizers

from hw.experiment.attacks import load_result
from hw.experiment.config import load_config
from hw.experiment.radius import plan_radii
from hw.experiment.run import load_run_data
from hw.report import report_runs
from qmodels.runtime import runtime
from qmodels.storage import save_model

CONFIGS = Path(__file__).parents[3] / "configs"


def sequences(path: Path, shape: tuple[int, ...], spread: float = 1.0) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(size=(60, *shape)).clip(-3, 3) * spread + y.reshape(-1, *[1] * len(shape)) * spread
    np.savez(path, x_train=x[:48], y_train=y[:48], x_test=x[48:], y_test=y[48:])


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((6,), (), "model: cnn4 takes images (height, width, channels); the data give inputs of shape (6,)"),
        ((6, 4), (), "give the arrays a channel axis, x[..., None], or set model.architecture: mlp"),
        ((6,), ("model.architecture=resnet8",), "model: resnet8 takes images"),
        ((6,), ("model.architecture=mlp", "model.binary_input=true"), "model.binary_input: it is for images"),
        (
            (6, 4),
            ("model.architecture=mlp", "training.augmentation=flip-crop"),
            "training.augmentation: flip-crop is for images (height, width, channels); the data set 'mine'",
        ),
        ((6,), ("data.input.frozen=[age]",), "no feature 'age'; the data name none: give places, 0 is the first"),
        ((6,), ("data.input.format=fixed<8,1>",), "beyond the input format fixed<8,1>, -1..0.992188. Give data.input"),
    ],
)
def test_what_does_not_fit_is_told(cli: Cli, shape: tuple[int, ...], settings: tuple[str, ...], message: str) -> None:
    sequences(cli.folder / "mine.npz", shape)
    sets = [word for setting in settings for word in ("--set", setting)]
    assert message in cli.refuses("run", "--data", "mine.npz", *sets)


@pytest.mark.parametrize(
    ("taken", "given", "message"),
    [
        ((24,), (6, 4), "; reshape x_train and x_test: x.reshape(-1, 24)"),
        ((6, 4), (24,), "; reshape x_train and x_test: x.reshape(-1, 6, 4)"),
        (
            (6, 4),
            (6, 5),
            "takes (None, 6, 4) and gives (None, 4); the data set 'mine' needs (None, 6, 5) and (None, 3)",
        ),
        ((6, 4), (6, 4), "; labels must be 0..3, one for each output: the data have 3 classes"),
    ],
)
def test_an_own_model_of_other_shapes_is_told_how_to_get_there(
    cli: Cli, taken: tuple[int, ...], given: tuple[int, ...], message: str
) -> None:
    save_model(qkeras_model(shape=taken, classes=4, **weight_quantizers()), cli.folder / "own.keras")
    sequences(cli.folder / "mine.npz", given, spread=0.15)
    assert message in cli.refuses("run", "--model", "own.keras", "--data", "mine.npz")


def test_a_model_of_two_inputs_is_told_what_is_accepted(cli: Cli) -> None:
    keras = runtime().keras
    two = [keras.Input((3,), name="a"), keras.Input((3,), name="b")]
    out = keras.layers.Dense(3)(keras.layers.Concatenate()(two))
    save_model(keras.Model(two, out), cli.folder / "own.keras")
    sequences(cli.folder / "mine.npz", (6,))
    told = cli.refuses("run", "--model", "own.keras", "--data", "mine.npz")
    assert (
        "mine.npz: contains x_train; the model's inputs (a, b) need x_train_a, x_train_b, and the same for x_test"
        in told
    )


@pytest.mark.parametrize("name", ["tabular", "jets"])
def test_our_configs_of_tables(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    if name == "jets":
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(200, 16)), np.arange(200) % 5
        np.savez(tmp_path / "lhc_jets.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load_run_data(config, tmp_path)
    assert data.grid.format.signed and len(data.input_shape) == 1
    assert all(plan_radii(plan, data) for plan in config.evaluation.attacks)


EXPERIMENT: dict[str, Any] = {
    "data.name": "wine",
    "data.input": "{format: 'fixed<10,5>', scale: standard, frozen: [proline]}",
    "model": "{architecture: mlp, hidden: [8]}",
    "training": "{method: feedback-adversarial, epochs: 5, feedback: {rounds: 1, epochs_per_round: 2}, "
    "adversarial: {epsilon_lsb: 4, steps: 2}}",
    "quantization.weight_bits": "4",
    "evaluation": "{samples: 20, check_convergence: false, black_box: [], attacks: ["
    "{attack: {kind: pgd-linf, steps: 5}, epsilon: {unit: sigma, values: [0.25, 0.5]}},"
    "{attack: {kind: square, queries: 30}, epsilon: {unit: value, values: [0.5]}}]}",
    "simulation.verify_samples": "20",
}


@pytest.mark.gxx
def test_a_table_goes_through_the_whole_flow(cli: Cli) -> None:
    sets = [word for key, value in EXPERIMENT.items() for word in ("--set", f"{key}={value}")]
    done = cli("run", "--out", "wine", *sets)
    assert done.status == 0, done.err
    assert "ε in σ, standard deviations of each feature or the data's own unit; in brackets LSB" in done.out
    results = json.loads((cli.folder / "wine" / "results.json").read_text())
    assert results["exactness"]["mismatched_outputs"] == 0
    told = {(row["attack"], row["epsilon"], row["epsilon_unit"], row["epsilon_lsb"]) for row in results["rows"]}
    assert {("pgd-linf", 0.25, "sigma", 8.0), ("pgd-linf", 0.5, "sigma", 16.0)} <= told
    assert {row[:3] for row in told} >= {("square", 0.5, "value")}
    assert results["input"]["features"][12] == "proline" and results["input"]["frozen"] == [12]
    stored = json.loads((cli.folder / "wine" / "input.json").read_text())
    assert (stored["format"], stored["scale"], len(stored["offset"])) == ("fixed<10,5>", "standard", 13)
    clean = load_run_data(load_config(cli.folder / "wine" / "config.yaml")).test.take(20).x
    for path in (cli.folder / "wine" / "attacks").glob("*.npz"):
        found = load_result(path)
        assert found is not None and (found.x[:, 12] == clean[:, 12]).all()
        assert (np.abs(found.x.astype(int) - clean) <= found.epsilon_lsb).all()
    page = (cli.folder / "wine" / "report.html").read_text()
    assert "0.25σ (8)" in page and "class_0" in page and "1 LSB = 1/32" in page
    report_runs([cli.folder / "wine"], cli.folder / "rows.csv")
    records = list(csv.DictReader(io.StringIO((cli.folder / "rows.csv").read_text())))
    assert {(r["epsilon"], r["epsilon_unit"], r["epsilon_lsb"]) for r in records if r["attack"] == "pgd-linf"} == {
        ("0.25", "sigma", "8.0"),
        ("0.5", "sigma", "16.0"),
    }
