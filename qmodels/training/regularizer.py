"""Defensive quantization's regularizer: β/2 Σ ||W^T W - I||², so that no layer enlarges a perturbation much.

Source: Lin, Gan, Han, "Defensive Quantization" (arXiv:1904.08444), eq. 5, where β = 3e-4. W is the kernel reshaped to
(channels out) x (patch), as in `metrics/lipschitz.py`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from qmodels.layers import is_depthwise, kernel_of, weighted_layers
from qmodels.runtime import runtime

Tensor = Any


class DefensiveConfig(BaseModel):
    """How strongly kernels are drawn towards orthonormal ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(0.0, ge=0, description="weight of the regularizer; 0: none; 3e-4 in its source")


def defensive_penalty(model: Any, config: DefensiveConfig) -> Tensor:
    """β/2 Σ over the layers with weights of ||W^T W - I||², up to a constant: a scalar to add to the loss.

    The smaller Gram matrix stands in for W^T W: both have the same non-zero eigenvalues, so the sums of squares differ
    by a constant, the number of the larger one's zero eigenvalues, and the gradients are equal.

    Args:
        model: any Keras model; its latent kernels are taken, not their rounded values.
        config: β.
    """
    tf = runtime().tf
    return config.beta / 2 * tf.add_n([_distance(layer) for layer in weighted_layers(model)])


def _distance(layer: Any) -> Tensor:
    """||G - I||² of the smaller Gram matrix; of all channels' ones in a depthwise layer."""
    tf = runtime().tf
    kernel = kernel_of(layer)
    if is_depthwise(layer):
        *_, channels, multiplier = kernel.shape
        matrix = tf.transpose(tf.reshape(kernel, [-1, channels, multiplier]), [1, 0, 2])
    else:
        matrix = tf.reshape(kernel, [1, -1, kernel.shape[-1]])
    tall = matrix.shape[1] >= matrix.shape[2]
    gram = tf.matmul(matrix, matrix, transpose_a=tall, transpose_b=not tall)
    return tf.reduce_sum(tf.square(gram - tf.eye(gram.shape[-1])))
