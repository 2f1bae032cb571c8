"""`robust-hls size` from the config to the report, on a tiny network with real attacks and a real C simulation."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import LocalCluster
from helpers.cli import Cli
from helpers.models import write_data

from qmodels.runtime import runtime

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "limit_train": 300},
    "model": {"architecture": "cnn4", "filters": [2, 3], "hidden": [6]},
    "training": {"method": "standard", "epochs": 2},
    "mapping": {"mu": 7},
    "quantization": {"calibration_samples": 50},
    "simulation": {"verify_samples": 10, "verify_random": 5},
}
SIZING: dict[str, Any] = {
    "name": "tiny_sizing",
    "experiment": "experiment.yaml",
    "space": {"mapping.layers": [["last-1"], ["nowhere"]], "quantization.weight_bits": [4]},
    "worst_case": {
        "epsilon_lsb": 16,
        "images": 20,
        "attack": {
            "kind": "worst-case",
            "attacks": [{"kind": "square", "queries": 20}],
        },
    },
    "final": {
        "images": 16,
        "designs": 1,
        "attacks": [{"attack": {"kind": "fgsm"}, "epsilons_lsb": [8, 16]}],
    },
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    path = folder / "sizing.yaml"
    path.write_text(yaml.safe_dump(SIZING | changes))
    return path


def journal(folder: Path) -> tuple[int, int]:
    """Finished and failed computations so far."""
    with sqlite3.connect(folder / "store.sqlite") as connection:
        done, failed = connection.execute("SELECT SUM(NOT failed), SUM(failed) FROM journal").fetchone()
    connection.close()
    return int(done), int(failed)


@pytest.mark.gxx
@pytest.mark.timeout(900)
def test_the_whole_way(cli: Cli) -> None:
    config, folder = write(cli.folder), cli.folder / "out"
    outcome = cli("size", config, "--out", folder, "--workers", "0")
    assert outcome.status == 0, outcome.err
    assert "final" not in outcome.err
    first = journal(folder)
    # one training; one design built, certified, its worst case, scored on test; one of a layer that is not there
    assert first == (1 + 4, 1)
    report = json.loads((folder / "sizing.json").read_text())
    _check_json(report)
    _check_page((folder / "report.html").read_text())
    with (folder / "sizing.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2

    again = cli("size", folder, "--workers", "0")  # the folder is enough; everything is known
    assert again.status == 0, again.err
    assert journal(folder) == first
    assert json.loads((folder / "sizing.json").read_text()) == report

    assert cli("size", folder, "--workers", "0", "--retry-failed").status == 0
    assert journal(folder) == (first[0], first[1] + 1)

    command = shlex.split(report["recommended"][0]["command"])
    assert command[:2] == ["robust-hls", "generate"]
    generated = cli(*command[1:])
    assert generated.status == 0, generated.err
    project = json.loads((Path(command[command.index("--out") + 1]) / "project.json").read_text())
    scored = next(d for d in report["designs"] if d["design"] == report["recommended"][0]["design"])
    assert project["digest"] == scored["final"]["project_digest"]


def _check_json(report: dict[str, Any]) -> None:
    good = [design for design in report["designs"] if not design["error"]]
    assert len(good) == 1
    assert all("'nowhere' is no layer" in design["error"] for design in report["designs"] if design not in good)
    for design in good:
        rows = {(row["attack"], row["epsilon_lsb"]): row for row in design["final"]["rows"]}
        assert set(rows) == {("clean", 0.0), ("fgsm", 8.0), ("fgsm", 16.0)}
        assert not design["measure"]["converted"]
        assert sum(design["worst"]["fell_to"].values()) == round((1 - design["worst"]["accuracy"]) * 20)
        assert design["worst"]["accuracy"] <= design["measure"]["clean"]["accuracy"]
        bits = design["settings"]["quantization.weight_bits"]
        assert set(design["measure"]["bits"].values()) <= set(range(1, bits + 1))
    tested = [design["final"] for design in good if design["final"]]
    assert len(tested) == 1
    assert all(gate["mismatched_outputs"] == 0 for gate in tested[0]["gate"])
    assert tested[0]["gate"][1]["adversarial_inputs"] > 0


def _check_page(page: str) -> None:
    assert page.count("<svg") == 3 + 1 + 1  # fronts, heat map, layers of the one design
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)  # nothing is loaded from anywhere
    assert "robust-hls generate" in page


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"space": {"quantization.weight_bit": [2]}},
            "weight_bit: unknown key; did you mean 'weight_bits'",
        ),
        ({"space": {"quantization.weight_bits": [2, 99]}}, "quantization.weight_bits"),
        ({"space": {"quantization.weight_bits": []}}, "space.quantization.weight_bits: an empty list"),
        ({"space": {}}, "space: no key to vary"),
        ({"mode": "layerwise"}, "quantization.weight_bits is what mode layerwise chooses"),
        ({"mode": "gird"}, "did you mean 'grid'"),
        ({"screening": {"near": 0.03}}, "screening.near: unknown key"),
        ({"experiment": "missing.yaml"}, "missing.yaml: no such file"),
        ({"fixed": {"trainin.epochs": 1}}, "trainin: unknown key; did you mean 'training'"),
        ({"costs": ["area"]}, "costs.0"),
    ],
)
def test_a_wrong_config_is_told_and_nothing_is_written(cli: Cli, changes: dict[str, Any], told: str) -> None:
    config = write(cli.folder, **changes)
    assert told in cli.refuses("size", config, "--out", cli.folder / "out", "--workers", "0")


@pytest.mark.gxx
@pytest.mark.timeout(900)
def test_a_model_of_your_own_in_one_command(cli: Cli) -> None:
    keras = runtime().keras
    layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation="relu", name="hidden")]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers, keras.layers.Dense(3, activation="softmax", name="out")])
    model.save(cli.folder / "my.keras")
    write_data(cli.folder / "my.npz")
    few = {
        "worst_case.images": 5,
        "worst_case.attack": "{kind: worst-case, attacks: [{kind: square, queries: 5}]}",
        "final.images": 5,
        "final.designs": 1,
        "layerwise": "{from_bits: 3, to_bits: 2, activations_from: 3, activations_to: 3}",
        "experiment.simulation": "{verify_samples: 5, verify_random: 5}",
    }
    changes = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    own = ("--model", cli.folder / "my.keras", "--data", cli.folder / "my.npz")
    outcome = cli("size", *own, "--out", cli.folder / "out", "--workers", "0", *changes)
    assert outcome.status == 0, outcome.err
    report = json.loads((cli.folder / "out" / "sizing.json").read_text())
    assert len(report["designs"]) == 4  # 3 bits everywhere, then one bit less on each layer in turn
    assert all("quantization.layers.hidden.weight_bits" in design["settings"] for design in report["designs"])
    assert not any(design["measure"]["converted"] for design in report["designs"])
    command = shlex.split(report["recommended"][0]["command"])
    assert cli(*command[1:]).status == 0


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("default")  # dask's own
def test_a_cluster_that_grows_and_loses_a_worker_gives_the_same_answers(cli: Cli) -> None:
    space = {"quantization.weight_bits": [2, 3, 4], "quantization.layers.fc1_relu.activation_bits": [3, 4, 6, 8]}
    config = write(cli.folder, space=space, screening={"seeds": 1, "round": 3})
    assert cli("size", config, "--out", cli.folder / "alone", "--workers", "0").status == 0
    store, killed = cli.folder / "together" / "store.sqlite", []

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as running:

        def disturb() -> None:
            _until(lambda: begun(store))
            before = running.workers[0].pid
            running.scale(2)
            _until(lambda: len(running.workers) == 2)
            os.kill(before, signal.SIGKILL)
            killed.append(before)

        other = threading.Thread(target=disturb)
        other.start()
        outcome = cli("size", config, "--out", cli.folder / "together", "--scheduler", running.scheduler_address)
        other.join()
        assert outcome.status == 0, outcome.err
        assert killed, "it was over before it was disturbed"
    alone, together = (answers(cli.folder / name) for name in ("alone", "together"))
    assert together == alone
    report = json.loads((cli.folder / "together" / "sizing.json").read_text())
    assert not [design for design in report["designs"] if design["error"]]


def answers(folder: Path) -> dict[str, Any]:
    """Every answer but the trainings', whose reports hold times."""
    with sqlite3.connect(folder / "store.sqlite") as connection:
        found = connection.execute("SELECT key, value FROM results WHERE stage != 'train'").fetchall()
        twice = connection.execute("SELECT key FROM journal GROUP BY key HAVING COUNT(*) > 1").fetchall()
    connection.close()
    assert twice == []
    return dict(found)


def begun(store: Path) -> bool:
    """Whether designs are being built: the training is done, and something after it."""
    with contextlib.suppress(sqlite3.OperationalError, TypeError):  # no table yet, or nothing in it
        return store.exists() and journal(store.parent)[0] > 1
    return False


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_nothing_to_size_is_told(cli: Cli) -> None:
    assert "--model FILE" in cli.refuses("size")


def test_a_folder_without_a_sizing(cli: Cli) -> None:
    (cli.folder / "empty").mkdir()
    assert "no sizing in this folder" in cli.refuses("size", cli.folder / "empty")
    config = write(cli.folder)
    assert "no results to report yet" in cli.refuses("size", config, "--out", cli.folder / "new", "--report-only")
