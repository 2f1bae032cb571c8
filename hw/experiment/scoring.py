"""Score: the stored examples judged by every victim, the accelerator included, and what that says about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import (
    AttackJob,
    attack_jobs,
    attack_labels,
    attacked_images,
    attacks_of,
    convergence_job,
    job_path,
    load_result,
    strongest,
)
from hw.experiment.certificates import certificates
from hw.experiment.clean_accuracy import clean_accuracy
from hw.experiment.contestants import Contestant
from hw.experiment.defence import is_defended, teams, twin
from hw.experiment.defence_measures import defence_measures
from hw.experiment.evaluation_config import EvaluationPlan
from hw.experiment.gate import combined, pass_gate
from hw.experiment.measures import boundary_record, change_record, detection, layer_measures, query_curve
from hw.experiment.radius import Radius, plan_radii
from hw.experiment.run import Run
from hw.experiment.stored import CostPart, SimulationPart
from qmodels.attacks import Attack, AttackResult
from qmodels.attacks.base import Knowledge
from qmodels.attacks.transfer import judged
from qmodels.criteria import Outputs, Rejecting
from qmodels.digest import digest_of
from qmodels.grid import Codes
from qmodels.metrics.distance import BoundaryDistance, Lengths, change_lengths
from qmodels.metrics.masking import (
    CLEAN,
    Attacker,
    Row,
    attack_row,
    clean_row,
    scored_elsewhere,
    verdicts,
    with_flags,
)
from qmodels.progress import progress_bar
from qmodels.shapes import read_stored
from qmodels.storage import finite_or_none


def evaluate(run: Run) -> dict[str, Any]:
    """Score everything; the exactness gate on all adversarial examples; results.json as a value.

    Raises:
        ExactnessError: the accelerator and the quantized model differ in one bit.
    """
    scores, adversarial = scored(run)
    proved = certificates(run, scores.rows)
    shown = [adversarial, *(found.examples[found.broken] for found, _ in proved)]
    record = pass_gate(run, distinct(np.concatenate(shown)), adversarial=True)
    gate = read_stored(run.folder / "simulation.json", SimulationPart)
    cost = read_stored(run.folder / "cost.json", CostPart)
    brackets = {"certificates": [bracket.as_json() for _, bracket in proved]} if proved else {}
    return results_of(run, scores, scores.rows) | brackets | {"exactness": combined(gate, record), "cost": cost}


def scored(run: Run) -> tuple[Scores, Codes]:
    """The stored examples judged by every victim; and all of them, one attack's after the other."""
    scores = Scores(run)
    adversarial = [scores.clean[:0]]
    todo = [job for job in attack_jobs(run) if not job.check]
    with progress_bar("scoring", len(todo)) as bar:
        for job in todo:
            result = _stored(run, job)
            adversarial += [result.x, *scores.shown_to_device(result.x)]
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
            attack_settings(plan, attack, labels[attack.digest], plan_radii(plan, run.data))
            for plan in run.config.evaluation.attacks
            for attack in attacks_of(run, plan)
        ],
        "measures": scores.measures()
        | defence_measures(run, rows)
        | detection(run)
        | (layer_measures(run, chosen, shown) if run.has_model else {}),
    }


def finished_rows(run: Run) -> list[Row]:
    """Rows of the attacks that a run has finished, with their answers image by image; none before the attack step."""
    jobs = [job for job in attack_jobs(run) if not job.check and job_path(run, job).exists()]
    if not jobs:
        return []
    scores = Scores(run)
    for job in jobs:
        scores.add(job, _stored(run, job))
    return scores.rows


