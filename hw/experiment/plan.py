"""The attacks on your own model when you name none: from its input grid and the size of its data."""

from __future__ import annotations

import numpy as np

from hw.experiment.evaluation_config import EpsilonConfig, EvaluationConfig, EvaluationPlan
from hw.experiment.run import Run
from qmodels.attacks import FGSM, PGD, Attack, HopSkipJumpLinf, Square, UniformNoise, WorstCase
from qmodels.grid import IMAGE_GRID, InputGrid

MOST_SAMPLES = 500
#: Of attacks that ask thousands of times for every sample.
MOST_COSTLY = 100
#: ε of other inputs than 8-bit images, in shares of the range of a feature: in the middle of the range if they differ.
SHARES = (0.01, 0.02, 0.04)
_PIXELS = (4.0, 8.0, 16.0)
#: ε of several inputs with different formats, whose steps cannot be compared.
_DEVIATIONS = EpsilonConfig(unit="sigma", values=(0.1, 0.25, 0.5))


def default_epsilons(grid: InputGrid) -> tuple[float, ...]:
    """Three radii in grid steps: 4, 8 and 16 for 8-bit images, else 1, 2 and 4 % of the range."""
    if grid.format == IMAGE_GRID.format:
        return _PIXELS
    span = float(np.median(np.asarray(grid.upper) - np.asarray(grid.lower)))
    return tuple(dict.fromkeys(max(1.0, round(share * span)) for share in SHARES))


def default_radii(grid: InputGrid) -> EpsilonConfig:
    """`default_epsilons`, or where a step is worth something else in every input, standard deviations."""
    return _DEVIATIONS if np.ndim(grid.step) else EpsilonConfig(unit="lsb", values=default_epsilons(grid))


def default_plan(asked: EvaluationConfig, run: Run) -> EvaluationConfig:
    """One gradient step, forty, and at the middle ε the worst case over strong attacks; nothing is trained.

    Without a model for gradients: noise, a score-based and a decision-based attack.

    Args:
        asked: what you set otherwise; a number of samples among it is kept.
        run: its data and whether it has gradients.
    """
    test, radii = len(run.data.test.y), default_radii(run.data.grid)
    given = "samples" in asked.model_fields_set
    samples = min(asked.samples if given else MOST_SAMPLES, test)
    middle = radii.model_copy(update={"values": (radii.values[len(radii.values) // 2],)})
    few = min(samples, MOST_COSTLY)
    if run.has_gradients:
        plans = [_plan(FGSM(), radii), _plan(PGD(steps=40), radii), _plan(WorstCase(), middle, few)]
    else:
        asking: list[Attack] = [Square(queries=2000), HopSkipJumpLinf(queries=2000)]
        plans = [_plan(UniformNoise(), radii), *(_plan(attack, radii, few) for attack in asking)]
    return asked.model_copy(update={"attacks": tuple(plans), "samples": samples})


def plan_text(evaluation: EvaluationConfig) -> str:
    """A plan in one line."""
    attacks = (
        f"{plan.attack.label} at ε {', '.join(f'{epsilon:g}' for epsilon in plan.radii)} on "
        f"{plan.samples or evaluation.samples}"
        for plan in evaluation.attacks
    )
    units = {plan.unit for plan in evaluation.attacks}
    counted = "input steps" if units == {"lsb"} else "standard deviations"
    return f"plan: {'; '.join(attacks)} test samples (ε in {counted}); --plan FILE takes another one"


def _plan(attack: Attack, radii: EpsilonConfig, samples: int | None = None) -> EvaluationPlan:
    asked = {"epsilons_lsb": radii.values} if radii.unit == "lsb" else {"epsilon": radii}
    return EvaluationPlan.model_validate({"attack": attack, "samples": samples, **asked})
