"""What a criterion is: a decision (`fooled`), a margin that tells how far the victim is from it, losses to climb.

A criterion is a value: frozen, hashable, serializable. It is a function of a victim's outputs only; where the input
counts too, as for a reconstruction, a head (`qmodels/heads.py`) makes outputs of both.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from qmodels.losses import LossName, Tensor

Outputs = NDArray[Any]  # (N, outputs)
Truth = NDArray[Any]  # (N, ...) what is right: labels (N,), or reference outputs (N, outputs)


class Criterion(Protocol):
    """What counts as success."""

    def fooled(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where (N,) the attack has succeeded; never where an output is not finite."""
        ...

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where (N,) the victim is not right as it is: fooled, or an output is not finite."""
        ...

    def margins(self, outputs: Outputs, y: Truth) -> NDArray[np.float64]:
        """How far (N,) the victim is from being fooled: negative where it is, infinite where an output is broken."""
        ...

    def differ(self, outputs: Outputs, others: Outputs) -> NDArray[np.bool_]:
        """Where (N,) two victims give different answers, by what this criterion calls different."""
        ...

    def targets(self, outputs: Outputs, y: Truth, count: int) -> Truth:
        """What targeted losses may aim at, likeliest first: (N, trials), at most `count` of them."""
        ...

    def loss(self, name: LossName) -> Any:
        """(outputs, y, targets) -> (N,) tensor that grows with the harm done."""
        ...

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """(N,) tensor: above zero exactly where the victim is fooled; minus infinity where it is not finite."""
        ...


class CriterionConfig(BaseModel):
    """Base of all criteria: settings that cannot be changed, and the `kind` that tells criteria apart in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def finite_rows(outputs: Outputs) -> NDArray[np.bool_]:
    """Where (N,) every output is finite."""
    return np.asarray(np.isfinite(outputs).all(axis=1))
