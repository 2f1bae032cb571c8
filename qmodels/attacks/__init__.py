"""Attacks as frozen config objects.

    attack = parse_attack({"kind": "pgd-linf", "steps": 40, "loss": "dlr"})
    result = attack(victim, x, y, epsilon_lsb=76, seed=0)
    result.accuracy, result.x

`AnyAttack` is the pydantic type of one attack in a config, told apart by `kind`. A new attack is a class with a
`kind` of its own and a `run`; nothing else has to know of it.
"""

from __future__ import annotations

from qmodels.attacks.apgd import APGD, APGDDLR, APGDL2, APGDTargeted
from qmodels.attacks.ball import Ball
from qmodels.attacks.base import (
    AnyAttack,
    Attack,
    AttackResult,
    Diagnostics,
    Problem,
    attack_class,
    attack_kinds,
    distinct_labels,
    parse_attack,
)
from qmodels.attacks.decision import BoundaryAttack, GeoDA, HopSkipJump, HopSkipJumpLinf
from qmodels.attacks.fmn import FMN, FMNL0, FMNL1, FMNLinf
from qmodels.attacks.gradient import BIM, FGSM, MIM, PGD, PGDL2, GradientAttack
from qmodels.attacks.jacobian import JSMA, DeepFool
from qmodels.attacks.local_search import LocalSearch
from qmodels.attacks.noise import GaussianNoise, SphereNoise, UniformNoise
from qmodels.attacks.penalty import CWL2, EAD, CWLinf
from qmodels.attacks.score import NES, ZOO, SimBA
from qmodels.attacks.square import Square, SquareL2
from qmodels.attacks.worst_case import WorstCase

__all__ = [
    "APGD",
    "APGDDLR",
    "APGDL2",
    "BIM",
    "CWL2",
    "EAD",
    "FGSM",
    "FMN",
    "FMNL0",
    "FMNL1",
    "JSMA",
    "MIM",
    "NES",
    "PGD",
    "PGDL2",
    "ZOO",
    "APGDTargeted",
    "AnyAttack",
    "Attack",
    "AttackResult",
    "Ball",
    "BoundaryAttack",
    "CWLinf",
    "DeepFool",
    "Diagnostics",
    "FMNLinf",
    "GaussianNoise",
    "GeoDA",
    "GradientAttack",
    "HopSkipJump",
    "HopSkipJumpLinf",
    "LocalSearch",
    "Problem",
    "SimBA",
    "SphereNoise",
    "Square",
    "SquareL2",
    "UniformNoise",
    "WorstCase",
    "attack_class",
    "attack_kinds",
    "distinct_labels",
    "parse_attack",
]
