"""ε as a run asks for it, and as an attack gets it: in whole grid steps of every feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.experiment.evaluation_config import AttackPlan
from qmodels.attacks.ball import Epsilon
from qmodels.data import Dataset, Unit
from qmodels.errors import UserError
from qmodels.storage import finite_or_none

_SIGNS = {"lsb": " LSB", "value": "", "sigma": "σ"}


@dataclass(frozen=True, eq=False)
class Radius:
    """A radius in the unit it was asked for, and in grid steps."""

    epsilon: float
    unit: Unit
    steps: Epsilon

    def __str__(self) -> str:
        return f"{self.epsilon:g}{_SIGNS[self.unit]}" + ("" if self.unit == "lsb" else f" ({self.median:g} LSB)")

    @property
    def median(self) -> float:
        """In grid steps: the median over the features that can be changed."""
        moving = np.asarray(self.steps)
        return float(np.median(moving[moving > 0])) if moving.ndim else float(self.steps)

    def as_json(self) -> dict[str, Any]:
        """What a record says beside `epsilon_lsb`; nothing where ε was asked for in grid steps."""
        return {} if self.unit == "lsb" else {"epsilon": finite_or_none(self.epsilon), "epsilon_unit": self.unit}

    @property
    def key(self) -> Any:
        """Tells apart radii of one attack, for digests."""
        return self.epsilon if self.unit == "lsb" else [self.epsilon, self.unit, np.asarray(self.steps).tolist()]


def plan_radii(plan: AttackPlan, data: Dataset) -> list[Radius]:
    """The radii of a plan, in its order.

    Raises:
        UserError: a radius is less than one step of every feature, or differs between features for another norm than
            L-infinity.
    """
    return [_radius(plan, epsilon, data) for epsilon in plan.radii]


def _radius(plan: AttackPlan, epsilon: float, data: Dataset) -> Radius:
    steps = data.inputs.steps(epsilon, plan.unit, data.input_shape)
    where = f"evaluation.attacks: {plan.attack.kind}: epsilon {epsilon:g} {plan.unit}"
    if np.ndim(steps) and plan.attack.norm != "linf":
        raise UserError(
            f"{where}: is another number of grid steps for every feature, which only L-infinity attacks can keep to; "
            "give epsilons_lsb, or data.input.scale: standard, where one sigma is one number"
        )
    most = data.grid.format.raw_max - data.grid.format.raw_min
    if plan.unit == "lsb" and plan.attack.norm == "linf" and most < epsilon < np.inf:
        raise UserError(f"{where}: inputs of {data.name!r} move by {most} grid steps at most; allowed: 1 .. {most}")
    if plan.unit != "lsb" and plan.attack.norm == "linf":
        steps = np.rint(steps) if np.ndim(steps) else float(np.rint(steps))
    if np.max(steps) <= 0:
        raise UserError(
            f"{where}: is less than half a grid step ({np.min(data.grid.step):g}) of every feature; raise it"
        )
    return Radius(epsilon, plan.unit, steps)
