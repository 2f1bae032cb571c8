"""Score: the stored examples judged by every victim, the accelerator included, and what that says about each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import (
    Cell,
    Contestant,
    accelerator_of,
    attacked_images,
    cell_path,
    cells,
    convergence_cell,
    load_result,
    sources,
    strongest,
)
from hw.experiment.clean_accuracy import clean_accuracy
from hw.experiment.config import EvaluationPlan
from hw.experiment.gate import combined, pass_gate
from hw.experiment.measures import boundary_record, layer_measures, query_curve
from hw.experiment.run import Run
from qmodels.attacks import AttackResult
from qmodels.attacks.base import LEVELS, Knowledge, device_bytes
from qmodels.attacks.transfer import judged
from qmodels.digest import digest_of
from qmodels.metrics.distance import BoundaryDistance, Lengths, change_lengths
from qmodels.metrics.masking import CLEAN, Row, attack_row, clean_row, scored_elsewhere, verdicts, with_flags
from qmodels.progress import progress_bar
from qmodels.storage import finite_or_none
from qmodels.victims import Labels, predictions


def evaluate(run: Run) -> dict[str, Any]:
    """Score everything; the exactness gate on all adversarial examples; results.json as a value.

    Raises:
        ExactnessError: the accelerator and the quantized model differ in one bit.
    """
    scores = Scores(run)
    adversarial = [device_bytes(scores.clean[:0])]
    todo = [cell for cell in cells(run) if not _is_doubled(run, cell)]
    with progress_bar("scoring", len(todo)) as bar:
        for cell in todo:
            result = _stored(run, cell)
            adversarial.append(device_bytes(result.x))
            scores.add(cell, result)
            bar.advance(note=cell.title)
    attacked = (_distinct(np.concatenate(adversarial)) / np.float32(LEVELS)).astype(np.float32)
    record = pass_gate(run, attacked, adversarial=True)
    gate = json.loads((run.folder / "simulation.json").read_text())
    rows = with_flags(scores.rows)
    chosen = strongest(run, rows)
    shown = _stored(run, chosen) if chosen is not None else None
    return {
        "schema": 1,
        "run": run.config.name,
        "config_digest": digest_of(run.config.model_dump(mode="json")),
        "clean": clean_accuracy(run),
        "rows": [row.as_json() for row in rows],
        "worst_case": worst_cases(rows),
        "attacks": [attack_settings(plan) for plan in run.config.evaluation.attacks],
        "measures": scores.measures() | layer_measures(run, chosen, shown),
        "exactness": combined(gate, record),
        "cost": json.loads((run.folder / "cost.json").read_text()),
    }


class Scores:
    """Rows of all victims, and the nearest wrong example of every image, from one attack after the other."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.clean, self.y = attacked_images(run)
        self.contestants, self.accelerator = sources(run), accelerator_of(run)
        self.victims = [*self.contestants, self.accelerator]
        self.rows: list[Row] = [
            replace(
                clean_row(c.label, c.victim.name, predictions(c.victim, self.clean) == self.y, bits=c.bits),
                seed=run.config.seed,
            )
            for c in self.victims
        ]
        self.curves: list[dict[str, Any]] = []
        few = min(len(self.y), run.config.evaluation.samples)  # the images that most attacks have seen
        self.nearest = [BoundaryDistance(few) for _ in self.victims]

    def measures(self) -> dict[str, Any]:
        """The distance to the boundary, victim by victim, and what queries bought black-box attacks."""
        clean = self.rows[: len(self.victims)]
        near = [boundary_record(*item) for item in zip(self.victims, clean, self.nearest, strict=True)]
        return {"boundary_distance": near, "accuracy_over_queries": self.curves}

    def add(self, cell: Cell, result: AttackResult) -> None:
        """The row of the attacked model, and the same examples on the accelerator and on the other models."""
        source, lengths = cell.source, change_lengths(result.x, self.clean[: len(result.x)])
        longer = convergence_cell(self.run, cell)
        doubled = _stored(self.run, longer) if longer is not None else None
        own = attack_row(source.label, source.victim.name, cell.attack, result, bits=source.bits, doubled=doubled)
        if source.apart:  # a model that is in no table: only what its examples do to others
            for victim in self.victims:
                self._score(own, result, lengths, victim, "black-box")
            return
        self.rows.append(own)
        if (curve := query_curve(cell, result)) is not None:
            self.curves.append(curve)
        self._nearest(source).add(result.attack, result.success, lengths)
        answers = predictions(source.victim, result.x)
        for victim, knowledge in self._others(cell):
            self._score(own, result, lengths, victim, knowledge, answers)

    def _others(self, cell: Cell) -> list[tuple[Contestant, Knowledge]]:
        """Who else is shown a cell's examples, the same function first, and what the attacker then knows of him."""
        source, family = cell.source, cell.attack.family
        *floats, quantized = self.contestants
        if source.victim.name == self.accelerator.victim.name:  # which computes exactly the quantized model
            carried = floats if family == "worst-case" else []  # queries tell about the model that was asked
            return [(quantized, cell.attack.knowledge), *((c, "transfer") for c in carried)]
        same_function = source.victim.name == "quantized"
        if family == "noise":  # noise knows nothing of its source: no transfer rows
            return [(self.accelerator, "none")] if same_function else []
        others = [c for c in self.contestants if (c.label, c.victim.name) != (source.label, source.victim.name)]
        return [(self.accelerator, "white-box" if same_function else "transfer"), *((c, "transfer") for c in others)]

    def _score(
        self, own: Row, result: AttackResult, lengths: dict[str, Lengths], victim: Contestant, knowledge: Knowledge,
        source_answers: Labels | None = None,
    ) -> None:  # fmt: skip
        answers = predictions(victim.victim, result.x)
        here = judged(result, answers, self.y[: len(answers)])
        changed = 0 if source_answers is None else int(np.sum(answers != source_answers))
        row = scored_elsewhere(own, victim.victim.name, ~here.success, knowledge=knowledge, disagreements=changed)
        broken = here.diagnostics.non_finite_share
        asked_here = knowledge == "black-box" and source_answers is not None  # queries to the very same function
        made_on = "" if asked_here else f"{own.model}/{own.victim}"
        self.rows.append(replace(row, model=victim.label, bits=victim.bits, source=made_on, non_finite_share=broken))
        self._nearest(victim).add(result.attack, here.success, lengths)

    def _nearest(self, victim: Contestant) -> BoundaryDistance:
        names = [(c.label, c.victim.name) for c in self.victims]
        return self.nearest[names.index((victim.label, victim.victim.name))]


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
                    "accuracy": verdict.worst,
                    "n": verdict.n,
                    "lowest_row": verdict.worst_attack,
                }
            )
    return found


