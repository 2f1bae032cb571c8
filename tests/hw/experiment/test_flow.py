"""The whole flow on tiny settings: results, skipped steps, changed keys, and a run killed in the middle."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.cli import Cli, snapshot
from helpers.forked import command
from helpers.models import write_data

from hw.cli import main
from hw.experiment.attacks import load_result
from hw.report.step import FLOW
from qmodels.loading import load_model

pytestmark = [pytest.mark.gxx, pytest.mark.timeout(600)]

NAMES = [step.name for step in FLOW]
BEFORE_ATTACK = NAMES[: NAMES.index("attack")]
EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "data.npz", "validation_share": 0.2},
    "model": {"architecture": "mlp", "hidden": [8]},
    "training": {"method": "standard", "epochs": 20, "batch_size": 16, "learning_rate": 0.02},
    "mapping": {"mu": 15, "layers": ["last-1"]},
    "evaluation": {
        "samples": 12,
        "attacks": [
            {"attack": {"kind": "fgsm"}, "epsilons_lsb": [8]},
            {"attack": {"kind": "pgd-linf", "steps": 3}, "epsilons_lsb": [8, 32]},
            {"attack": {"kind": "uniform"}, "epsilons_lsb": [16]},
            {"attack": {"kind": "square", "queries": 30}, "epsilons_lsb": [16]},
        ],
        "black_box": [
            {"name": "other-seed"},
            {"name": "wide", "model": {"architecture": "mlp", "hidden": [12]}, "quantization": {"weight_bits": 4}},
        ],
    },
    "simulation": {"verify_random": 20},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A folder with data, config and a finished run in `tiny`, made in this process: those that are killed are not."""
    folder = tmp_path_factory.mktemp("undisturbed")
    experiment(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["robust-hls", "run", "tiny.yaml", "--out", "tiny"])
        with contextlib.suppress(SystemExit):
            main()
    assert (folder / "tiny" / "report.html").is_file()
    return folder


def experiment(folder: Path, **training: Any) -> None:
    write_data(folder / "data.npz")
    config = EXPERIMENT | {"training": EXPERIMENT["training"] | training}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def finished(undisturbed: Path, cli: Cli) -> Path:
    """A copy of the finished run; its path. The current folder is the one with the config."""
    shutil.copytree(undisturbed, cli.folder, dirs_exist_ok=True)
    return cli.folder / "tiny"


def results(run: Path) -> dict[str, Any]:
    """results.json without the times."""
    read: dict[str, Any] = json.loads((run / "results.json").read_text())
    for row in read["rows"]:
        del row["seconds"]
    return read


def done_again(out: str) -> list[str]:
    """The steps that were really run, by what the command said."""
    lines = [line.split("] ", 1)[1] for line in out.splitlines() if line.startswith("[")]
    assert [line.split(":")[0] for line in lines] == NAMES
    return [line for line in lines if ":" not in line]


def test_results_have_the_published_form(undisturbed: Path) -> None:
    read = json.loads((undisturbed / "tiny" / "results.json").read_text())
    assert read["schema"] == 1
    assert read["run"] == "tiny"
    assert len(read["config_digest"]) == 64
    keys = {"model", "victim", "bits", "attack", "knowledge", "epsilon_lsb", "n", "accuracy", "ci95", "queries"}
    for row in read["rows"]:
        assert keys | {"seconds", "seed", "flags"} <= set(row)
        assert 0 <= row["ci95"][0] <= row["accuracy"] <= row["ci95"][1] <= 1
        assert row["n"] == 12
        assert row["accuracy"] * row["n"] == pytest.approx(round(row["accuracy"] * row["n"]))
    assert {row["victim"] for row in read["rows"]} == {"float", "quantized", "bitsim"}
    assert {row["attack"] for row in read["rows"]} == {"clean", "fgsm", "pgd-linf", "uniform", "square"}
    exactness = read["exactness"]
    assert exactness["mismatched_outputs"] == 0
    assert 0 < exactness["adversarial_inputs"] < exactness["inputs"]


