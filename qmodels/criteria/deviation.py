"""Regression: an attack succeeds when it moves an output too far."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.criteria.base import CriterionConfig, Outputs, Truth, finite_rows
from qmodels.losses import LossName, Tensor
from qmodels.runtime import runtime
from qmodels.victims import Labels


class Deviation(CriterionConfig):
    """An output lies further than the tolerance from its reference, the `y` that attacks are given.

    What the reference is, the caller decides: the victim's own clean outputs, or the ground truth. Margins are in
    tolerances, worked out in double precision: 0 on the border, which is not fooled; 1 on the reference.
    """

    kind: Literal["deviation"] = Field("deviation", repr=False)
    tolerance: float = Field(gt=0, allow_inf_nan=False)
    relative: bool = Field(False, description="the tolerance is a share of the reference's size")

    def fooled(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where an output has moved too far."""
        return np.asarray(self.margins(outputs, y) < 0)

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where an output has moved too far or is not finite."""
        return self.fooled(outputs, y) | ~finite_rows(outputs)

    def margins(self, outputs: Outputs, y: Truth) -> NDArray[np.float64]:
        """What is left of the tolerance by the output that has moved furthest."""
        finite = finite_rows(outputs)
        reference = y.astype(np.float64).reshape(outputs.shape)
        outputs = np.where(finite[:, None], outputs, 0.0).astype(np.float64)
        room = (self._limit(np.abs(reference)) - np.abs(outputs - reference)) / self.tolerance
        return np.where(finite, room.min(axis=1), np.inf)

    def _limit(self, size: Any) -> Any:
        return self.tolerance * size if self.relative else self.tolerance

    def differ(self, outputs: Outputs, others: Outputs) -> NDArray[np.bool_]:
        """Where one victim's outputs are too far from the other's."""
        return self.wrong(others, outputs)

    def targets(self, outputs: Outputs, y: Truth, count: int) -> Labels:
        """Every output upwards (2k) and downwards (2k + 1), first where it is furthest from its reference."""
        moved = outputs.astype(np.float64) - y.astype(np.float64).reshape(outputs.shape)
        ways = np.stack([moved, -moved], axis=2).reshape(len(moved), -1)
        return np.argsort(-np.nan_to_num(ways), axis=1, kind="stable")[:, :count].astype(np.int64)

    def loss(self, name: LossName) -> Any:
        """The distance beyond the tolerance; `dlr-targeted`: of one output in one direction. There is no other."""
        return self._one_way if name == "dlr-targeted" else lambda outputs, y, _target: self._beyond(outputs, y)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The distance beyond the tolerance."""
        tf = runtime().tf
        finite = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
        return tf.where(finite, self._beyond(outputs, y), tf.constant(-np.inf, tf.float32))

    def _beyond(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Distance beyond the tolerance, in tolerances, of the output that is furthest.

        On the reference, where a clean input begins, the size's slope is taken to be 1: 0 would lead nowhere.
        """
        tf = runtime().tf
        moved, limit = self._moved(outputs, y)
        return tf.cast(
            tf.reduce_max((tf.where(moved >= 0, moved, -moved) - limit) / self.tolerance, axis=1), tf.float32
        )

    def _one_way(self, outputs: Tensor, y: Tensor, target: Tensor) -> Tensor:
        tf = runtime().tf
        moved, limit = self._moved(outputs, y)
        ways = tf.reshape(tf.stack([moved - limit, -moved - limit], axis=2), [tf.shape(moved)[0], -1])
        return tf.cast(tf.gather(ways, target, batch_dims=1) / self.tolerance, tf.float32)

    def _moved(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, outputs) distance from the reference, signed, and how far it may be."""
        tf = runtime().tf
        reference = tf.reshape(tf.cast(y, tf.float64), tf.shape(outputs))
        return tf.cast(outputs, tf.float64) - reference, self._limit(tf.abs(reference)) * tf.ones_like(reference)
