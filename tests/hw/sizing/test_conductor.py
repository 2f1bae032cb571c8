"""Which questions are asked when, with a crew that answers at once: modes, screening, stopping and going on."""

from __future__ import annotations

import contextlib
import json
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from hw.experiment.config import dump_config, load_config
from hw.sizing.conductor import Conductor
from hw.sizing.config import SizingConfig
from hw.sizing.crew import Job, JobOutcome, attempt_all
from hw.sizing.points import Recommendation, recommendations
from hw.sizing.pool import Examples, pack_mask, unpack_mask
from hw.sizing.questions import Question
from hw.sizing.report import write_reports
from hw.sizing.stages import STAGES
from hw.sizing.steps import worst_case_steps
from hw.sizing.store import Store
from qmodels.errors import Contradiction, UserError

NAMES = {function: stage for stage, function in STAGES.items()}
LAYERS = ("conv1", "conv2", "fc1", "logits")
SHARE = {"accuracy": 0.5, "n": 100, "ci95": [0.4, 0.6]}
N = 100


class Oracle:
    """Answers in any order; more bits are more robust, µ = 7 flatters until the last step, µ = 63 is bad."""

    size = 2
    loses_batches = False
    certifies: Callable[[Question], NDArray[np.bool_]] | None = None  # None: nothing can be

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.shared: set[str] = set()
        self.pools: dict[str, set[str]] = {}  # generations asked for, by data
        self._jobs: list[Job] = []
        self._left = stop_after

    def share(self, name: str, value: Any) -> None:
        self.shared.add(name)

    def submit(self, job: Job) -> None:
        assert set(job.needs) <= self.shared
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
        if job.function is attempt_all and self.loses_batches:
            return [JobOutcome(job.key, None, "the worker died 3 times", 0.1, "oracle")]
        if job.function is attempt_all:
            return [JobOutcome(job.key, [self._single(single) for single in job.argument], None, 0.1, "oracle")]
        return [self._single(job)]

    def _single(self, job: Job) -> JobOutcome:
        stage = NAMES[job.function]
        self.asked.append(stage)
        if job.argument.standing.pool:
            self.pools.setdefault(job.argument.data, set()).update(job.argument.standing.pool)
        bits = _bits(job.argument)
        if stage == "train" and job.argument.config.training.method == "trades":
            return JobOutcome(job.key, None, "UserError: it diverged", 0.1, "oracle")
        if stage == "measure" and sum(bits.values()) == 4 * 7:
            return JobOutcome(job.key, None, "UserError: seven bits will not do", 0.1, "oracle")
        if stage == "certify":
            shown = np.zeros(N, bool) if self.certifies is None else self.certifies(job.argument)
            return JobOutcome(job.key, {"certified": pack_mask(shown)}, None, 0.1, "oracle")
        return JobOutcome(job.key, _answer(stage, job.argument, bits), None, 0.1, "oracle")


def _bits(question: Question) -> dict[str, int]:
    quantization = question.config.quantization
    return {layer: quantization.of_layer(layer).weight_bits for layer in LAYERS}


def truth(bits: dict[str, int], mu: float) -> int:
    """How many of the images fall in the whole worst case."""
    return N - round(N * max(sum(bits.values()) / 40 - 0.05 * (mu == 7) - 0.3 * (mu == 63), 0))


def _mask(fallen: int) -> str:
    return pack_mask(np.arange(N) < fallen)


def _attacked(question: Question, bits: dict[str, int]) -> dict[str, Any]:
    standing, mu = question.standing, question.config.mapping.mu
    before = int(unpack_mask(standing.fallen, N).sum())
    last = standing.attack == len(worst_case_steps(question.worst_case.attack)) - 1
    hidden = 0 if last else 2 + 20 * (mu == 7)
    fallen = max(before, truth(bits, mu) - hidden)
    rows = np.arange(before, fallen, dtype=np.int32)
    images = np.full((len(rows), 2), sum(bits.values()) + 100 * question.config.seed, np.uint8)
    return {"fallen": _mask(fallen), "fell": len(rows), "examples": Examples(rows, images).pack() if len(rows) else b""}


