"""When an attack has succeeded, judged from a victim's outputs. Everything else in an attack is the same for all.

A criterion gives a decision (`fooled`), a margin that tells how far the victim is from it, and losses to climb.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qmodels.losses import LossName, Tensor, loss_function, margin
from qmodels.runtime import runtime
from qmodels.victims import decisions

Outputs = NDArray[Any]  # (N, outputs)
Truth = NDArray[Any]  # (N, ...) what is right: labels (N,), or reference outputs (N, outputs)
_NUDGE = 1e-6  # lifts the margin of a tie that goes to a wrong class above zero


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

    def loss(self, name: LossName) -> Any:
        """(outputs, y, targets) -> (N,) tensor that grows with the harm done."""
        ...

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """(N,) tensor: above zero exactly where the victim is fooled; minus infinity where it is not finite."""
        ...


class Misclassification:
    """The victim's class, its largest logit, is not the true label. Of equal logits the first counts."""

    def __repr__(self) -> str:
        return "Misclassification()"

    def fooled(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where another class wins."""
        classes = decisions(outputs)
        return np.asarray((classes != y) & (classes >= 0))

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where another class wins or there is none."""
        return np.asarray(decisions(outputs) != y)

    def margins(self, outputs: Outputs, y: Truth) -> NDArray[np.float64]:
        """Right logit minus best wrong one; a tie that the victim decides for a wrong class counts as wrong."""
        logits = outputs.astype(np.float64)
        finite = np.isfinite(logits).all(axis=1)
        logits[~finite] = 0.0
        rows = np.arange(len(y))
        wrong = logits.argmax(axis=1) != y
        right = logits[rows, y]
        logits[rows, y] = -np.inf
        gap = right - logits.max(axis=1)
        gap = np.where(wrong & (gap >= 0), -1e-9, gap)
        return np.where(finite, gap, np.inf)

    def loss(self, name: LossName) -> Any:
        """The loss of that name."""
        return loss_function(name)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Best wrong logit minus the right one, a hair above zero where a tie already goes to a wrong class."""
        tf = runtime().tf
        wrong = tf.cast(tf.argmax(outputs, axis=1) != tf.cast(y, tf.int64), outputs.dtype)
        finite = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
        return tf.where(finite, margin(outputs, y) + _NUDGE * wrong, tf.constant(-np.inf, outputs.dtype))


MISCLASSIFICATION = Misclassification()
