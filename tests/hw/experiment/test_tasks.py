"""A regression and an auto-encoder through the whole flow: bits, rows, flags, reports."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.cli import Cli
from helpers.models import write_data
from helpers.task_models import write_autoencoder, write_binary, write_regression

from hw.report import load_run
from hw.report.console import console_text
from hw.report.export import csv_text, markdown_text
from qmodels.loading import load_model
from qmodels.runtime import runtime
from qmodels.storage import save_model

pytestmark = [pytest.mark.gxx, pytest.mark.timeout(300)]

ATTACKS = [
    {"attack": {"kind": "pgd-linf", "steps": 10}, "epsilons_lsb": [4, 16, 64, 255]},
    {"attack": {"kind": "apgd-t", "steps": 10, "classes": 4}, "epsilons_lsb": [16]},
    {"attack": {"kind": "square", "queries": 60}, "epsilons_lsb": [16]},
    {"attack": {"kind": "uniform"}, "epsilons_lsb": [16]},
]


def flow(cli: Cli, **sections: Any) -> dict[str, Any]:
    """results.json of a run on `data.npz` and `own.keras` in the command's folder."""
    config = {
        "name": "own",
        "data": {"name": "data.npz", "validation_share": 0.2},
        "model": {"file": "own.keras"},
        "evaluation": {"samples": 40, "attacks": ATTACKS, "clean_samples": 40},
        "simulation": {"verify_random": 20},
    } | sections
    (cli.folder / "own.yaml").write_text(yaml.safe_dump(config))
    outcome = cli("run", "own.yaml", "--out", "run")
    assert outcome.status == 0, outcome
    found: dict[str, Any] = json.loads((cli.folder / "run" / "results.json").read_text())
    return found


def rows_of(results: dict[str, Any], victim: str, attack: str, **more: Any) -> list[dict[str, Any]]:
    wanted = {"victim": victim, "attack": attack} | more
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def test_a_regression_from_file_to_report(cli: Cli) -> None:
    write_regression(cli.folder)
    results = flow(cli, task={"tolerance": 0.05})
    assert results["exactness"]["mismatched_outputs"] == 0 and results["exactness"]["inputs"] > 100
    assert results["task"]["kind"] == "regression" and results["task"]["reference"] == "clean"
    assert {(row["task"], row["metric"]) for row in results["rows"]} == {("regression", "share within tolerance")}
    for victim in ("quantized", "bitsim"):
        (clean,) = rows_of(results, victim, "clean")
        assert clean["accuracy"] == 1.0 and clean["errors"]["mae"] < 0.05 and clean["errors"]["r2"] > 0.5
        weak, strong, _, unbounded = rows_of(results, victim, "pgd-linf", knowledge="white-box")
        assert 1.0 >= weak["accuracy"] > strong["accuracy"] and unbounded["accuracy"] == 0.0
        assert clean["errors"]["mae"] < weak["errors"]["mae"] < strong["errors"]["mae"]
    (towards,) = rows_of(results, "quantized", "apgd-t", epsilon_lsb=16.0)
    assert towards["accuracy"] <= strong["accuracy"] + 0.05
    assert not [row for row in results["rows"] if "accelerator-disagrees" in row["flags"] or row["disagreements"]]
    page = (cli.folder / "run" / "report.html").read_text()
    for needed in ("Share within tolerance, clean and attacked", "Error against the true values", "true value"):
        assert needed in page
    assert "true class" not in page and "ccuracy in %" not in console(cli)
    assert "MAE of own bitsim" in console(cli)


def test_a_regression_held_against_the_truth(cli: Cli) -> None:
    write_regression(cli.folder)
    results = flow(cli, task={"tolerance": 0.1, "relative": True, "reference": "truth"})
    (clean,) = rows_of(results, "bitsim", "clean")
    assert 0.5 < clean["accuracy"] < 1.0
    assert results["clean"]["accuracy"]["bitsim"] == clean["accuracy"]


@pytest.mark.parametrize("direction", ["hide", "alarm"])
def test_an_autoencoder_from_file_to_report(cli: Cli, direction: str) -> None:
    write_autoencoder(cli.folder)
    results = flow(cli, task={"direction": direction, "false_positive_rate": 0.1})
    assert results["exactness"]["mismatched_outputs"] == 0 and results["exactness"]["inputs"] > 100
    threshold = results["task"]["criterion"]["threshold"]
    metric = {"hide": "detection rate", "alarm": "share without false alarm"}[direction]
    assert {(row["task"], row["metric"], row["n"]) for row in results["rows"]} == {("anomaly", metric, 30)}
    (seen,) = [one for one in results["measures"]["detection"] if one["victim"] == "bitsim"]
    assert seen["own_threshold"] == results["task"]["criterion"]["threshold"]  # whose bits the quantized model's are
    assert seen["detection_rate_at_own"] == seen["detection_rate"]
    assert seen["area_under_curve"] > 0.9 and seen["detection_rate"] > 0.8 and seen["false_positive_rate"] < 0.4
    (clean,) = rows_of(results, "bitsim", "clean")
    share = seen["detection_rate"] if direction == "hide" else 1 - seen["false_positive_rate"]
    assert clean["accuracy"] == pytest.approx(share)
    attacked = rows_of(results, "bitsim", "pgd-linf", knowledge="white-box", epsilon_lsb=64.0)[0]
    assert attacked["accuracy"] < clean["accuracy"]
    lower, higher = sorted([clean["errors"]["mean_score"], attacked["errors"]["mean_score"]])
    assert (attacked["errors"]["mean_score"] == lower) is (direction == "hide") and higher > lower > 0
    page = (cli.folder / "run" / "report.html").read_text()
    for needed in (f"{metric.capitalize()}, clean and attacked", "Reconstruction error", f"{threshold:.4g}", "<img"):
        assert needed in page
    read = list(csv.DictReader(io.StringIO(csv_text([load_run(cli.folder / "run").results]))))
    assert {row["metric"] for row in read} == {metric} and all(float(row["mean_score"]) > 0 for row in read)
    assert metric.capitalize() in markdown_text([load_run(cli.folder / "run").results])


