"""When an attack has succeeded, judged from a victim's outputs. Everything else in an attack is the same for all."""

from typing import Annotated

from pydantic import Field

from qmodels.criteria.anomaly import AnomalyScore
from qmodels.criteria.base import Criterion, Outputs, Truth
from qmodels.criteria.classes import (
    MISCLASSIFICATION,
    ClassCriterion,
    GroupMisclassification,
    Misclassification,
    Targeted,
)
from qmodels.criteria.deviation import Deviation
from qmodels.criteria.rejecting import Rejecting

#: The pydantic type of one criterion, told apart by `kind`.
AnyCriterion = Annotated[
    Misclassification | Targeted | GroupMisclassification | Deviation | AnomalyScore, Field(discriminator="kind")
]

__all__ = [
    "MISCLASSIFICATION",
    "AnomalyScore",
    "AnyCriterion",
    "ClassCriterion",
    "Criterion",
    "Deviation",
    "GroupMisclassification",
    "Misclassification",
    "Outputs",
    "Rejecting",
    "Targeted",
    "Truth",
]