def test_black_box_examples_come_from_models_trained_apart(undisturbed: Path) -> None:
    read = results(undisturbed / "tiny")["rows"]
    apart = [row for row in read if row["knowledge"] == "black-box" and row["source"]]
    assert {row["source"] for row in apart} == {"other-seed/float", "wide/quantized"}
    assert {row["victim"] for row in apart} == {"float", "quantized", "bitsim"}
    assert {row["attack"] for row in apart} == {"fgsm", "pgd-linf"}  # noise needs no model
    own, other = (
        load_model(undisturbed / "tiny" / name) for name in ("model.keras", "black_box/other-seed/model.keras")
    )
    assert not np.array_equal(own.get_weights()[0], other.get_weights()[0])
    wide = load_model(undisturbed / "tiny" / "black_box" / "wide" / "quantized.keras")
    assert wide.get_weights()[0].shape[1] == 12 and len(np.unique(wide.get_weights()[0])) > 8  # more than three bits


def test_measures_tell_what_they_are(undisturbed: Path) -> None:
    measures = results(undisturbed / "tiny")["measures"]
    assert {m["victim"] for m in measures["boundary_distance"]} == {"float", "quantized", "bitsim"}
    for victim in measures["boundary_distance"]:
        assert 0 <= victim["images_fooled"] <= victim["images_right_when_clean"] <= 12
        assert set(victim["nearest_l2_found_by"]) <= {"fgsm", "pgd-linf", "uniform", "square"}
    assert [m["layer"] for m in measures["quantization_shift"]] == ["input_grid", "fc1_relu"]
    grid = measures["quantization_shift"][0]
    assert (grid["mean_ratio"], grid["absorbed_share"]) == (1.0, 0.0)  # examples are on the grid already
    sizes = measures["quantization_shift_by_size"]
    assert [m["change"] for m in sizes] == [f"{size} LSB" for size in (1, 2, 4, 8, 16, 32)]
    assert all(m["least_ratio"] <= m["mean_ratio"] <= m["most_ratio"] for m in sizes)
    assert sizes[0]["absorbed_share"] >= sizes[-1]["absorbed_share"]
    layers = {m["layer"]: m for m in measures["error_amplification"]}
    assert layers["input_grid"]["float_relative_change"] == layers["input_grid"]["quantized_relative_change"] > 0
    assert -1 <= measures["gradients"]["mean_cosine"] <= 1
    assert measures["examples"]["made_on"].endswith("quantized")
    (curve,) = measures["accuracy_over_queries"]
    assert (curve["attack"], curve["victim"], curve["queries_per_image"]) == ("square", "bitsim", [1, 2, 5, 10, 20, 30])
    assert curve["accuracy"] == sorted(curve["accuracy"], reverse=True)
    row = next(r for r in results(undisturbed / "tiny")["rows"] if r["attack"] == "square")
    assert curve["accuracy"][-1] == row["accuracy"]


def test_the_accelerator_scores_as_the_quantized_model_does(undisturbed: Path) -> None:
    rows = results(undisturbed / "tiny")["rows"]
    clean = {row["victim"]: row["accuracy"] for row in rows if row["attack"] == "clean" and row["bits"]}
    assert clean["bitsim"] == clean["quantized"]


def test_the_model_has_learned(undisturbed: Path) -> None:
    """Else agreement of predictions would mean little."""
    rows = results(undisturbed / "tiny")["rows"]
    assert next(row["accuracy"] for row in rows if row["attack"] == "clean" and row["victim"] == "float") > 0.6


def test_the_run_folder_holds_what_the_readme_promises(undisturbed: Path) -> None:
    run = undisturbed / "tiny"
    files = ("config.yaml", "environment.json", "model.keras", "quantized.keras", "results.json", "report.html")
    assert all((run / name).is_file() for name in files)
    assert (run / "hls" / "firmware" / "accelerator.cpp").is_file()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["quantization"]["weight_bits"] == 3  # a default, written out
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["packages"]["hls4ml"] == "1.3.0"
    assert not [path for path in run.rglob("*") if path.name.startswith((".part-", ".hls"))]


def test_a_finished_run_is_not_run_again(cli: Cli, finished: Path) -> None:
    before = snapshot(finished)
    outcome = cli("run", "tiny.yaml", "--out", "tiny", "--resume")
    assert outcome.status == 0, outcome.err
    assert done_again(outcome.out) == []
    changed = {name for name, digest in snapshot(finished).items() if before[name] != digest}
    assert changed <= {"environment.json"}  # it tells of the last command