def test_one_logit_tells_two_classes_apart(cli: Cli) -> None:
    write_binary(cli.folder)
    results = flow(cli)
    assert results["exactness"]["mismatched_outputs"] == 0 and results["task"]["kind"] == "binary"
    x, y = (np.load(cli.folder / "data.npz")[key] for key in ("x_test", "y_test"))
    logit = load_model(cli.folder / "own.keras").predict(x[..., None] / np.float32(256), verbose=0)[:, 0]
    (clean,) = rows_of(results, "bitsim", "clean")
    assert clean["accuracy"] == np.mean((logit > 0) == y) > 0.8 and clean["metric"] == "accuracy"
    weak, strong = rows_of(results, "bitsim", "pgd-linf", knowledge="white-box")[:2]
    assert clean["accuracy"] > weak["accuracy"] > strong["accuracy"]


@pytest.mark.parametrize("criterion", [{"target": 1}, {"groups": [[0, 1]]}], ids=str)
def test_classes_with_a_target_or_in_groups(cli: Cli, criterion: dict[str, Any]) -> None:
    write_data(cli.folder / "data.npz")
    model = {"architecture": "mlp", "hidden": [8]}
    training = {"method": "standard", "epochs": 20, "batch_size": 16, "learning_rate": 0.02}
    results = flow(cli, model=model, training=training, task=criterion)
    metric = "share not taken for class 1" if "target" in criterion else "share in the right group"
    assert {(row["task"], row["metric"]) for row in results["rows"]} == {("classes", metric)}
    (clean,) = rows_of(results, "bitsim", "clean")
    assert rows_of(results, "bitsim", "pgd-linf", epsilon_lsb=255.0)[0]["accuracy"] < clean["accuracy"]
    assert metric in console(cli)


def test_a_float_model_is_attacked_before_its_softmax(cli: Cli) -> None:
    write_data(cli.folder / "data.npz")
    keras = runtime().keras
    image = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(keras.layers.Activation("linear", name="input_grid")(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="out")(x), name="own")
    save_model(model, cli.folder / "own.keras")
    config = {"model": {"file": "own.keras"}, "data": {"name": "data.npz"}, "evaluation": {"black_box": []}}
    (cli.folder / "own.yaml").write_text(yaml.safe_dump({"name": "own", "mapping": {"mu": 0}} | config))
    outcome = cli("generate", "own.yaml", "--out", "run")
    assert outcome.status == 0, outcome
    assert "adopted: layer 'out': its softmax was removed, the logits before it are used and attacked" in outcome.out
    images = np.random.default_rng(0).random((5, 4, 4, 1)).astype(np.float32)
    logits = load_model(cli.folder / "run" / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose(runtime().tf.nn.softmax(logits), model.predict(images, verbose=0), rtol=1e-5)


def console(cli: Cli) -> str:
    return " ".join(console_text([load_run(cli.folder / "run").results], 120).split())


def test_a_regression_needs_a_tolerance_and_a_model(cli: Cli) -> None:
    write_regression(cli.folder)
    told = cli.refuses("generate", "--model", "own.keras", "--data", "data.npz", "--set", "evaluation.black_box=[]")
    assert "task.tolerance is missing: this is a regression" in told and "--set task.tolerance=0.1" in told
    told = cli.refuses("generate", "--data", "data.npz", "--set", "task.kind=regression", "--set", "task.tolerance=1")
    assert "only classifiers are trained here; bring your own trained model" in told
    apart = ("--set", "task.tolerance=0.1", "--set", "evaluation.black_box=[{name: apart, model: {architecture: mlp}}]")
    told = cli.refuses("generate", "--model", "own.keras", "--data", "data.npz", *apart)
    assert "evaluation.black_box: these models are trained as classifiers, and the task is regression" in told


def test_an_autoencoder_needs_marks(cli: Cli) -> None:
    write_autoencoder(cli.folder)
    arrays = dict(np.load(cli.folder / "data.npz"))
    np.savez(cli.folder / "data.npz", **arrays | {"y_test": 0 * arrays["y_test"]})
    start = ["generate", "--model", "own.keras", "--data", "data.npz", "--set", "evaluation.black_box=[]"]
    assert "task.direction hide needs test samples of label 1" in cli.refuses(*start)
    np.savez(cli.folder / "data.npz", **arrays | {"y_test": 2 * arrays["y_test"]})
    assert "y_test has label 2; for an auto-encoder 1 marks an anomaly, 0 a normal input" in cli.refuses(*start)
