"""Score: the stored examples judged by every victim, the accelerator included, and what that says about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hw.experiment.attacks import (
    AttackJob,
    Contestant,
    accelerator_of,
    attack_jobs,
    attack_labels,
    attacked_images,
    convergence_job,
    job_path,
    load_result,
    sources,
    strongest,
)
from hw.experiment.clean_accuracy import clean_accuracy
from hw.experiment.config import EvaluationPlan
from hw.experiment.gate import combined, pass_gate
from hw.experiment.measures import boundary_record, detection, layer_measures, query_curve
from hw.experiment.radius import Radius, plan_radii
from hw.experiment.run import Run
from hw.experiment.stored import CostPart, SimulationPart
from qmodels.attacks import AttackResult
from qmodels.attacks.base import Knowledge
from qmodels.attacks.transfer import judged
from qmodels.criteria import Outputs
from qmodels.digest import digest_of
from qmodels.grid import Codes
from qmodels.metrics.distance import BoundaryDistance, Lengths, change_lengths
from qmodels.metrics.masking import CLEAN, Row, attack_row, clean_row, scored_elsewhere, verdicts, with_flags
from qmodels.progress import progress_bar
from qmodels.shapes import read_stored
from qmodels.storage import finite_or_none


def evaluate(run: Run) -> dict[str, Any]:
    """Score everything; the exactness gate on all adversarial examples; results.json as a value.

    Raises:
        ExactnessError: the accelerator and the quantized model differ in one bit.
    """
    scores, adversarial = scored(run)
    record = pass_gate(run, distinct(adversarial), adversarial=True)
    gate = read_stored(run.folder / "simulation.json", SimulationPart)
    cost = read_stored(run.folder / "cost.json", CostPart)
    return results_of(run, scores, scores.rows) | {"exactness": combined(gate, record), "cost": cost}


def scored(run: Run) -> tuple[Scores, Codes]:
    """The stored examples judged by every victim; and all of them, one attack's after the other."""
    scores = Scores(run)
    adversarial = [scores.clean[:0]]
    todo = [job for job in attack_jobs(run) if not job.check]
    with progress_bar("scoring", len(todo)) as bar:
        for job in todo:
            result = _stored(run, job)
            adversarial.append(result.x)
            scores.add(job, result)
            bar.advance(note=job.title)
    return scores, np.concatenate(adversarial)


def results_of(run: Run, scores: Scores, found: Sequence[Row]) -> dict[str, Any]:
    """results.json without what only an accelerator has: rows with flags, worst cases, settings, measures."""
    rows, labels = with_flags(found), attack_labels(run)
    chosen = strongest(run, rows)
    shown = _stored(run, chosen) if chosen is not None else None
    return {
        "schema": 1,
        "run": run.config.name,
        "config_digest": digest_of(run.config.model_dump(mode="json")),
        **({} if run.data.inputs.plain else {"input": run.data.describe()}),
        "task": run.task.as_json() | {"told": run.task.told},
        "clean": clean_accuracy(run),
        "rows": [row.as_json() for row in rows],
        "worst_case": worst_cases(rows),
        "attacks": [
            attack_settings(plan, labels[plan.attack.digest], plan_radii(plan, run.data))
            for plan in run.config.evaluation.attacks
        ],
        "measures": scores.measures() | detection(run) | (layer_measures(run, chosen, shown) if run.has_model else {}),
    }


