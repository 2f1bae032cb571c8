"""`robust-hls attack --model x.tflite` from the file to the report, and `robust-hls export`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.models import write_data
from helpers.tflite_models import hidden_softmax, keras_model, tflite_content

FEW = ("--set", "evaluation.samples=6", "--set", "seed=0")
SQUARE = "evaluation.attacks=[{attack: {kind: square, queries: 40}, epsilons_lsb: [16, 64]}]"
CHEAP = ("--set", SQUARE)


@pytest.fixture
def own(cli: Cli) -> tuple[str, ...]:
    (cli.folder / "own.tflite").write_bytes(tflite_content("int8", "softmax"))
    write_data(cli.folder / "own.npz")
    return "--model", "own.tflite", "--data", "own.npz", "--out", "run"


def two_classes(cli: Cli) -> None:
    """Whether the first row is the bright one."""
    (cli.folder / "own.tflite").write_bytes(tflite_content("int8", "sigmoid"))
    with np.load(cli.folder / "own.npz") as old:
        arrays = dict(old)
    for part in ("train", "test"):
        arrays[f"y_{part}"] = (arrays[f"y_{part}"] == 0).astype(np.int64)
    for name in ("x_train", "y_train"):  # enough for a difference to be no chance
        arrays[name] = np.concatenate([arrays[name]] * 3)
    np.savez(cli.folder / "own.npz", **arrays)


def results(cli: Cli) -> Any:
    return json.loads((cli.folder / "run" / "results.json").read_text())


def test_from_the_file_to_the_report(cli: Cli, own: tuple[str, ...]) -> None:
    done = cli("attack", *own, *FEW)
    assert done.status == 0, done
    assert "model: int8; its softmax is left out, the logits are read" in done.out
    assert "inputs: exact" in done.out
    found = results(cli)
    assert {row["victim"] for row in found["rows"]} == {"tflite"}
    assert {row["attack"] for row in found["rows"]} == {"clean", "uniform", "square", "hopskipjump-linf"}
    assert {row["bits"] for row in found["rows"]} == {8}
    clean = next(row for row in found["rows"] if row["attack"] == "clean")
    assert clean["accuracy"] == 1.0 and clean["flags"] == []
    assert found["tflite"]["precision"] == "int8"
    page = (cli.folder / "run" / "report.html").read_text()
    assert "no accelerator: a .tflite file" in page and "hopskipjump-linf" in page
    assert "the accelerator that computes it" not in page and "White-box attacks on the" not in page
    again = cli("attack", "run")
    assert again.status == 0 and again.out.count("done before, nothing changed") == 4
    shown = cli("report", "run")
    assert shown.status == 0 and "tflite" in shown.out


def test_gradients_come_from_a_keras_model(cli: Cli, own: tuple[str, ...]) -> None:
    keras_model("softmax").save(cli.folder / "own.keras")
    plan = (
        "evaluation.attacks=[{attack: {kind: pgd-linf, steps: 5}, epsilons_lsb: [64]},"
        "{attack: {kind: square, queries: 40}, epsilons_lsb: [64]}]"
    )
    refused = cli.refuses("attack", *own, *FEW, "--set", plan)
    assert "evaluation.attacks.0: pgd-linf needs gradients, and a .tflite file gives none; add --surrogate" in refused
    done = cli("attack", *own, *FEW, "--surrogate", "own.keras", "--set", plan)
    assert done.status == 0, done
    assert "own.keras, which decides 100.0% of test samples as the file" in done.out
    accuracy = {row["attack"]: row["accuracy"] for row in results(cli)["rows"]}
    assert accuracy["pgd-linf"] < accuracy["clean"]


def test_probabilities_are_flagged(cli: Cli, own: tuple[str, ...]) -> None:
    (cli.folder / "own.tflite").write_bytes(hidden_softmax())
    done = cli("attack", *own, *FEW, *CHEAP)
    assert done.status == 0, done
    assert "warning: it gives probabilities whose logits could not be found" in done.out
    attacked = [row for row in results(cli)["rows"] if row["attack"] != "clean"]
    assert attacked and all("softmax-outputs" in row["flags"] for row in attacked)


def test_a_single_sigmoid_tells_two_classes(cli: Cli, own: tuple[str, ...]) -> None:
    two_classes(cli)
    done = cli("attack", *own, *FEW, *CHEAP)
    assert done.status == 0, done
    assert results(cli)["task"]["kind"] == "binary"


def test_damage_is_one_message_within_five_seconds(cli: Cli, own: tuple[str, ...]) -> None:
    content = tflite_content("int8", "softmax")
    for damaged in (content[:1000], b"no model", content[:-200], content.replace(b"TFL3", b"TFL4")):
        (cli.folder / "own.tflite").write_bytes(damaged)
        started = time.process_time()
        told = cli.refuses("attack", *own)
        assert time.process_time() - started < 5
        assert "own.tflite: " in told and told.count("\n") == 1


def test_what_does_not_fit_is_told(cli: Cli, own: tuple[str, ...], tmp_path: Path) -> None:
    assert "a .tflite file is attacked as it is: robust-hls attack" in cli.refuses("generate", *own)
    assert "model.repair: is for Keras models" in cli.refuses("attack", *own, "--repair")
    assert "defence.kind: is for Keras models" in cli.refuses("attack", *own, "--set", "defence.kind=feature-squeezing")
    told = cli.refuses("attack", "--model", "own.tflite", "--data", "digits", "--out", "run")
    assert "takes (4, 4, 1) and gives 3 numbers; the data set 'digits' has inputs of shape (8, 8, 1) and 10" in told
    assert "no such file" in cli.refuses("attack", *own, "--surrogate", "none.keras")
    keras_model().save(cli.folder / "own.keras")
    told = cli.refuses("attack", "--model", "own.keras", "--data", "own.npz", "--surrogate", "own.keras")
    assert "model.surrogate (--surrogate): belongs to a .tflite file" in told


def test_pixels_on_another_scale_are_told(cli: Cli, own: tuple[str, ...]) -> None:
    """The file takes 0..1; as -1..1 no row would be bright enough."""
    two_classes(cli)
    told = cli.refuses("attack", *own, "--set", "model.pixels=-1..1")
    assert "Add --set model.pixels=" in told
    done = cli("attack", *own, *FEW, *CHEAP, "--set", "model.pixels=codes")
    assert done.status == 0, done
    assert "every code has its own stored number" in done.out


def test_export_of_a_run_is_attacked(cli: Cli) -> None:
    write_data(cli.folder / "own.npz")
    trained = (
        "--data",
        "own.npz",
        "--set",
        "model.architecture=mlp",
        "--set",
        "training.epochs=8",
        "--set",
        "training.batch_size=8",
    )
    done = cli("export", *trained, "--out", "trained")
    assert done.status == 0, done
    records = json.loads((cli.folder / "trained" / "tflite.json").read_text())
    assert [record["precision"] for record in records] == ["float32", "int8", "int16x8"]
    assert all("exact" in record["inputs"] for record in records)
    accuracies = [record["test_accuracy"] for record in records]
    assert max(accuracies) - min(accuracies) < 0.2
    again = cli("export", "trained")
    assert again.status == 0 and again.out.count("done before") == 4
    file = records[1]["file"]
    done = cli("attack", "--model", f"trained/{file}", "--data", "own.npz", "--out", "run", *FEW, *CHEAP)
    assert done.status == 0, done
