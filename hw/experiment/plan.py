"""The attacks on your own model when you name none: from its input grid and the size of its data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hw.experiment.config import EvaluationConfig, EvaluationPlan
from hw.experiment.run import Run
from qmodels.attacks import FGSM, PGD, Attack, HopSkipJumpLinf, Square, UniformNoise, WorstCase
from qmodels.grid import IMAGE_GRID, InputGrid

MOST_SAMPLES = 500
#: Of attacks that ask thousands of times for every sample.
MOST_COSTLY = 100
#: ε of other inputs than 8-bit images, in shares of the range of a feature: in the middle of the range if they differ.
SHARES = (0.01, 0.02, 0.04)
_PIXELS = (4.0, 8.0, 16.0)


def default_epsilons(grid: InputGrid) -> tuple[float, ...]:
    """Three radii in grid steps: 4, 8 and 16 for 8-bit images, else 1, 2 and 4 % of the range."""
    if grid.format == IMAGE_GRID.format:
        return _PIXELS
    span = float(np.median(np.asarray(grid.upper) - np.asarray(grid.lower)))
    return tuple(dict.fromkeys(max(1.0, round(share * span)) for share in SHARES))


def default_plan(asked: EvaluationConfig, run: Run) -> EvaluationConfig:
    """One gradient step, forty, and at the middle ε the worst case over strong attacks; nothing is trained.

    Without a model for gradients: noise, a score-based and a decision-based attack.

    Args:
        asked: what you set otherwise; a number of samples among it is kept.
        run: its data and whether it has a model.
    """
    test, epsilons = len(run.data.test.y), default_epsilons(run.data.grid)
    given = "samples" in asked.model_fields_set
    samples = min(asked.samples if given else MOST_SAMPLES, test)
    middle, few = (epsilons[len(epsilons) // 2],), min(samples, MOST_COSTLY)
    if run.has_model:
        plans = [_plan(FGSM(), epsilons), _plan(PGD(steps=40), epsilons), _plan(WorstCase(), middle, few)]
    else:
        asking: list[Attack] = [Square(queries=2000), HopSkipJumpLinf(queries=2000)]
        plans = [_plan(UniformNoise(), epsilons), *(_plan(attack, epsilons, few) for attack in asking)]
    return asked.model_copy(update={"attacks": tuple(plans), "samples": samples})


def plan_text(evaluation: EvaluationConfig) -> str:
    """A plan in one line."""
    attacks = (
        f"{plan.attack.label} at ε {', '.join(f'{epsilon:g}' for epsilon in plan.epsilons_lsb)} on "
        f"{plan.samples or evaluation.samples}"
        for plan in evaluation.attacks
    )
    return f"plan: {'; '.join(attacks)} test samples (ε in input steps); --plan FILE takes another one"


def _plan(attack: Attack, epsilons: Sequence[float], samples: int | None = None) -> EvaluationPlan:
    return EvaluationPlan.model_validate({"attack": attack, "epsilons_lsb": epsilons, "samples": samples})
