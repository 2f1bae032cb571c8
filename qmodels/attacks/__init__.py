"""Attacks as frozen config objects.

    attack = parse_attack({"kind": "pgd-linf", "steps": 40, "loss": "dlr"})
    result = attack(victim, x, y, epsilon_lsb=76, seed=0)
    result.accuracy, result.x

`AnyAttack` is the pydantic type of one attack in a config, told apart by `kind`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from qmodels.attacks.apgd import APGD, APGDDLR, APGDL2, APGDTargeted
from qmodels.attacks.base import Attack, AttackResult, Diagnostics
from qmodels.attacks.decision import BoundaryAttack, GeoDA, HopSkipJump, HopSkipJumpLinf
from qmodels.attacks.fmn import FMN, FMNL0, FMNL1, FMNLinf
from qmodels.attacks.gradient import BIM, FGSM, MIM, PGD, PGDL2, GradientAttack
from qmodels.attacks.jacobian import JSMA, DeepFool
from qmodels.attacks.noise import GaussianNoise, SphereNoise, UniformNoise
from qmodels.attacks.penalty import CWL2, EAD, CWLinf
from qmodels.attacks.score import NES, ZOO, SimBA
from qmodels.attacks.square import Square, SquareL2
from qmodels.attacks.worst_case import WorstCase
from qmodels.errors import UserError

Gradient = FGSM | BIM | PGD | PGDL2 | MIM | APGD | APGDDLR | APGDL2 | APGDTargeted
Noise = GaussianNoise | SphereNoise | UniformNoise
Score = Square | SquareL2 | SimBA | NES | ZOO
MinimalNorm = CWL2 | CWLinf | EAD | DeepFool | JSMA | FMN | FMNLinf | FMNL1 | FMNL0
Decision = HopSkipJump | HopSkipJumpLinf | BoundaryAttack | GeoDA
AnyAttack = Annotated[Gradient | MinimalNorm | Noise | Score | Decision | WorstCase, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Attack] = TypeAdapter(AnyAttack)


def parse_attack(settings: dict[str, Any]) -> Attack:
    """The attack that `settings` describe, for example `{"kind": "pgd-linf", "steps": 40}`.

    Raises:
        UserError: an unknown kind or setting; the message names it.
    """
    try:
        return _ADAPTER.validate_python(settings)
    except ValidationError as error:
        problems = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors())
        raise UserError(f"attack {settings!r} is not understood: {problems}") from error


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
    "SimBA",
    "SphereNoise",
    "Square",
    "SquareL2",
    "UniformNoise",
    "WorstCase",
    "parse_attack",
]
