"""A classifier that may refuse an input: an attack succeeds when the class is wrong and the input is not refused."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.criteria.base import CriterionConfig, Outputs, Truth, finite_rows
from qmodels.criteria.classes import MISCLASSIFICATION, GroupMisclassification, Misclassification, Targeted
from qmodels.losses import LossName, Tensor
from qmodels.runtime import runtime
from qmodels.victims import Labels, decisions

REFUSED = -2  # the decision about a refused input
_NUDGE = 1e-6  # an input on the threshold is accepted


class Rejecting(CriterionConfig):
    """Of the outputs, the first `classes` are logits, further such groups those of other views, and the last one says
    how far the input lies above the detector's threshold: it is refused where that is above zero.

    An attacker who knows the detector climbs the class loss; where he is refused, that of all views together, and
    pays for what is above the threshold. A refused input is not wrong, clean or attacked: how many are is told beside.
    """

    kind: Literal["rejecting"] = Field("rejecting", repr=False)
    classes: int = Field(ge=2)
    inner: Misclassification | Targeted | GroupMisclassification = MISCLASSIFICATION
    weight: float = Field(1.0, ge=0, description="ours: of the detector in losses")

    def refused(self, outputs: Outputs) -> NDArray[np.bool_]:
        """Where (N,) the input is refused."""
        return np.asarray(outputs[:, -1] > 0)

    def decisions(self, outputs: Outputs) -> Labels:
        """The class, or `REFUSED`."""
        return np.where(self.refused(outputs), REFUSED, decisions(self._logits(outputs)))

    def fooled(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where the class is wrong and the input accepted."""
        accepted = finite_rows(outputs) & ~self.refused(outputs)
        return self.inner.fooled(self._logits(outputs), y) & accepted

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """The same, and where an output is not finite."""
        return self.fooled(outputs, y) | ~finite_rows(outputs)

    def margins(self, outputs: Outputs, y: Truth) -> NDArray[np.float64]:
        """The larger of the class margin and what is above the threshold: negative where both are won."""
        above = outputs[:, -1].astype(np.float64)
        above = np.where(above <= 0, np.minimum(above, -_NUDGE), above)
        both = np.maximum(self.inner.margins(self._logits(outputs), y), above)
        return np.where(finite_rows(outputs), both, np.inf)

    def differ(self, outputs: Outputs, others: Outputs) -> NDArray[np.bool_]:
        """Where the verdicts differ."""
        return np.asarray(self.decisions(outputs) != self.decisions(others))

    def targets(self, outputs: Outputs, y: Truth, count: int) -> Labels:
        """Those of the inner criterion."""
        return self.inner.targets(self._logits(outputs), y, count)

    def loss(self, name: LossName) -> Any:
        """The inner loss; where refused, its mean over the views less what lies above the threshold."""
        if name == "margin":
            return lambda outputs, y, _target: self._margin(outputs, y)
        inner, tf = self.inner.loss(name), runtime().tf

        def climbed(outputs: Tensor, y: Tensor, target: Tensor) -> Tensor:
            losses, above = [inner(view, y, target) for view in self._views(outputs)], outputs[:, -1]
            return tf.where(above > 0, tf.add_n(losses) / len(losses) - self.weight * above, losses[0])

        return climbed

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The smaller of the inner score and what is below the threshold: above zero exactly where both are won."""
        tf, above = runtime().tf, outputs[:, -1]
        below = tf.where(above <= 0, tf.maximum(-above, _NUDGE), -above)
        finite = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
        both = tf.minimum(self.inner.score(outputs[:, : self.classes], y), below)
        return tf.where(finite, both, tf.constant(-np.inf, outputs.dtype))

    def _margin(self, outputs: Tensor, y: Tensor) -> Tensor:
        """First the class; once that is wrong, the views that still see the right one, and the threshold."""
        tf, above = runtime().tf, outputs[:, -1]
        first, *others = (self.inner.score(view, y) for view in self._views(outputs))
        behind = tf.add_n([tf.minimum(gap, 0.0) for gap in others]) / len(others)
        refused = -above + behind
        return tf.where(first <= 0, first, tf.where(above > 0, refused, tf.minimum(first, -above + _NUDGE)))

    def _logits(self, outputs: Outputs) -> Outputs:
        return outputs[:, : self.classes]

    def _views(self, outputs: Tensor) -> list[Tensor]:
        return [outputs[:, at : at + self.classes] for at in range(0, outputs.shape[-1] - 1, self.classes)]