def _answer(stage: str, question: Question, bits: dict[str, int]) -> dict[str, Any]:
    total, mu = sum(bits.values()), question.config.mapping.mu
    row = {"attack": "pgd-linf", "epsilon_lsb": 16.0, "accuracy": 0.5, "flags": []}
    gate = {"inputs": 9, "adversarial_inputs": 4, "mismatched_outputs": 0, "csim_inputs": 2, "engine": "bitsim"}
    cost = {
        "weight_bits": 100 * total,
        "ebops": 1000 * total,
        "latency_cycles_estimated": 9,
        "luts_estimated": 7 * total,
    }
    if stage == "pool":  # half of what is known of all falls to it
        before = int(unpack_mask(question.standing.fallen, N).sum())
        return {"fallen": _mask(max(before, truth(bits, mu) // 2)), "tried": 9}
    if stage == "attack":
        return _attacked(question, bits)
    answers: dict[str, dict[str, Any]] = {
        "train": {"model.keras": b"model", "training.json": b"{}"},
        "descend": {"layers": list(LAYERS), "relus": ["fc1_relu"]},
        "measure": {"cost": cost, "weights": dict.fromkeys(LAYERS, 25 * total), "bits": bits, "clean": SHARE,
                    "delta_w": {layer: 2.0 ** -bits[layer] for layer in LAYERS}, "exact_inputs": N,
                    "fallen": _mask(1), "converted": False},
        "replicate": {"clean": SHARE, "worst": {"accuracy": 0.3 + 0.1 * question.config.seed}},
        "final": {"clean": SHARE, "rows": [row], "worst": SHARE, "gate": [gate], "project_digest": "ab" * 32,
                  "quantized.keras": b"model"},
    }  # fmt: skip
    return answers[stage]


def sizing(**changes: Any) -> SizingConfig:
    space = {"mapping.mu": [0, 7], "quantization.weight_bits": [2, 3, 5, 8]}
    screening = {"seeds": 1, "round": 2}
    plain = {"name": "oracle", "space": space, "screening": screening, "final": {"designs": 3}}
    return SizingConfig.model_validate(plain | changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "experiment.yaml").write_text(dump_config(load_config(None, {"training.quantization_aware": None})))
    store = Store(tmp_path / "store.sqlite")
    yield store
    store.close()


def conduct(config: SizingConfig, store: Store, crew: Oracle | None) -> Conductor:
    conductor = Conductor(config, store.path.parent, store, crew)
    conductor.run()
    return conductor


def recommendations_of(conductor: Conductor) -> list[Recommendation]:
    return recommendations(list(conductor.points.values()), conductor.config)


def test_the_worst_case_goes_on_until_no_design_set_aside_could_be_on_a_front(store: Store) -> None:
    crew, config = Oracle(), sizing(space={"mapping.mu": [0, 7, 63], "quantization.weight_bits": [2, 3, 5, 8]})
    points = list(conduct(config, store, crew).points.values())
    assert (crew.asked.count("train"), crew.asked.count("measure")) == (1, 12)
    aside = [point for point in points if not point.done]
    assert aside
    for point in aside:
        assert point.bound is not None and point.set_aside
        for axis in config.costs:
            better = [p for p in points if p.done and p.cost(axis) <= point.cost(axis)]
            assert max(p.worst_accuracy or 0 for p in better) >= point.bound
    unmapped = [point for point in points if dict(point.design.settings)["mapping.mu"] == 0]
    assert all(point.done for point in unmapped)  # each is on the front, though µ looked better for long
    assert crew.asked.count("final") == 3


@pytest.mark.parametrize("steps", [1, 2])
def test_the_same_designs_are_recommended_as_without_the_pool(store: Store, tmp_path: Path, steps: int) -> None:
    attacks = [{"kind": "apgd-ce"}, {"kind": "square"}][:steps]
    worst = {"attack": {"kind": "worst-case", "attacks": attacks}}
    named = []
    for off in (False, True):
        config = sizing(worst_case=worst, screening={"seeds": 2, "round": 3, "off": off})
        conductor = conduct(config, store, Oracle())
        named.append([(item.why, item.point.design.key) for item in recommendations_of(conductor)])
        assert not off or all(point.done for point in conductor.points.values())
    assert named[0] == named[1]


def certifying(open_images: Callable[[int], int]) -> Oracle:
    """A crew that certifies what stands at the end, but for some images; how many, by the sum of the bits."""
    crew = Oracle()

    def shown(question: Question) -> NDArray[np.bool_]:
        bits = _bits(question)
        fallen = truth(bits, question.config.mapping.mu)
        return np.arange(N) >= fallen + open_images(sum(bits.values()))

    crew.certifies = shown
    return crew


@pytest.mark.parametrize("open_images", [0, 1, 8, 30])
def test_the_same_designs_are_recommended_with_certificates(store: Store, open_images: int) -> None:
    config = sizing(space={"mapping.mu": [0, 7, 63], "quantization.weight_bits": [2, 3, 5, 8]})
    crew = certifying(lambda total: open_images)
    found = conduct(config, store, crew)
    (folder := store.path.parent / "plain").mkdir()
    (folder / "experiment.yaml").write_bytes((store.path.parent / "experiment.yaml").read_bytes())
    other = Store(folder / "store.sqlite")
    plain = conduct(sizing(space=config.space, screening={"off": True}), other, Oracle())
    other.close()
    named = [[(item.why, item.point.design.key, item.point.worst_accuracy) for item in recommendations_of(c)]
             for c in (found, plain)]  # fmt: skip
    assert named[0] == named[1]
    for point in found.points.values():
        best = plain.points[point.design.key].worst_accuracy
        assert best is not None and point.bound is not None and best <= point.bound
        assert point.lower_bound is None or point.lower_bound <= best
        assert not point.done or point.worst_accuracy == best


def test_certified_designs_end_comparisons_and_certified_images_are_not_attacked(store: Store, tmp_path: Path) -> None:
    config = sizing(screening={"seeds": 1, "round": 8}, space=sizing().space | {"mapping.mu": [0, 63]})
    crew, plain = certifying(lambda total: 2), Oracle()
    conductor = conduct(config, store, crew)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "experiment.yaml").write_bytes((tmp_path / "experiment.yaml").read_bytes())
    other = Store(tmp_path / "p" / "store.sqlite")
    conduct(config, other, plain)
    other.close()
    assert crew.asked.count("attack") < plain.asked.count("attack")
    assert plain.asked.count("certify") == 1  # the seed; nothing of it is certified
    write_reports(conductor)
    designs = json.loads((tmp_path / "sizing.json").read_text())["designs"]
    assert any(0 < (design["lower_bound"] or 0) <= design["upper_bound"] for design in designs)
    assert "a part is certified" in (tmp_path / "sizing.md").read_text()


def test_a_design_whose_every_image_is_decided_needs_no_attack(store: Store, tmp_path: Path) -> None:
    crew = certifying(lambda total: 0)
    conductor = conduct(sizing(space={"quantization.weight_bits": [2, 8]}, screening={"seeds": 2}), store, crew)
    write_reports(conductor)
    decided = json.loads((tmp_path / "sizing.json").read_text())["decided"]
    assert {item["by"] for item in decided} & {"a certificate of all that stood", "the whole worst case"}
    assert all(point.done for point in conductor.points.values())


def test_an_image_that_is_certified_and_broken_ends_the_sizing(store: Store) -> None:
    crew = Oracle()
    crew.certifies = lambda question: np.arange(N) == 0  # a clean error
    with pytest.raises(Contradiction, match="image 0 is certified, and an attack has broken it"):
        conduct(sizing(), store, crew)


def test_the_scores_of_finished_designs_have_seen_the_whole_pool(store: Store) -> None:
    conductor = conduct(sizing(), store, Oracle())
    points = [point for point in conductor.points.values() if point.done]
    (pool,) = conductor.contest.pools.values()
    assert {point.generations for point in points} == {len(pool.generations)}


def test_designs_with_other_validation_images_have_a_pool_of_their_own(store: Store) -> None:
    crew = Oracle()
    conductor = conduct(sizing(space={"seed": [0, 1], "quantization.weight_bits": [2, 3, 5, 8]}), store, crew)
    assert len(conductor.contest.pools) == 2
    one, other = crew.pools.values()
    assert one and other and not one & other


def test_what_is_lost_together_is_tried_one_by_one(store: Store) -> None:
    crew = Oracle()
    crew.loses_batches, crew.size = True, 1
    points = conduct(sizing(), store, crew).points.values()
    assert not any(point.error for point in points)
    assert crew.asked.count("measure") == len(points)


def test_examples_that_were_changed_are_not_believed(store: Store) -> None:
    conduct(sizing(), store, Oracle())
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE examples SET content = substr(content, 1, 20)")
    connection.close()
    with pytest.raises(UserError, match="adversarial examples were changed"):
        conduct(sizing(), store, Oracle())


def test_examples_that_are_gone_are_missed(store: Store) -> None:
    conduct(sizing(), store, Oracle())
    with sqlite3.connect(store.path) as connection:
        connection.execute("DELETE FROM examples")
    connection.close()
    with pytest.raises(UserError, match="move the store away"):
        conduct(sizing(), store, Oracle())


def test_chosen_designs_are_repeated_with_other_seeds(store: Store) -> None:
    crew = Oracle()
    conductor = conduct(sizing(final={"designs": 2, "seeds": [1, 2]}), store, crew)
    tested = [point for point in conductor.points.values() if point.final]
    assert len(tested) == 2
    assert (crew.asked.count("train"), crew.asked.count("replicate")) == (1 + 2, 4)
    for point in tested:
        assert point.replicates == pytest.approx([0.4, 0.5])
        assert point.over_seeds == pytest.approx((1.4 / 3, 1.4 / 3 - 0.1434, 1.4 / 3 + 0.1434), abs=1e-3)


def test_without_screening_every_design_gets_the_worst_case(store: Store) -> None:
    conductor = conduct(sizing(screening={"off": True}), store, Oracle())
    assert all(point.done for point in conductor.points.values())


@pytest.mark.parametrize("mode", ["grid", "search", "layerwise"])
def test_stopped_anywhere_it_goes_on_and_asks_nothing_twice(store: Store, mode: str) -> None:
    if mode == "search":
        pytest.importorskip("optuna")
    space = {"mapping.mu": [0, 7]} if mode == "layerwise" else sizing().space
    narrow = {"from_bits": 3, "to_bits": 2, "activations_to": None}
    config = sizing(mode=mode, space=space, search={"trials": 6, "batch": 3}, layerwise=narrow)
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


def test_a_search_may_ask_for_one_design_many_times(store: Store) -> None:
    pytest.importorskip("optuna")
    config = sizing(mode="search", space={"quantization.weight_bits": [2, 3, 5]}, search={"trials": 24, "batch": 8})
    points = list(conduct(config, store, Oracle()).points.values())
    assert len(points) == 3 and all(point.done for point in points)


def test_layerwise_tries_every_knob_and_narrows_one_a_step(store: Store) -> None:
    bits = {"from_bits": 4, "to_bits": 2, "activations_from": 5, "activations_to": 4}
    config = sizing(mode="layerwise", space={"mapping.mu": [0, 7]}, layerwise=bits)
    points = list(conduct(config, store, Oracle()).points.values())
    settings = [dict(point.design.settings) for point in points]
    assert len(settings) > 2 * (1 + 4 * 2 + 1)  # more than the path: all that was tried takes part
    lowest = {key: 2 if "weight" in key else 4 for key in settings[0] if "bits" in key}
    assert all(dict(mu_) | lowest in settings for mu_ in ({"mapping.mu": 0}, {"mapping.mu": 7}))
    assert any(point.done for point in points)


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
    assert [point.measure is not None for point in points] == [True, True, False, False]


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
    assert "worst case on test" in page and "validation images, by which it was chosen" in page
    assert page.count("<svg") == 3 + 1 + 1 + len(content.named)  # fronts, bits, heat map, layers
    assert "seven bits will not do" in page
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", page[page.index("<h2>All designs") :].partition("</thead>")[0])
    assert heads[:2] == ["design", "worst case, %"] and heads[-1] == "remarks"
    assert {"weight bits", "mu", "weight bits in all", "worst case on test, %"} <= set(heads)
    assert "lower bound (proved), %" in heads and "<td>failed: " in page
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
