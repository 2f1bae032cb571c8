"""Auto-encoders: an input is an anomaly where its score, the only output, lies above a threshold."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.criteria.base import CriterionConfig, Outputs, Truth, finite_rows
from qmodels.losses import LossName, Tensor
from qmodels.runtime import runtime
from qmodels.victims import Labels

_HAIR = 1e-30  # a score on the threshold is hidden, not on the border


class AnomalyScore(CriterionConfig):
    """`hide`: an anomaly gets a score up to the threshold. `alarm`: a normal input gets one above it.

    Margins are shares of the threshold, worked out in double precision. What is right does not depend on `y`.
    """

    kind: Literal["anomaly"] = Field("anomaly", repr=False)
    threshold: float = Field(gt=0, allow_inf_nan=False)
    direction: Literal["hide", "alarm"]

    def alarms(self, outputs: Outputs) -> NDArray[np.bool_]:
        """Where the score lies above the threshold."""
        return np.asarray(outputs[:, 0].astype(np.float64) > self.threshold)

    def fooled(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where the anomaly is hidden, or the alarm false."""
        return np.asarray((self.alarms(outputs) == (self.direction == "alarm")) & finite_rows(outputs))

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where the anomaly is hidden, the alarm false, or the score not finite."""
        return self.fooled(outputs, y) | ~finite_rows(outputs)

    def margins(self, outputs: Outputs, y: Truth) -> NDArray[np.float64]:
        """How far the score is on its right side."""
        finite = finite_rows(outputs)
        above = (np.where(finite, outputs[:, 0], 0.0).astype(np.float64) - self.threshold) / self.threshold
        room = np.where(above <= 0, np.minimum(above, -_HAIR), above) if self.direction == "hide" else -above
        return np.where(finite, room, np.inf)

    def differ(self, outputs: Outputs, others: Outputs) -> NDArray[np.bool_]:
        """Where one gives alarm and the other does not."""
        return np.asarray(self.alarms(outputs) != self.alarms(others))

    def targets(self, outputs: Outputs, y: Truth, count: int) -> Labels:
        """There is one way only."""
        return np.zeros((len(outputs), 1), np.int64)

    def loss(self, name: LossName) -> Any:
        """The score, down or up, in shares of the threshold, whatever the name."""
        return lambda outputs, y, _target: self._beyond(outputs)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """How far the score is on its wrong side."""
        tf = runtime().tf
        finite = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
        return tf.where(finite, self._beyond(outputs), tf.constant(-np.inf, tf.float32))

    def _beyond(self, outputs: Tensor) -> Tensor:
        tf = runtime().tf
        above = (tf.cast(outputs[:, 0], tf.float64) - self.threshold) / self.threshold
        if self.direction == "alarm":
            return tf.cast(above, tf.float32)
        return tf.cast(tf.where(above <= 0, tf.maximum(-above, _HAIR), -above), tf.float32)
