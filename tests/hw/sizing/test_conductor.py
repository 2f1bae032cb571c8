"""Which questions are asked when, with a crew that answers at once: modes, screening, stopping and going on."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hw.experiment.config import dump_config, load_config
from hw.sizing.conductor import Conductor
from hw.sizing.config import SizingConfig
from hw.sizing.crew import Job, JobOutcome
from hw.sizing.questions import Question
from hw.sizing.report import write_reports
from hw.sizing.stages import STAGES
from hw.sizing.store import Store
from qmodels.errors import UserError

NAMES = {function: stage for stage, function in STAGES.items()}
LAYERS = ("conv1", "conv2", "fc1", "logits")
SHARE = {"accuracy": 0.5, "n": 100, "ci95": [0.4, 0.6]}


class Oracle:
    """Answers in any order; more bits are more robust, µ flatters under the cheap attacks only."""

    size = 2

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self._jobs: list[Job] = []
        self._left = stop_after

    def share(self, name: str, value: Any) -> None:
        pass

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def close(self) -> None:
        pass

    def wait(self) -> list[JobOutcome]:
        if not self._jobs:
            return []
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        job = self._jobs.pop(random.Random(len(self.asked)).randrange(len(self._jobs)))
        stage = NAMES[job.function]
        self.asked.append(stage)
        bits = _bits(job.argument)
        if stage == "train" and job.argument.config.training.method == "trades":
            return [JobOutcome(job.key, None, "UserError: it diverged", 0.1, "oracle")]
        if stage == "measure" and sum(bits.values()) == 4 * 7:
            return [JobOutcome(job.key, None, "UserError: seven bits will not do", 0.1, "oracle")]
        return [JobOutcome(job.key, _answer(stage, job.argument, bits), None, 0.1, "oracle")]


def _bits(question: Question) -> dict[str, int]:
    quantization = question.config.quantization
    return {layer: quantization.of_layer(layer).weight_bits for layer in LAYERS}


def _answer(stage: str, question: Question, bits: dict[str, int]) -> dict[str, Any]:
    total, mu = sum(bits.values()), question.config.mapping.mu
    accuracy = total / 40 - 0.05 * (mu > 0)
    row = {
        "attack": "pgd-linf",
        "epsilon_lsb": 16.0,
        "accuracy": min(1.0, accuracy + 0.02 + 0.2 * (mu > 0)),
        "flags": [],
    }
    worst = SHARE | {"accuracy": accuracy}
    gate = {"inputs": 9, "adversarial_inputs": 4, "mismatched_outputs": 0, "csim_inputs": 2, "engine": "bitsim"}
    cost = {"weight_bits": 100 * total, "ebops": 1000 * total, "latency_cycles_estimated": 9}
    losses = {str(b): {layer: (4 - place) * 2.0**-b for place, layer in enumerate(LAYERS)} for b in range(2, 9)}
    answers: dict[str, dict[str, Any]] = {
        "train": {"model.keras": b"model", "training.json": b"{}"},
        "descend": {"losses": losses, "sizes": dict.fromkeys(LAYERS, 10)},
        "measure": {"cost": cost, "weights": dict.fromkeys(LAYERS, 25 * total), "bits": bits, "clean": SHARE,
                    "delta_w": {layer: 2.0 ** -bits[layer] for layer in LAYERS}, "exact_inputs": 5},
        "screen": {"rows": [row]},
        "worst": worst,
        "final": {"clean": SHARE, "rows": [row], "worst": worst, "gate": [gate], "project_digest": "ab" * 32,
                  "quantized.keras": b"model"},
    }  # fmt: skip
    return answers[stage]


def sizing(**changes: Any) -> SizingConfig:
    plan = {"attack": {"kind": "pgd-linf"}, "epsilons_lsb": [16]}
    space = {"mapping.mu": [0, 7], "quantization.weight_bits": [2, 3, 5, 8]}
    plain = {"name": "oracle", "space": space, "screening": {"attacks": [plan]}, "final": {"designs": 3}}
    return SizingConfig.model_validate(plain | changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "experiment.yaml").write_text(dump_config(load_config(None)))
    store = Store(tmp_path / "store.sqlite")
    yield store
    store.close()


def conduct(config: SizingConfig, store: Store, crew: Oracle | None) -> Conductor:
    conductor = Conductor(config, store.path.parent, store, crew)
    conductor.run()
    return conductor


def test_the_worst_case_goes_on_until_no_design_set_aside_could_be_on_a_front(store: Store) -> None:
    crew = Oracle()
    points = list(conduct(sizing(), store, crew).points.values())
    assert (crew.asked.count("train"), crew.asked.count("measure"), crew.asked.count("screen")) == (1, 8, 8)
    for aside in (point for point in points if not point.worst):
        bound = aside.screened(16.0)
        assert bound is not None
        assert any((p.worst_accuracy or 0) >= bound and p.cost("ebops") <= aside.cost("ebops") for p in points)
    unmapped = [point for point in points if dict(point.design.settings)["mapping.mu"] == 0]
    assert all(point.worst for point in unmapped)  # though µ looked better under the cheap attacks
    assert crew.asked.count("final") == 3


def test_without_screening_every_design_gets_the_worst_case(store: Store) -> None:
    crew = Oracle()
    plain = sizing().screening.model_dump(mode="json") | {"off": True}
    conduct(sizing(screening=plain), store, crew)
    assert crew.asked.count("worst") == 8


@pytest.mark.parametrize("mode", ["grid", "search"])
def test_stopped_anywhere_it_goes_on_and_asks_nothing_twice(store: Store, mode: str) -> None:
    if mode == "search":
        pytest.importorskip("optuna")
    config = sizing(mode=mode, search={"trials": 6, "batch": 3})
    asked = 0
    for stop_after in (1, 4, 2, 7, None):
        crew = Oracle(stop_after)
        with contextlib.suppress(KeyboardInterrupt):
            conductor = conduct(config, store, crew)
        asked += len(crew.asked)
    assert asked == len(store.records()) == len(conductor.asker.used)
    assert store.computed_twice() == 0
    again = Oracle()
    conduct(config, store, again)
    assert again.asked == []


def test_layerwise_narrows_one_layer_at_a_time_for_every_combination(store: Store) -> None:
    config = sizing(mode="layerwise", space={"mapping.mu": [0, 7]}, layerwise={"from_bits": 4, "to_bits": 2})
    points = conduct(config, store, Oracle()).points.values()
    assert len(points) == 2 * (1 + 4 * 2)
    totals = sorted(sum(p.measure["bits"].values()) for p in points if p.measure)
    assert totals == sorted([*range(8, 17)] * 2)


def test_a_failed_design_is_kept_and_the_others_go_on(store: Store) -> None:
    config = sizing(space={"quantization.weight_bits": [4, 7]})
    points = list(conduct(config, store, Oracle()).points.values())
    assert [bool(point.error) for point in points] == [False, True]
    again = Oracle()
    conduct(config, store, again)
    assert again.asked == []
    store.forget_failed()
    conduct(config, store, again)
    assert again.asked == ["measure"]


def test_a_training_that_fails_fails_its_designs_only(store: Store) -> None:
    space: dict[str, Any] = {"training.method": ["standard", "trades"], "quantization.weight_bits": [2, 4]}
    points = list(conduct(sizing(space=space), store, Oracle()).points.values())
    assert [point.error for point in points] == ["", "", *["training: UserError: it diverged"] * 2]
    assert [point.worst is not None for point in points] == [True, True, False, False]


def test_layerwise_without_a_model_says_why(store: Store) -> None:
    with pytest.raises(UserError, match="it diverged"):
        conduct(sizing(mode="layerwise", space={"training.method": ["trades"]}), store, Oracle())


def test_a_training_whose_files_are_gone_is_done_again(store: Store, tmp_path: Path) -> None:
    conduct(sizing(), store, Oracle())
    next((tmp_path / "trainings").glob("*/model.keras")).unlink()
    again = Oracle()
    conduct(sizing(), store, again)
    assert again.asked == ["train"]


def test_the_report_tells_validation_from_test_and_needs_nothing_else(store: Store, tmp_path: Path) -> None:
    conductor = conduct(sizing(space=sizing().space | {"quantization.weight_bits": [2, 3, 7, 8]}), store, Oracle())
    content = write_reports(conductor)
    page = (tmp_path / "report.html").read_text()
    assert "worst case on test" in page and "validation images it was chosen by" in page
    assert page.count("<svg") == 3 + 1 + 1 + len(content.named)  # fronts, bits, heat map, layers
    assert "seven bits will not do" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)|@import|url\((?!#)', page)
    plain = json.loads((tmp_path / "sizing.json").read_text())
    assert {"validation images", "test images"} == {plain["selection"], plain["final_scores"]}
    assert len((tmp_path / "sizing.csv").read_text().splitlines()) == 1 + len(content.points)
    assert (tmp_path / "sizing.md").read_text().count("robust-hls generate") == len(content.named)


def test_a_report_without_a_crew_computes_nothing(store: Store) -> None:
    conduct(sizing(), store, Oracle())
    before = yaml.safe_dump([record.value for record in store.records()])
    conductor = conduct(sizing(), store, None)
    assert conductor.points and all(point.measure for point in conductor.points.values())
    assert yaml.safe_dump([record.value for record in store.records()]) == before


def test_nothing_computed_yet_still_makes_a_report(store: Store, tmp_path: Path) -> None:
    write_reports(conduct(sizing(), store, None))
    assert "No design has a worst case yet" in (tmp_path / "report.html").read_text()
