"""What one training step minimises, for a clean batch and, where the method attacks, its adversarial twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qmodels.losses import Tensor, cross_entropy
from qmodels.runtime import runtime
from qmodels.training.config import DistillationConfig, SinkhornConfig, TrainingConfig
from qmodels.training.intervals import Interval, margin_bounds
from qmodels.training.transport import sinkhorn_distance

Objective = Callable[[Any, Tensor, Tensor, Tensor], Tensor]  # (model, clean, attacked, labels) -> scalar


def objective(config: TrainingConfig, static: Sequence[Any] = (), clean_share: Tensor = 0.0) -> Objective:
    """The objective of the config's method.

    Args:
        config: the method and its settings.
        static: models that stand still; of a distillation the teacher.
        clean_share: certified: of the clean loss, a scalar that may change from step to step.
    """
    if config.method == "trades":
        return _trades(config.adversarial.beta)
    if config.method == "sinkhorn":
        return _sinkhorn(config.sinkhorn)
    if config.method == "distillation":
        return _distillation(static[0], config.distillation)
    if config.method == "tempered":
        return _tempered(config.distillation.temperature)
    if config.certifies:
        return _certified(clean_share if config.adversarial.clean_weight else None)
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


def _sinkhorn(settings: SinkhornConfig) -> Objective:
    """Cross-entropy on adversarial examples + Sinkhorn distance between a batch's clean and attacked logits.

    Source: Bouniot et al. 2021, "Optimal transport as a defense against adversarial attacks". Ours: the cost is the
    squared Euclidean distance between logits, and the plan takes no gradient.
    """

    def loss(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        hard = model(attacked, training=True)
        distance = sinkhorn_distance(model(clean, training=True), hard, settings.regularization, settings.iterations)
        return runtime().tf.reduce_mean(cross_entropy(hard, y)) + settings.weight * distance

    return loss


def _certified(clean_share: Tensor | None) -> Objective:
    """Cross-entropy of the worst logits that interval bounds allow (arXiv:1810.12715), mixed with a clean share.

    `attacked` holds the ball's corners (2, N, ...): all lower ends, all upper ends. Without a clean share nothing is
    computed for the clean inputs: while the ball is a point, its bounds are the logits.
    """

    def loss(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        margins = margin_bounds(model, Interval(attacked[0], attacked[1]), y)
        hard = runtime().tf.reduce_mean(cross_entropy(-margins, y))
        if clean_share is None:
            return hard
        return clean_share * _standard(model, clean, attacked, y) + (1 - clean_share) * hard

    return loss


def _tempered(temperature: float) -> Objective:
    """Cross-entropy of logits that are divided by the temperature: they grow as much larger."""

    def loss(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        return runtime().tf.reduce_mean(cross_entropy(model(clean, training=True) / temperature, y))

    return loss


def _distillation(teacher: Any, settings: DistillationConfig) -> Objective:
    """The teacher's probabilities at the temperature, and a share of the true labels (arXiv:1511.04508).

    Ours: the true labels' cross-entropy is taken at the temperature as well.
    """

    def loss(model: Any, clean: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        tf = runtime().tf
        logits = model(clean, training=True) / settings.temperature
        soft = tf.nn.softmax(tf.stop_gradient(teacher(clean, training=False)) / settings.temperature)
        follow = tf.nn.softmax_cross_entropy_with_logits(labels=soft, logits=logits)
        return tf.reduce_mean(settings.alpha * cross_entropy(logits, y) + (1 - settings.alpha) * follow)

    return loss
