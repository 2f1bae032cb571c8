"""Any attack with settings that take a moment: enough to move, few enough to be quick."""

from __future__ import annotations

from typing import Any

from qmodels.attacks import Attack, attack_class


def quick_attack(kind: str, steps: int = 4, queries: int = 12, **settings: Any) -> Attack:
    """The attack of that kind, its own settings cut to a few steps or queries."""
    found = attack_class(kind)
    assert found is not None
    short = {"steps": steps, "queries": queries, "binary_steps": 2, "rounds": 2}
    own = {} if kind == "fgsm" else {name: value for name, value in short.items() if name in found.model_fields}
    return found.model_validate(own | settings)