def attack_settings(plan: EvaluationPlan) -> dict[str, Any]:
    """An attack's parameters as run, under the name its rows have; step lengths worked out for every ε."""
    settings = plan.attack.model_dump(mode="json")
    if hasattr(plan.attack, "step_size"):
        settings["step_lsb"] = [finite_or_none(plan.attack.step_size(epsilon)) for epsilon in plan.epsilons_lsb]
    return {
        "attack": plan.attack.label,
        "epsilons_lsb": [finite_or_none(epsilon) for epsilon in plan.epsilons_lsb],
        "settings": settings,
    }


def _distinct(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every image once. As rows of bytes: `np.unique(axis=0)` compares pixel by pixel, some thirty times slower."""
    if not len(images):
        return images
    rows = np.ascontiguousarray(images.reshape(len(images), -1))
    found = np.unique(rows.view(np.dtype((np.void, rows.shape[1]))).ravel())
    return found.view(np.uint8).reshape(-1, *images.shape[1:])


def _is_doubled(run: Run, cell: Cell) -> bool:
    """Whether the cell only serves the convergence check of another one."""
    return all(cell.attack != plan.attack for plan in run.config.evaluation.attacks)


def _stored(run: Run, cell: Cell) -> AttackResult:
    result = load_result(cell_path(run, cell))
    if result is None:
        raise RuntimeError(f"examples of {cell.title} are missing; run the attack step again")
    return result