class Scores:
    """Rows of all victims, and the nearest wrong example of every image, from one attack after the other."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.clean, self.y = attacked_images(run)
        self.task = run.task
        self.teams = teams(run)
        self.victims = [one for team in self.teams for one in team.all]
        #: What each victim's outputs are compared with: the targets, or its own clean outputs.
        self.right = {c.who: self.task.right(c.victim, self.clean, self.y) for c in self.victims}
        self.rows: list[Row] = [self._clean(c) for c in self.victims]
        self.curves: list[dict[str, Any]] = []
        few = min(len(self.y), run.config.evaluation.samples)  # the images that most attacks have seen
        self.nearest = [BoundaryDistance(few) for _ in self.victims]
        self.changes: list[dict[str, Any]] = []  # how large the changes of successful examples are

    def shown_to_device(self, x: Codes) -> list[Codes]:
        """What defences make of inputs before the device sees them."""
        defences = [team.accelerator.defence for team in self.teams]
        return [view for defence in defences if defence is not None for view in defence.device_inputs(x)]

    def _clean(self, victim: Contestant) -> Row:
        outputs = victim.victim.logits(self.clean)
        correct = ~victim.criterion.wrong(outputs, self.right[victim.who])
        row = clean_row(victim.label, victim.victim.name, correct, bits=victim.bits)
        return self._judged(replace(row, seed=self.run.config.seed), outputs, victim)

    def _judged(self, row: Row, outputs: Outputs, victim: Contestant) -> Row:
        """With what the row's number is called, and what is measured beside it."""
        if isinstance(victim.criterion, Rejecting):
            refused = float(victim.criterion.refused(outputs).mean())
            return replace(row, task=self.task.kind, metric=self.task.metric, refused=refused)
        errors = self.task.errors(outputs, self.y[: len(outputs)])
        return replace(row, task=self.task.kind, metric=self.task.metric, errors=errors)

    def measures(self) -> dict[str, Any]:
        """The distance to the boundary, victim by victim, and what queries bought black-box attacks."""
        clean = self.rows[: len(self.victims)]
        near = [boundary_record(*item) for item in zip(self.victims, clean, self.nearest, strict=True)]
        return {"boundary_distance": near, "accuracy_over_queries": self.curves, "example_changes": self.changes}

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
                knows: Attacker = "unaware" if is_defended(self.run) and self._guarded(victim) else "aware"
                self._score(own, result, lengths, victim, "black-box", knows)
            return
        answers = source.victim.logits(result.x)
        self.rows.append(self._judged(replace(own, attacker=job.attacker), answers, source))
        if (curve := query_curve(job, result)) is not None:
            self.curves.append(curve)
        self._nearest(source).add(own.attack, result.success, lengths)
        self.changes.append(
            change_record(job, self._right_when_clean(source)[: len(result.x)], result.success, lengths)
        )
        for victim, knowledge in self._others(job):
            self._score(own, result, lengths, victim, knowledge, job.attacker, answers)
        for victim, knowledge in self._defended_others(job):
            self._score(own, result, lengths, victim, knowledge, "unaware")

    def _right_when_clean(self, victim: Contestant) -> NDArray[np.bool_]:
        clean = next(row for row in self.rows if (row.model, row.victim) == victim.who)  # clean rows come first
        assert clean.correct is not None
        return clean.correct

    def _guarded(self, victim: Contestant) -> bool:
        """Whether a victim is one that the run's defence protects: one of training all of them."""
        return victim.defence is not None or self.run.config.defended_training

    def _others(self, job: AttackJob) -> list[tuple[Contestant, Knowledge]]:
        """Who else is shown a job's examples, the same function first, and what the attacker then knows of him."""
        source, family = job.source, job.attack.family
        team = next(team for team in self.teams if source.who in [one.who for one in team.all])
        elsewhere = [one for one in team.sources if one.who != source.who]
        if self.run.exactness == "reported":  # the models are functions of their own: nothing is the same
            others = [team.accelerator] if source.victim.name != team.accelerator.victim.name else []
            return [(c, "transfer") for c in [*others, *elsewhere]] if family != "noise" else []
        *floats, quantized = team.sources
        if source.victim.name == team.accelerator.victim.name:  # which computes exactly the quantized model
            carried = floats if family == "worst-case" else []  # queries tell about the model that was asked
            return [(quantized, job.attack.knowledge), *((c, "transfer") for c in carried)]
        same_function = source.victim.name == "quantized"
        if family == "noise":  # noise knows nothing of its source: no transfer rows
            return [(team.accelerator, "none")] if same_function else []
        return [(team.accelerator, "white-box" if same_function else "transfer"), *((c, "transfer") for c in elsewhere)]

    def _defended_others(self, job: AttackJob) -> list[tuple[Contestant, Knowledge]]:
        """Who is shown examples of an attacker who did not know the defence: the defended forms of what he attacked."""
        if len(self.teams) == 1 or job.source.defence is not None:
            return []
        guarded = self.teams[1]
        knowledge: Knowledge = "none" if job.attack.family == "noise" else "transfer"
        found = [twin(self.run, job.source)]
        if self.run.exactness == "required" and job.source.victim.name != "float":  # one function, two forms
            found = [guarded.sources[-1], guarded.accelerator]
        return [(one, knowledge) for one in found if one is not None]

    def _score(
        self, own: Row, result: AttackResult, lengths: dict[str, Lengths], victim: Contestant, knowledge: Knowledge,
        attacker: Attacker, source_answers: Outputs | None = None,
    ) -> None:  # fmt: skip
        answers, criterion = victim.victim.logits(result.x), victim.criterion
        here = judged(result, answers, self.right[victim.who][: len(answers)], criterion)
        changed = 0 if source_answers is None else int(criterion.differ(source_answers, answers).sum())
        row = scored_elsewhere(own, victim.victim.name, ~here.success, knowledge=knowledge, disagreements=changed)
        broken = here.diagnostics.non_finite_share
        asked_here = knowledge == "black-box" and source_answers is not None  # queries to the very same function
        made_on = "" if asked_here else f"{own.model}/{own.victim}"
        row = replace(
            row, model=victim.label, bits=victim.bits, source=made_on, non_finite_share=broken, attacker=attacker
        )
        self.rows.append(self._judged(row, answers, victim))
        self._nearest(victim).add(own.attack, here.success, lengths)

    def _nearest(self, victim: Contestant) -> BoundaryDistance:
        return self.nearest[[c.who for c in self.victims].index(victim.who)]


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


def attack_settings(plan: EvaluationPlan, attack: Attack, label: str, radii: Sequence[Radius]) -> dict[str, Any]:
    """An attack's parameters as run, under the name its rows have; step lengths worked out for every ε."""
    settings = attack.model_dump(mode="json")
    if hasattr(attack, "step_size"):
        settings["step_lsb"] = [finite_or_none(attack.step_size(radius.median)) for radius in radii]
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
