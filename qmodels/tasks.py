"""What a model is for, and with it what an attack on it is: criterion, head, and what outputs are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.criteria import MISCLASSIFICATION, AnomalyScore, AnyCriterion, Deviation, Outputs, Targeted, Truth
from qmodels.grid import Codes
from qmodels.heads import Head, ReconstructionError, TwoClasses
from qmodels.losses import LossName
from qmodels.victims import Victim, with_head

TaskKind = Literal["classes", "binary", "regression", "anomaly"]
#: Attacks name losses of classes; a criterion without classes has one loss for all of them.
BORDER = "; every attack maximizes the distance to that border, whatever loss it names"
Reference = Literal["clean", "truth"]


@dataclass(frozen=True)
class Task:
    """How a victim's outputs are judged."""

    kind: TaskKind = "classes"
    criterion: AnyCriterion = MISCLASSIFICATION
    reference: Reference = "truth"  # what outputs are compared with: the data's y, or the victim's own clean outputs

    @property
    def head(self) -> Head | None:
        """Makes of the model's outputs what the criterion judges."""
        if self.kind == "binary":
            return TwoClasses()
        return ReconstructionError() if self.kind == "anomaly" else None

    @property
    def metric(self) -> str:
        """What the share of inputs that withstand is called."""
        if isinstance(self.criterion, AnomalyScore):
            return "detection rate" if self.criterion.direction == "hide" else "share without false alarm"
        if isinstance(self.criterion, Targeted):
            return f"share not taken for class {self.criterion.target}"
        names = {"misclassification": "accuracy", "group": "share in the right group"}
        return names.get(self.criterion.kind, "share within tolerance")

    @property
    def told(self) -> str:
        """The task in one sentence."""
        criterion = self.criterion
        if isinstance(criterion, AnomalyScore):
            seen = (
                "anomalies that are noticed" if criterion.direction == "hide" else "normal inputs that raise no alarm"
            )
            return (
                f"anomaly: share of {seen}; alarm where the mean squared reconstruction error lies above "
                f"{criterion.threshold:.4g}{BORDER}"
            )
        if isinstance(criterion, Deviation):
            size = f"{100 * criterion.tolerance:g} %" if criterion.relative else f"{criterion.tolerance:g}"
            of = "the victim's own clean output" if self.reference == "clean" else "the true value"
            return f"regression: share of inputs all of whose outputs stay within {size} of {of}{BORDER}"
        if self.kind == "binary":
            return "two classes from one logit: class 1 where it lies above 0"
        return f"classes: {self.metric}"

    @property
    def gradient_loss(self) -> LossName:
        """The loss whose gradients tell how well a model can be attacked."""
        return "ce" if self.kind in ("classes", "binary") else "margin"

    def view(self, victim: Victim) -> Victim:
        """The victim as the criterion sees it."""
        return with_head(victim, self.head)

    def right(self, view: Victim, x: Codes, y: Truth) -> Truth:
        """What the view's outputs are compared with: y, or its outputs on the clean inputs x."""
        return y if self.reference == "truth" else view.logits(x)

    def concerned(self, y: Truth) -> NDArray[np.bool_]:
        """Which inputs can be attacked: anomalies can be hidden, normal ones can raise a false alarm."""
        if isinstance(self.criterion, AnomalyScore):
            return np.asarray(y == (self.criterion.direction == "hide"))
        return np.ones(len(y), bool)

    def accuracy(self, view: Victim, x: Codes, y: Truth) -> float:
        """Share of inputs that the view gets right as they are."""
        outputs = view.logits(x)
        return float(np.mean(~self.criterion.wrong(outputs, outputs if self.reference == "clean" else y)))

    def errors(self, outputs: Outputs, y: Truth) -> dict[str, float] | None:
        """What is measured beside the share: a regression's errors against the truth, an auto-encoder's scores."""
        if self.kind == "anomaly":
            return {"mean_score": float(outputs.mean()), "median_score": float(np.median(outputs))}
        return regression_errors(outputs, y) if self.kind == "regression" else None

    def as_json(self) -> dict[str, Any]:
        """For records and digests."""
        criterion = self.criterion.model_dump(mode="json")
        return {"kind": self.kind, "metric": self.metric, "criterion": criterion, "reference": self.reference}


CLASSES = Task()


def regression_errors(outputs: Outputs, y: Truth) -> dict[str, float]:
    """Mean absolute error, root of the mean squared error, and R² of all outputs together, against the truth."""
    truth = y.reshape(outputs.shape).astype(np.float64)
    gaps = outputs.astype(np.float64) - truth
    spread = float(np.sum((truth - truth.mean(axis=0)) ** 2))
    found = {"mae": float(np.abs(gaps).mean()), "rmse": float(np.sqrt(np.mean(gaps**2)))}
    return found | {"r2": 1.0 - float(np.sum(gaps**2)) / spread if spread else float("nan")}


def anomaly_threshold(normal_scores: NDArray[np.float64], false_positive_rate: float) -> float:
    """The smallest of the scores above which no more than that share of normal inputs lies."""
    return float(np.quantile(normal_scores, 1.0 - false_positive_rate, method="higher"))


def area_under_curve(scores: NDArray[np.float64], anomalies: NDArray[np.bool_]) -> float | None:
    """Probability that an anomaly scores higher than a normal input, ties half; None where there is one kind only."""
    positive, negative = scores[anomalies], np.sort(scores[~anomalies])
    if not len(positive) or not len(negative):
        return None
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / (2 * len(negative)))
