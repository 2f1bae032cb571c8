"""FMN: fast minimum-norm attacks for L0, L1, L2 and L-infinity, one loop.

The ball shrinks while the image is wrong and grows while it is right, and the iterate follows the margin's gradient
inside it. Source: Pintor et al. 2021, arXiv:2102.12827. Success and length are judged on the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from qmodels.attacks.ball import Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Problem
from qmodels.attacks.gradient import batches, is_zero, looker, wide
from qmodels.criteria import Criterion
from qmodels.grid import Points
from qmodels.losses import Tensor
from qmodels.runtime import runtime
from qmodels.tracing import Traced, repeated
from qmodels.victims import GradientModel

SMALLEST = 1e-3  # share by which the ball still moves in the last step
LONGER = 1.05


class FMN(Attack):
    """FMN in the L2 norm."""

    kind: ClassVar[str] = "fmn-l2"
    norm: ClassVar[Norm] = "l2"
    family: ClassVar[Family] = "minimal-norm"

    steps: int = Field(100, ge=1)
    rate: float = Field(1.0, gt=0, description="first step, as a share of the first estimate of the distance")
    shrink: float = Field(0.05, gt=0, lt=1, description="first relative change of the ball")

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """The shortest wrong grid point of every image; the last iterate where none was found."""
        tf = runtime().tf
        ball, best, zero = problem.ball, problem.clean.copy(), 0
        loop = compiled_fmn(problem.gradient_model, self.norm, problem.criterion)
        for rows in batches(np.arange(len(ball))):
            part = ball.take(rows)
            tensors = [tf.constant(one, tf.float32) for one in (part.clean, *part.cube)]
            numbers = (tf.constant(self.rate, tf.float32), tf.constant(self.shrink, tf.float32))
            found, zeros = loop(*tensors, problem.y[rows], tf.constant(self.steps), *numbers)
            best[rows] = found.numpy()
            zero += int(zeros.numpy().sum())
            problem.count(len(rows) * self.steps)
        return best, Diagnostics(zero / max(len(ball), 1))


class FMNLinf(FMN):
    """FMN in the L-infinity norm."""

    kind: ClassVar[str] = "fmn-linf"
    norm: ClassVar[Norm] = "linf"


class FMNL1(FMN):
    """FMN in the L1 norm."""

    kind: ClassVar[str] = "fmn-l1"
    norm: ClassVar[Norm] = "l1"


class FMNL0(FMN):
    """FMN in the L0 norm: as few pixel values as possible."""

    kind: ClassVar[str] = "fmn-l0"
    norm: ClassVar[Norm] = "l0"


def compiled_fmn(source: GradientModel, norm: Norm, criterion: Criterion) -> Any:
    """The loop of a model, kept with it."""
    return source.compiled(("fmn", norm, criterion), lambda model: _build_loop(model, norm, criterion))


def _build_loop(source: GradientModel, norm: Norm, criterion: Criterion) -> Any:
    """The loop as one graph, flat images in grid steps."""
    tf = runtime().tf
    look, length, dual = looker(source, "margin", criterion), _LENGTH[norm], _LENGTH[_DUAL[norm]]
    project, span = _PROJECT[norm], float(source.grid.span)
    unit = source.grid.scale / 256.0  # the loop's first steps were chosen for 8-bit pixels

    def loop(
        clean: Tensor, low: Tensor, high: Tensor, y: Tensor, steps: Tensor, rate: Tensor, shrink: Tensor
    ) -> tuple[Tensor, Tensor]:
        size = [tf.shape(clean)[0], -1]
        low, high = tf.reshape(low, size), tf.reshape(high, size)
        origin = tf.reshape(clean, size)
        change = tf.zeros_like(origin)
        nothing = tf.zeros_like(length(origin))  # (N,)
        far, never = nothing + np.inf, nothing > 0

        def step(
            index: Tensor, change: Tensor, best: Tensor, best_length: Tensor, epsilon: Tensor, zero: Tensor,
            ever: Tensor, stride: Tensor,
        ) -> tuple[Tensor, ...]:  # fmt: skip
            anneal = 0.5 * (1.0 + tf.cos(np.pi * tf.cast(index, tf.float32) / tf.cast(steps, tf.float32)))
            point = tf.clip_by_value(tf.round(origin + change), low, high)
            gradient, margins, score, _ = look(tf.reshape(point, tf.shape(clean)), y, y)
            gradient, wrong = tf.where(high > low, tf.reshape(gradient, size), 0.0), score > 0
            here = length(point - origin)
            nearer = wrong & (here < best_length)
            best = tf.where(nearer[:, None] | (~wrong & tf.math.is_inf(best_length))[:, None], point, best)
            best_length, ever = tf.where(nearer, here, best_length), ever | wrong
            guess = length(change) + tf.abs(margins) / (dual(gradient) + 1e-20)
            guess = tf.minimum(guess, (span - 1.0) * tf.cast(tf.shape(origin)[1], tf.float32))

            def first() -> tuple[Tensor, Tensor]:
                estimate = tf.abs(margins) / (tf.norm(gradient, axis=1) + 1e-20)
                return tf.reshape(is_zero(gradient), tf.shape(zero)), tf.clip_by_value(
                    estimate, 8.0 * unit, 2000.0 * unit
                )

            zero, stride = tf.cond(index == 0, first, lambda: (zero, stride))
            # An image that has never been wrong may take longer steps in a wider ball: first fall, then shrink.
            stride, guess = tf.where(ever, stride, stride * LONGER), 2.0 * guess
            gamma = SMALLEST + (shrink - SMALLEST) * anneal
            smaller = tf.minimum(epsilon * (1.0 - gamma), best_length)
            if norm == "l0":  # whole pixels: move by at least one
                smaller = tf.minimum(tf.maximum(epsilon - 1.0, 0.0), tf.minimum(smaller, best_length))
            grown = tf.where(ever, tf.maximum(epsilon * (1.0 + gamma), epsilon + (1.0 if norm == "l0" else 0.0)), guess)
            epsilon = tf.where(wrong, smaller, grown)
            ahead = gradient / (tf.norm(gradient, axis=1, keepdims=True) + 1e-20)
            change = change + rate * (0.01 + anneal) * wide(stride, change) * ahead
            change = tf.clip_by_value(project(change, epsilon) + origin, low, high) - origin
            return change, best, best_length, epsilon, zero, ever, stride

        state = change, origin, far, far, never, never, nothing
        _, best, _, _, zero, _, _ = repeated(0, steps, step, state)
        return tf.reshape(best, tf.shape(clean)), zero

    return Traced(loop)


def _count(x: Tensor) -> Tensor:
    tf = runtime().tf
    return tf.reduce_sum(tf.cast(x != 0, tf.float32), axis=1)


def _project_l2(x: Tensor, epsilon: Tensor) -> Tensor:
    tf = runtime().tf
    return x * tf.minimum(1.0, epsilon / (tf.norm(x, axis=1) + 1e-20))[:, None]


def _project_linf(x: Tensor, epsilon: Tensor) -> Tensor:
    return runtime().tf.clip_by_value(x, -epsilon[:, None], epsilon[:, None])


def _project_l1(x: Tensor, epsilon: Tensor) -> Tensor:
    """Onto the L1 ball by the sorted threshold (Duchi et al. 2008)."""
    tf = runtime().tf
    ranked = tf.sort(tf.abs(x), axis=1, direction="DESCENDING")
    ranks = tf.range(1.0, tf.cast(tf.shape(x)[1], tf.float32) + 1.0)
    excess = (tf.cumsum(ranked, axis=1) - epsilon[:, None]) / ranks
    last = tf.reduce_sum(tf.cast(ranked > excess, tf.int32), axis=1) - 1
    threshold = tf.nn.relu(tf.gather(excess, tf.maximum(last, 0), batch_dims=1))
    return tf.sign(x) * tf.nn.relu(tf.abs(x) - threshold[:, None])


def _project_l0(x: Tensor, epsilon: Tensor) -> Tensor:
    """Keep the largest `epsilon` components."""
    tf = runtime().tf
    ranked = tf.sort(tf.abs(x), axis=1, direction="DESCENDING")
    size = tf.shape(x)[1]
    keep = tf.cast(tf.minimum(epsilon, tf.cast(size, tf.float32)), tf.int32)
    smallest = tf.gather(ranked, tf.clip_by_value(keep - 1, 0, size - 1), batch_dims=1)
    kept = (tf.abs(x) >= smallest[:, None]) & (keep > 0)[:, None]
    return tf.where(kept, x, tf.zeros_like(x))


_LENGTH: dict[str, Callable[[Tensor], Tensor]] = {
    "l2": lambda x: runtime().tf.norm(x, axis=1),
    "linf": lambda x: runtime().tf.reduce_max(runtime().tf.abs(x), axis=1),
    "l1": lambda x: runtime().tf.reduce_sum(runtime().tf.abs(x), axis=1),
    "l0": _count,
}
_DUAL: dict[str, str] = {"l2": "l2", "linf": "l1", "l1": "linf", "l0": "linf"}
_PROJECT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": _project_l2,
    "linf": _project_linf,
    "l1": _project_l1,
    "l0": _project_l0,
}
