"""The worst case in steps: a design that falls behind needs no more of them."""

from __future__ import annotations

from dataclasses import dataclass

from qmodels.attacks import WorstCase
from qmodels.attacks.base import Attack


@dataclass(frozen=True)
class WorstCaseStep:
    """One attack on the images that still stand."""

    label: str
    attack: Attack
    warm: bool = False  # begins at the pool's examples


def worst_case_steps(worst: WorstCase) -> list[WorstCaseStep]:
    """The attacks in their order; before them the first one that follows gradients, begun at the pool's examples.

    A warm start finds most of what will fall for a small part of the cost. It replaces nothing: the attacks after it
    begin where they always do.
    """
    steps = [WorstCaseStep(attack.label, attack) for attack in worst.attacks]
    warm = next((attack for attack in worst.attacks if attack.family == "gradient"), None)
    return [WorstCaseStep(f"{warm.label}, warm", warm, warm=True), *steps] if warm is not None else steps
