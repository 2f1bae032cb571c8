"""What one training step minimises, for a clean batch and, where the method attacks, its adversarial twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmodels.losses import Tensor, cross_entropy
from qmodels.runtime import runtime
from qmodels.training.config import TrainingConfig

Objective = Callable[[Any, Tensor, Tensor, Tensor], Tensor]  # (model, clean, attacked, labels) -> scalar


def objective(config: TrainingConfig) -> Objective:
    """The objective of the config's method."""
    if config.method == "trades":
        return _trades(config.adversarial.beta)
    if config.attacks:
        return _adversarial(config.adversarial.clean_weight)
    return _standard


def _standard(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy; `attacked` is not looked at."""
    return runtime().tf.reduce_mean(cross_entropy(model(clean, training=True), y))


def _adversarial(clean_weight: float) -> Objective:
    """Cross-entropy on adversarial examples (arXiv:1706.06083), mixed with a share of the clean one."""

    def loss(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        hard = runtime().tf.reduce_mean(cross_entropy(model(attacked, training=True), y))
        if clean_weight == 0:
            return hard
        return clean_weight * _standard(model, clean, attacked, y) + (1 - clean_weight) * hard

    return loss


def _trades(beta: float) -> Objective:
    """Clean cross-entropy + beta KL(clean || attacked), arXiv:1901.08573, eq. 5.

    Ours: the attacked images maximise the cross-entropy with the true label, not the divergence itself.
    """

    def loss(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        tf = runtime().tf
        logits = model(clean, training=True)
        log_clean, log_attacked = tf.nn.log_softmax(logits), tf.nn.log_softmax(model(attacked, training=True))
        divergence = tf.reduce_sum(tf.exp(log_clean) * (log_clean - log_attacked), axis=1)
        return tf.reduce_mean(cross_entropy(logits, y)) + beta * tf.reduce_mean(divergence)

    return loss
