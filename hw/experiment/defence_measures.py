"""What a defence is worth: what an attacker who does not know it leaves, and one who does, beside no defence at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import attacked_images
from hw.experiment.contestants import Contestant
from hw.experiment.defence import is_defended, teams
from hw.experiment.run import Run
from qmodels.criteria import Rejecting
from qmodels.metrics.masking import CLEAN, SIGNIFICANCE, Row, is_bounded
from qmodels.statistics import paired_p_value, wilson

Answers = NDArray[np.bool_]
Record = dict[str, Any]


def defence_measures(run: Run, rows: Sequence[Row]) -> dict[str, Any]:
    """One record per defended victim and ball; nothing where there is no defence.

    Args:
        run: its teams and config.
        rows: of the evaluation, with answers per image.
    """
    if not is_defended(run):
        return {}
    plain, *guarded = teams(run)
    found: list[Record] = []
    for place, one in enumerate((guarded[0] if guarded else plain).all):
        undefended = plain.all[place].who if guarded else None
        mine = [row for row in rows if (row.model, row.victim) == one.who]
        if not mine:  # a model that only lends its gradients
            continue
        clean, accepted = next(row for row in mine if row.attack == CLEAN), _accepted(run, one)
        for ball in dict.fromkeys(row.ball for row in mine if row.attack != CLEAN and is_bounded(row)):
            inside = [row for row in mine if row.attack != CLEAN and row.ball == ball]
            without = [r for r in rows if (r.model, r.victim) == undefended and r.attack != CLEAN and r.ball == ball]
            where = "weights" if one.defence is None else one.defence.place
            found.append(_record(clean, inside, without, accepted) | {"bits": one.bits, "place": where})
    return {"defence": found} if found else {}


def _accepted(run: Run, one: Contestant) -> Answers:
    """Which images the victim accepts as they are: all, where nothing is refused."""
    images = attacked_images(run).x
    if not isinstance(one.criterion, Rejecting):
        return np.ones(len(images), bool)
    return ~one.criterion.refused(one.victim.logits(images))


def _record(clean: Row, rows: Sequence[Row], undefended: Sequence[Row], accepted: Answers) -> Record:
    unaware = [row for row in rows if row.attacker == "unaware"]
    parts = {"undefended": _standing(undefended), "unaware": _standing(unaware), "aware": _standing(rows)}
    refused = [row.refused for row in rows if row.refused is not None]
    record: Record = {
        "model": clean.model,
        "victim": clean.victim,
        "norm": rows[0].norm,
        "epsilon": rows[0].radius if np.isfinite(rows[0].radius) else None,
        "epsilon_unit": rows[0].epsilon_unit,
        "clean": clean.accuracy,
        "clean_refused": clean.refused,
        "attacked_refused_most": max(refused, default=None),
    }
    for name, answers in parts.items():
        record |= {name: None, f"{name}_ci95": None, f"{name}_n": None}
        if answers is not None:
            interval = list(wilson(int(answers.sum()), len(answers)))
            record |= {name: float(answers.mean()), f"{name}_ci95": interval, f"{name}_n": len(answers)}
    record["verdict"] = _verdict(parts["undefended"], parts["unaware"], parts["aware"], accepted)
    return record


def _standing(rows: Sequence[Row]) -> Answers | None:
    """Which images survive every row, of those that all rows have."""
    answers = [row.correct for row in rows if row.correct is not None]
    if not answers:
        return None
    both = min(map(len, answers))
    return np.asarray(np.logical_and.reduce([answer[:both] for answer in answers]))


def _verdict(undefended: Answers | None, unaware: Answers | None, aware: Answers | None, accepted: Answers) -> str:
    """Whether the defence helps against either attacker, by the paired sign test at 0.001.

    On images that are accepted when clean: what a detector always refuses is no gain.
    """
    if undefended is None or aware is None:
        return ""
    if _gains(undefended, aware, accepted):
        return "stays"
    return "disappears" if unaware is not None and _gains(undefended, unaware, accepted) else "no gain"


def _gains(before: Answers, after: Answers, accepted: Answers) -> bool:
    both = min(len(before), len(after))
    lower, higher = before[:both][accepted[:both]], after[:both][accepted[:both]]
    return bool(higher.sum() > lower.sum() and paired_p_value(lower, higher) < SIGNIFICANCE)