class Scores:
    """Rows of all victims, and the nearest wrong example of every image, from one attack after the other."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.clean, self.y = attacked_images(run)
        self.task = run.task
        self.contestants, self.accelerator = sources(run), accelerator_of(run)
        self.victims = [*self.contestants, self.accelerator]
        #: What each victim's outputs are compared with: the targets, or its own clean outputs.
        self.right = {_who(c): self.task.right(c.victim, self.clean, self.y) for c in self.victims}
        self.rows: list[Row] = [self._clean(c) for c in self.victims]
        self.curves: list[dict[str, Any]] = []
        few = min(len(self.y), run.config.evaluation.samples)  # the images that most attacks have seen
        self.nearest = [BoundaryDistance(few) for _ in self.victims]

    def _clean(self, victim: Contestant) -> Row:
        outputs = victim.victim.logits(self.clean)
        correct = ~self.task.criterion.wrong(outputs, self.right[_who(victim)])
        row = clean_row(victim.label, victim.victim.name, correct, bits=victim.bits)
        return self._judged(replace(row, seed=self.run.config.seed), outputs)

    def _judged(self, row: Row, outputs: Outputs) -> Row:
        """With what the row's number is called, and what is measured beside it."""
        errors = self.task.errors(outputs, self.y[: len(outputs)])
        return replace(row, task=self.task.kind, metric=self.task.metric, errors=errors)

    def measures(self) -> dict[str, Any]:
        """The distance to the boundary, victim by victim, and what queries bought black-box attacks."""
        clean = self.rows[: len(self.victims)]
        near = [boundary_record(*item) for item in zip(self.victims, clean, self.nearest, strict=True)]
        return {"boundary_distance": near, "accuracy_over_queries": self.curves}

    def add(self, job: AttackJob, result: AttackResult) -> None:
        """The row of the attacked model, and the same examples on the accelerator and on the other models."""
        source, lengths = job.source, change_lengths(result.x, self.clean[: len(result.x)])
        longer = convergence_job(self.run, job)
        doubled = _stored(self.run, longer) if longer is not None else None
        own = attack_row(
            source.label, source.victim.name, job.attack, result, label=job.label, bits=source.bits, doubled=doubled
        )
        if job.radius.unit != "lsb":
            radius = job.radius
            own = replace(own, epsilon=radius.epsilon, epsilon_unit=radius.unit, epsilon_lsb=radius.median)
        if source.apart:  # a model that is in no table: only what its examples do to others
            for victim in self.victims:
                self._score(own, result, lengths, victim, "black-box")
            return
        answers = source.victim.logits(result.x)
        self.rows.append(self._judged(own, answers))
        if (curve := query_curve(job, result)) is not None:
            self.curves.append(curve)
        self._nearest(source).add(own.attack, result.success, lengths)
        for victim, knowledge in self._others(job):
            self._score(own, result, lengths, victim, knowledge, answers)

    def _others(self, job: AttackJob) -> list[tuple[Contestant, Knowledge]]:
        """Who else is shown a job's examples, the same function first, and what the attacker then knows of him."""
        source, family = job.source, job.attack.family
        if self.run.exactness == "reported":  # the models are functions of their own: nothing is the same
            others = [self.accelerator] if source.victim.name != self.accelerator.victim.name else []
            others += [c for c in self.contestants if (c.label, c.victim.name) != (source.label, source.victim.name)]
            return [(c, "transfer") for c in others] if family != "noise" else []
        *floats, quantized = self.contestants
        if source.victim.name == self.accelerator.victim.name:  # which computes exactly the quantized model
            carried = floats if family == "worst-case" else []  # queries tell about the model that was asked
            return [(quantized, job.attack.knowledge), *((c, "transfer") for c in carried)]
        same_function = source.victim.name == "quantized"
        if family == "noise":  # noise knows nothing of its source: no transfer rows
            return [(self.accelerator, "none")] if same_function else []
        others = [c for c in self.contestants if (c.label, c.victim.name) != (source.label, source.victim.name)]
        return [(self.accelerator, "white-box" if same_function else "transfer"), *((c, "transfer") for c in others)]

    def _score(
        self, own: Row, result: AttackResult, lengths: dict[str, Lengths], victim: Contestant, knowledge: Knowledge,
        source_answers: Outputs | None = None,
    ) -> None:  # fmt: skip
        answers, criterion = victim.victim.logits(result.x), self.task.criterion
        here = judged(result, answers, self.right[_who(victim)][: len(answers)], criterion)
        changed = 0 if source_answers is None else int(criterion.differ(source_answers, answers).sum())
        row = scored_elsewhere(own, victim.victim.name, ~here.success, knowledge=knowledge, disagreements=changed)
        broken = here.diagnostics.non_finite_share
        asked_here = knowledge == "black-box" and source_answers is not None  # queries to the very same function
        made_on = "" if asked_here else f"{own.model}/{own.victim}"
        row = replace(row, model=victim.label, bits=victim.bits, source=made_on, non_finite_share=broken)
        self.rows.append(self._judged(row, answers))
        self._nearest(victim).add(own.attack, here.success, lengths)

    def _nearest(self, victim: Contestant) -> BoundaryDistance:
        return self.nearest[[_who(c) for c in self.victims].index(_who(victim))]


def _who(victim: Contestant) -> tuple[str, str]:
    return victim.label, victim.victim.name


def worst_cases(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Accuracy against all rows of one norm and ε at once: the images of a victim that survive every one of them.

    Computed here because results.json does not keep the answers image by image.
    """
    found = []
    for norm in dict.fromkeys(row.norm for row in rows if row.attack != CLEAN):
        for verdict in verdicts([row for row in rows if row.norm == norm]):
            found.append(
                {
                    "model": verdict.model,
                    "victim": verdict.victim,
                    "norm": norm,
                    "epsilon_lsb": finite_or_none(verdict.epsilon_lsb),
                    "epsilon": finite_or_none(verdict.epsilon),
                    "epsilon_unit": verdict.epsilon_unit,
                    "accuracy": verdict.worst,
                    "n": verdict.n,
                    "lowest_row": verdict.worst_attack,
                }
            )
    return found


def attack_settings(plan: EvaluationPlan, label: str, radii: Sequence[Radius]) -> dict[str, Any]:
    """An attack's parameters as run, under the name its rows have; step lengths worked out for every ε."""
    settings = plan.attack.model_dump(mode="json")
    if hasattr(plan.attack, "step_size"):
        settings["step_lsb"] = [finite_or_none(plan.attack.step_size(radius.median)) for radius in radii]
    asked = {} if plan.unit == "lsb" else {"epsilons": [radius.epsilon for radius in radii], "epsilon_unit": plan.unit}
    return {
        "attack": label,
        "epsilons_lsb": [finite_or_none(radius.median) for radius in radii],
        **asked,
        "settings": settings,
    }


def distinct(images: Codes) -> Codes:
    """Every input once. As rows of bytes: `np.unique(axis=0)` compares number by number, some thirty times slower."""
    if not len(images):
        return images
    rows = np.ascontiguousarray(images.reshape(len(images), -1))
    found = np.unique(rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel())
    return found.view(images.dtype).reshape(-1, *images.shape[1:])


def _stored(run: Run, job: AttackJob) -> AttackResult:
    result = load_result(job_path(run, job))
    if result is None:
        raise RuntimeError(f"examples of {job.title} are missing; run the attack step again")
    return result
