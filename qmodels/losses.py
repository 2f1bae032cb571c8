"""What a gradient attack climbs: per-sample losses of logits, larger is worse for the victim.

All of them take logits. `ce-probabilities` is the one exception in spirit: it runs the logits through softmax
first, as many published evaluations did, and is here to show how that hides the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from qmodels.runtime import runtime

Tensor = Any  # tf.Tensor: TensorFlow carries no types
LossName = Literal["ce", "dlr", "margin", "ce-rescaled", "ce-probabilities", "dlr-targeted"]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits (N, C), labels (N,), targets (N,)) -> (N,)

#: Spread of the logits after rescaling: soft enough that softmax never saturates in single precision. Our choice.
RESCALED_SPREAD = 10.0
_TINY = 1e-12
_NEVER = -1e30  # stands for minus infinity without breeding NaN


def loss_function(name: LossName) -> Loss:
    """The loss of that name; untargeted ones ignore their third argument."""
    if name == "dlr-targeted":
        return targeted_dlr
    untargeted = _LOSSES[name]
    return lambda logits, y, _target: untargeted(logits, y)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits."""
    return runtime().tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the right one: positive exactly where the victim is wrong (ties aside).

    Carlini & Wagner 2017, arXiv:1608.04644, the function f6 with the sign turned.
    """
    tf = runtime().tf
    right, hot = _right(logits, y)
    return tf.reduce_max(tf.where(hot, tf.constant(_NEVER, logits.dtype), logits), axis=1) - right


def margin_to(logits: Tensor, allowed: Tensor) -> Tensor:
    """Best logit outside a set of right classes minus the best one inside; `allowed` (N, C) is true inside."""
    tf = runtime().tf
    never = tf.constant(_NEVER, logits.dtype)
    outside, inside = tf.where(allowed, never, logits), tf.where(allowed, logits, never)
    return tf.reduce_max(outside, axis=1) - tf.reduce_max(inside, axis=1)


def set_loss(name: LossName) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits, allowed (N, C)) -> (N,): the loss with a set of right classes in place of one label.

    Cross-entropy is that of the set's probability. The losses that are made for one class become the margin.
    """
    return _set_cross_entropy if name == "ce" else margin_to


def _set_cross_entropy(logits: Tensor, allowed: Tensor) -> Tensor:
    tf = runtime().tf
    inside = tf.where(allowed, logits, tf.constant(_NEVER, logits.dtype))
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_logsumexp(inside, axis=1)


def difference_of_logits_ratio(logits: Tensor, y: Tensor) -> Tensor:
    """DLR: the margin over the gap between the largest and third largest logit, so that scale does not matter.

    Croce & Hein 2020, arXiv:2003.01690, eq. 6. Two classes have no third logit, and over the gap of the two the margin
    would be constant: there the margin itself is climbed.
    """
    if logits.shape[-1] < 3:
        return margin(logits, y)
    ranked = runtime().tf.sort(logits, axis=1, direction="DESCENDING")
    return margin(logits, y) / (ranked[:, 0] - ranked[:, 2] + _TINY)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Targeted DLR (Croce & Hein 2020, eq. 7): target minus right logit, over the spread of the top four."""
    tf = runtime().tf
    if logits.shape[-1] < 3:
        return margin(logits, y)
    ranked = tf.sort(logits, axis=1, direction="DESCENDING")
    classes = logits.shape[-1]
    low = (ranked[:, min(2, classes - 1)] + ranked[:, min(3, classes - 1)]) / 2.0
    return (_right(logits, target)[0] - _right(logits, y)[0]) / (ranked[:, 0] - low + _TINY)


def rescaled_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits rescaled to a fixed spread: undoes saturation caused by large weights."""
    tf = runtime().tf
    spread = tf.reduce_max(logits, axis=1, keepdims=True) - tf.reduce_min(logits, axis=1, keepdims=True)
    return cross_entropy(logits * RESCALED_SPREAD / tf.stop_gradient(spread + _TINY), y)


def cross_entropy_of_probabilities(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of softmax outputs, clipped to [1e-7, 1 - 1e-7] as Keras does.

    Its gradient is exactly zero wherever the victim is sure of itself. Written out, because Keras looks through a
    softmax in a graph and would repair what this is here to show.
    """
    tf = runtime().tf
    right, _ = _right(tf.math.softmax(logits), y)
    return -tf.math.log(tf.clip_by_value(right, 1e-7, 1.0 - 1e-7))


def all_finite(x: Tensor) -> Tensor:
    """(N, ...) -> (N,): no NaN or infinity in the sample."""
    tf = runtime().tf
    return tf.reduce_all(tf.math.is_finite(tf.reshape(x, [tf.shape(x)[0], -1])), axis=1)


def _right(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of class `y`, and the mask that picks it."""
    tf = runtime().tf
    hot = tf.one_hot(y, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_sum(tf.where(hot, logits, tf.zeros_like(logits)), axis=1), hot


_LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "dlr": difference_of_logits_ratio,
    "margin": margin,
    "ce-rescaled": rescaled_cross_entropy,
    "ce-probabilities": cross_entropy_of_probabilities,
}
