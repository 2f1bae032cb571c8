"""Entropic optimal transport between two batches of points, stable for costs of any size.

Source: Cuturi 2013, arXiv:1306.0895; in logarithms as in Peyré & Cuturi 2019, arXiv:1803.00567, section 4.4.
"""

from __future__ import annotations

from typing import Any

from qmodels.runtime import runtime

Tensor = Any


def sinkhorn_distance(first: Tensor, second: Tensor, regularization: float, iterations: int) -> Tensor:
    """Mean cost of carrying one batch (N, D) onto another (M, D): a scalar.

    The cost is the squared Euclidean distance. The plan takes no gradient: at the optimum the regularized cost does
    not change with it (envelope theorem).
    """
    tf = runtime().tf
    cost = tf.reduce_sum(tf.square(first[:, None] - second[None, :]), axis=2)
    return tf.reduce_sum(tf.stop_gradient(transport_plan(cost, regularization, iterations)) * cost)


def transport_plan(cost: Tensor, regularization: float, iterations: int) -> Tensor:
    """How much of each point (N) goes to which other (M): (N, M), its columns add up to 1/M, its rows nearly to 1/N."""
    tf = runtime().tf
    kernel = -cost / regularization
    rows, columns = (tf.math.log(tf.cast(tf.shape(cost)[axis], cost.dtype)) for axis in (0, 1))
    left, right = tf.zeros_like(kernel[:, 0]), tf.zeros_like(kernel[0])
    for _ in range(iterations):
        left = -rows - tf.reduce_logsumexp(kernel + right[None], axis=1)
        right = -columns - tf.reduce_logsumexp(kernel + left[:, None], axis=0)
    return tf.exp(kernel + left[:, None] + right[None])
