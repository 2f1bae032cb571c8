"""A run with defences: who attacks what, what the rows say of the attacker, and settings that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.cli import Cli
from helpers.models import write_data

from hw.experiment.attacks import attack_jobs, job_path, load_result
from hw.experiment.open import open_run
from hw.experiment.pipeline import run_steps
from hw.experiment.preflight import check_run
from hw.experiment.run import Run
from hw.report.answer import answer
from hw.report.headline import headline
from hw.report.source import load_run
from hw.report.step import FLOW
from qmodels.errors import UserError

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "data.npz", "validation_share": 0.2},
    "model": {"architecture": "mlp", "hidden": [8]},
    "training": {"method": "distillation", "epochs": 15, "batch_size": 16, "learning_rate": 0.02},
    "defence": {"kind": "feature-squeezing", "squeezing": {"bits": 3, "window": None, "false_positive_rate": 0.2}},
    "evaluation": {
        "samples": 12,
        "attacks": [
            {"attack": {"kind": "pgd-linf", "steps": 3}, "epsilons_lsb": [32]},
            {"attack": {"kind": "uniform"}, "epsilons_lsb": [16]},
            {"attack": {"kind": "square", "queries": 30}, "epsilons_lsb": [32]},
        ],
        "black_box": [{"name": "own", "training": {"method": "standard", "epochs": 3}}],
    },
    "simulation": {"verify_random": 20},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Run:
    """Distilled, behind a detector, finished."""
    folder = tmp_path_factory.mktemp("defended")
    write_data(folder / "data.npz")
    config = EXPERIMENT | {"data": EXPERIMENT["data"] | {"name": str(folder / "data.npz")}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    found = open_run(folder / "tiny.yaml", out=folder / "run")
    check_run(found, FLOW)
    with found.folder.lock():
        run_steps(found, FLOW, lambda line: None)
    return found


@pytest.fixture(scope="module")
def results(run: Run) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run.folder / "results.json").read_text())
    return read


def rows_of(results, **wanted):
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def test_every_form_stands_beside_its_defended_one(results):
    clean = {(row["model"], row["victim"]) for row in rows_of(results, attack="clean")}
    assert clean == {
        (model, victim) for model in ("Dist.", "Dist.+detector") for victim in ("float", "quantized", "bitsim")
    }
    for row in rows_of(results, model="Dist.+detector"):
        assert 0 <= row["refused"] <= 1
    assert all(row["refused"] is None for row in rows_of(results, model="Dist."))


def test_no_simulator_differs_on_what_the_defence_shows_the_device(results):
    exact = results["exactness"]
    assert exact["mismatched_outputs"] == 0 and exact["adversarial_inputs"] > 0


def test_the_published_attack_goes_through_the_softmax_and_the_aware_one_does_not(results):
    published = rows_of(results, model="Dist.", attack="pgd-linf(ce-probabilities)", knowledge="white-box")
    aware = rows_of(results, model="Dist.", attack="pgd-linf", knowledge="white-box")
    assert {row["attacker"] for row in published} == {"unaware"} and {row["attacker"] for row in aware} == {"aware"}
    assert all("softmax-outputs" in row["flags"] for row in published)
    assert len(published) == len(aware) == 3  # float, quantized, accelerator


def test_examples_made_without_the_defence_are_carried_to_the_defended_form(results):
    for victim, source in (("float", "Dist./float"), ("quantized", "Dist./quantized"), ("bitsim", "Dist./quantized")):
        (row,) = rows_of(results, model="Dist.+detector", victim=victim, attack="pgd-linf", attacker="unaware",
                         knowledge="transfer")  # fmt: skip
        assert row["source"] == source
        assert rows_of(results, model="Dist.+detector", victim=victim, attack="pgd-linf", attacker="aware",
                       knowledge="white-box")  # fmt: skip
    apart = rows_of(results, knowledge="black-box", source="own/float")
    assert apart and {row["attacker"] for row in apart} == {"unaware"}


def test_who_asks_the_defended_accelerator_knows_what_answers(results):
    squares = rows_of(results, model="Dist.+detector", victim="bitsim", attack="square")
    assert {(row["attacker"], row["knowledge"]) for row in squares} == {("aware", "black-box"), ("unaware", "transfer")}


def test_the_quantized_model_and_the_accelerator_share_bits_and_threshold(results):
    for row in rows_of(results, model="Dist.+detector", victim="quantized"):
        twins = rows_of(results, model=row["model"], victim="bitsim", attack=row["attack"], attacker=row["attacker"],
                        knowledge=row["knowledge"])  # fmt: skip
        if row["knowledge"] == "white-box":
            assert [(twin["accuracy"], twin["refused"]) for twin in twins] == [(row["accuracy"], row["refused"])]
            assert twins[0]["disagreements"] == 0


def test_the_worst_case_is_the_aware_attackers(results):
    for record in results["measures"]["defence"]:
        assert record["aware"] <= (1.0 if record["unaware"] is None else record["unaware"])
        assert record["aware_ci95"][0] <= record["aware"] <= record["aware_ci95"][1]
        (worst,) = [w for w in results["worst_case"] if (w["model"], w["victim"], w["epsilon_lsb"], w["norm"])
                    == (record["model"], record["victim"], record["epsilon"], record["norm"])]  # fmt: skip
        assert worst["accuracy"] <= record["aware"]
        assert record["place"] == "host"  # it compares answers
    assert {record["model"] for record in results["measures"]["defence"]} == {"Dist.+detector"}


def test_changes_are_those_of_inputs_that_were_right(results):
    clean = {(row["model"], row["victim"]): row["accuracy"] * row["n"] for row in rows_of(results, attack="clean")}
    assert results["measures"]["example_changes"]
    for record in results["measures"]["example_changes"]:
        assert record["right_when_clean"] == pytest.approx(clean[record["model"], record["victim"]])
        assert record["fooled"] <= record["right_when_clean"]
        assert (record["median_linf_lsb"] is None) == (record["fooled"] == 0)
        assert record["fooled"] == 0 or 0 < record["median_linf_lsb"] <= record["epsilon_lsb"]


def test_each_form_has_examples_of_its_own(run):
    jobs = list(attack_jobs(run))
    paths = [job_path(run, job) for job in jobs]
    assert len(set(paths)) == len(paths) and all(load_result(path) is not None for path in paths)
    assert {job.source.victim.name for job in jobs if job.attack.kind == "square"} == {"bitsim"}
    assert not [job for job in jobs if job.attack.family == "noise" and job.source.defence is not None]


def test_the_test_bench_holds_what_the_device_is_shown(run):
    bench = np.loadtxt(run.folder / "hls" / "tb_data" / "tb_input_features.dat")
    assert bench.size and json.loads((run.folder / "testbench.json").read_text())["adversarial_inputs"] > 0


def test_the_report_tells_both_attackers(run):
    page = (run.folder / "report.html").read_text()
    assert "(unaware)" in page and "an attacker who does not know it" in page
    found = load_run(run.folder.path).results
    table = headline([found])
    assert [line.model for line in table.lines if line.victim == "bitsim"] == ["Dist.", "Dist.+detector"]
    first = answer(found, table)
    assert "on Dist.+detector bitsim" in first[0].note  # the defended accelerator, against who knows
    assert "against an attacker who does not know the defence" in [fact.name for fact in first]
    published = next(line for line in table.lines if (line.model, line.victim) == ("Dist.", "bitsim"))
    assert "softmax-outputs" in table.flags and "softmax-outputs" not in published.flags  # the unaware attacker's


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"defence.squeezing.bits": None}, "bits and window are both null"),
        ({"defence.squeezing.bits": 8}, "inputs have 8: nothing would be squeezed; allowed: 1 .. 7"),
        ({"data.name": "wine", "defence.squeezing.window": 3}, "set defence.squeezing.window: null"),
        ({"data.name": "wine", "defence.kind": "pixeldefend"}, "works on images"),
        ({"defence.kind": "pixel-defend"}, "did you mean 'pixeldefend'"),
        ({"defence.squeezing.false_positive_rate": 2}, "defence.squeezing.false_positive_rate"),
    ],
)
def test_settings_that_cannot_be(cli: Cli, settings, told):
    write_data(cli.folder / "data.npz")
    (cli.folder / "tiny.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    with pytest.raises(UserError, match=told):
        check_run(open_run(cli.folder / "tiny.yaml", settings), FLOW)
    assert not (cli.folder / "hls_projects").exists()