def test_a_black_box_model_is_kept_and_trained_again_when_damaged(cli: Cli, finished: Path) -> None:
    model = finished / "black_box" / "other-seed" / "model.keras"
    before = load_model(model).get_weights()
    kept = (finished / "black_box" / "wide" / "model.keras").stat().st_mtime_ns
    model.write_bytes(b"damaged")
    outcome = cli("attack", "tiny")
    assert outcome.status == 0, outcome.err
    for again, old in zip(load_model(model).get_weights(), before, strict=True):
        np.testing.assert_array_equal(again, old)
    assert (finished / "black_box" / "wide" / "model.keras").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("setting", "first", "spared"),
    [
        ("name=other", "report", NAMES[:-1]),
        ("evaluation.check_convergence=false", "attack", BEFORE_ATTACK),
        ("simulation.verify_random=21", "simulate", [*BEFORE_ATTACK[:-1], "attack"]),
    ],
)
def test_a_changed_key_runs_only_the_steps_that_depend_on_it(
    cli: Cli, finished: Path, setting: str, first: str, spared: list[str]
) -> None:
    outcome = cli("run", "tiny.yaml", "--out", "tiny", "--resume", "--set", setting)
    assert outcome.status == 0, outcome.err
    assert done_again(outcome.out)[0] == first
    assert not set(done_again(outcome.out)) & set(spared)


def test_a_file_that_was_touched_is_made_again(cli: Cli, finished: Path) -> None:
    good = (finished / "hls" / "firmware" / "parameters.h").read_bytes()
    (finished / "hls" / "firmware" / "parameters.h").write_text("// mine\n")
    outcome = cli("generate", "tiny")
    assert outcome.status == 0, outcome.err
    assert "project: done before" not in outcome.out
    assert (finished / "hls" / "firmware" / "parameters.h").read_bytes() == good


def test_other_data_under_the_same_name_start_over(cli: Cli, finished: Path) -> None:
    write_data(cli.folder / "data.npz", seed=1)
    outcome = cli("train", "tiny")
    assert outcome.status == 0, outcome.err
    assert "[1/2] train\n" in outcome.out


def test_damaged_examples_are_made_again(cli: Cli, finished: Path) -> None:
    damaged = min((finished / "attacks").glob("*fgsm*.npz"))
    good = load_result(damaged)
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert load_result(damaged) is None
    assert cli("attack", "tiny").status == 0
    again = load_result(damaged)
    assert good is not None
    assert again is not None
    np.testing.assert_array_equal(again.x, good.x)


# Killed


def kill_when(process: ForkServerProcess, happened: Callable[[], bool]) -> None:
    """SIGKILL as soon as `happened`; it must come before the process ends by itself."""
    deadline = time.monotonic() + 300
    while not happened():
        assert process.exitcode is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_in_training_and_in_the_attack_it_ends_as_if_undisturbed(cli: Cli, undisturbed: Path) -> None:
    experiment(cli.folder)
    checkpoint, attacks = cli.folder / "tiny" / "checkpoints" / "training.npz", cli.folder / "tiny" / "attacks"
    kill_when(command(cli.folder, "run", "tiny.yaml", "--out", "tiny"), checkpoint.exists)
    assert not (cli.folder / "tiny" / "model.keras").exists()
    process = command(cli.folder, "run", "tiny.yaml", "--out", "tiny", "--resume")
    kill_when(process, lambda: len(list(attacks.glob("[!.]*.npz"))) >= 2)
    assert json.loads((cli.folder / "tiny" / "training.json").read_text())["resumed_from"]
    kept = {path.name: path.stat().st_mtime_ns for path in attacks.glob("[!.]*.npz")}
    outcome = cli("run", "tiny.yaml", "--out", "tiny", "--resume")
    assert outcome.status == 0, outcome.err
    assert done_again(outcome.out) == NAMES[len(BEFORE_ATTACK) :]
    assert {name: (attacks / name).stat().st_mtime_ns for name in kept} == kept
    assert len(list(attacks.glob("[!.]*.npz"))) > len(kept)
    assert results(cli.folder / "tiny") == results(undisturbed / "tiny")
    own, other = (load_model(folder / "tiny" / "model.keras") for folder in (cli.folder, undisturbed))
    for weights, expected in zip(own.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)
