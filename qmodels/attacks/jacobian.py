"""DeepFool and JSMA: attacks that follow the gradients of single logits; without classes, of the criterion's score.

Sources: Moosavi-Dezfooli 2016 arXiv:1511.04599 (DeepFool), Papernot 2016 arXiv:1511.07528 (JSMA). Images that have
fallen, judged on the grid, leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball, Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Problem
from qmodels.attacks.blackbox import flat, lengths, spread
from qmodels.attacks.gradient import batches
from qmodels.criteria import ClassCriterion, Criterion, Truth
from qmodels.grid import Points
from qmodels.runtime import runtime
from qmodels.tracing import Traced
from qmodels.victims import GradientModel


class JacobianAttack(Attack):
    """Moves images by the gradients of their logits until they are wrong."""

    family: ClassVar[Family] = "minimal-norm"

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Moved images, batch by batch."""
        zero, results = 0, [problem.clean[:0].astype(np.float64)]
        for rows in batches(np.arange(len(problem.ball))):
            moved, zeros = self.walk(problem, problem.ball.take(rows), problem.y[rows])
            results.append(moved)
            zero += zeros
        return np.concatenate(results), Diagnostics(zero / max(len(problem.ball), 1))

    def walk(self, problem: Problem, ball: Ball, y: Truth) -> tuple[Points, int]:
        """One batch; also how many images had a zero gradient at the start."""
        raise NotImplementedError


class DeepFool(JacobianAttack):
    """Steps to the nearest of the linearised class boundaries, again and again."""

    kind: ClassVar[str] = "deepfool"
    norm: ClassVar[Norm] = "l2"
    steps: int = Field(100, ge=1)
    overshoot: float = Field(0.008, ge=0)
    candidates: int = Field(10, ge=2, description="classes considered: the likeliest")

    def walk(self, problem: Problem, ball: Ball, y: Truth) -> tuple[Points, int]:
        """Each image's own number of steps."""
        gradients, classes = boundaries(problem, ball, y, self.candidates)
        low, high = ball.cube
        clean, free = ball.clean.astype(np.float64), ball.weight
        change, result, zeros = np.zeros(clean.shape), clean.copy(), 0
        rows: NDArray[np.int64] = np.arange(len(clean))
        for turn in range(self.steps):
            there = clean[rows] + (1 + self.overshoot * (1 + turn)) * change[rows]
            result[rows] = np.clip(np.rint(there), low[rows], high[rows])
            outputs, values, slopes = gradients(result[rows], classes[rows])
            problem.count(len(rows))
            standing = ~problem.criterion.fooled(outputs, y[rows])
            rows, gaps, slopes = rows[standing], values[standing], slopes[standing] * free
            if not len(rows):
                break
            step = self.step(gaps[:, 1:] - gaps[:, :1], slopes[:, 1:] - slopes[:, :1])
            zeros += int((lengths(step) == 0).sum()) if turn == 0 else 0
            change[rows] += step
        return result, zeros

    def step(self, gaps: Points, slopes: Points) -> Points:
        """The shortest way, in LSBs, onto the nearest linearised boundary (at least a hundredth of an LSB)."""
        size = np.sqrt(np.sum(slopes.reshape(*gaps.shape, -1) ** 2, axis=2))
        distance = np.where(size > 0, np.abs(gaps) / np.maximum(size, 1e-30), np.inf)
        nearest = distance.argmin(axis=1)
        rows = np.arange(len(gaps))
        unit = slopes[rows, nearest] / spread(np.maximum(size[rows, nearest], 1e-30), slopes[:, 0])
        reach = np.where(np.isfinite(distance[rows, nearest]), np.maximum(distance[rows, nearest], 0.01), 0.0)
        return np.asarray(unit * spread(reach, unit))


class JSMA(JacobianAttack):
    """Changes the two most salient pixels by theta, towards the likeliest wrong class."""

    kind: ClassVar[str] = "jsma"
    norm: ClassVar[Norm] = "l0"
    theta: float = Field(20 / 256, gt=0, description="change of a feature per step, as a share of the range")
    gamma: float = Field(1.0, gt=0, le=1, description="share of the pixels that may change")
    steps: int = Field(2000, ge=1)

    def walk(self, problem: Problem, ball: Ball, y: Truth) -> tuple[Points, int]:
        """Two pixels a step, up or down, whichever is more salient."""
        gradients, classes = boundaries(problem, ball, y, 2)
        points, zeros = flat(ball.clean.astype(np.float64)), 0
        low, high = (flat(end) for end in ball.cube)
        clean, theta = points.copy(), max(1.0, self.theta * ball.grid.scale)
        rows: NDArray[np.int64] = np.arange(len(points))
        for turn in range(self.steps):
            images = np.rint(points[rows]).reshape(-1, *ball.shape)
            outputs, _, slopes = gradients(images, classes[rows])
            problem.count(len(rows))
            going = ~problem.criterion.fooled(outputs, y[rows])
            rows, slopes = rows[going], slopes[going]
            if not len(rows):
                break
            towards = flat(slopes[:, 1])
            away = flat(slopes[:, 0])
            room = points[rows] - low[rows], high[rows] - points[rows]
            moves = theta * self.moves(towards, away, room, self.spare(points[rows] - clean[rows]))
            zeros += int((np.abs(flat(slopes)).max(axis=1) == 0).sum()) if turn == 0 else 0
            points[rows] = np.clip(points[rows] + moves, low[rows], high[rows])
            rows = rows[np.abs(moves).max(axis=1) > 0]
        return points.reshape(-1, *ball.shape), zeros

    def spare(self, change: Points) -> NDArray[np.bool_]:
        """Pixels that may change: all until gamma is used up, then those already changed."""
        touched = change != 0
        full = touched.sum(axis=1, keepdims=True) + 2 > self.gamma * change.shape[1]
        return np.asarray(touched | ~full)

    def moves(
        self, towards: Points, away: Points, below_above: tuple[Points, Points], allowed: NDArray[np.bool_]
    ) -> Points:
        """Plus or minus one at the two pixels where the target gains most and the right class loses most."""
        net, (below, above) = towards - away, below_above
        room = np.where(net > 0, above > 0, below > 0) & allowed
        saliency = np.where(room, np.abs(net), 0.0)
        best = np.argsort(-saliency, axis=1, kind="stable")[:, :2]
        chosen = np.take_along_axis(saliency, best, axis=1) > 0
        moves = np.zeros(net.shape)
        signs = np.sign(np.take_along_axis(net, best, axis=1)) * chosen
        np.put_along_axis(moves, best, signs, axis=1)
        return moves


#: (x, what `boundaries` gave for it) -> outputs (N, outputs), values (N, K), their gradients per grid step (N, K, ...)
Slopes = Callable[[Points, Truth], tuple[Points, Points, Points]]


def boundaries(problem: Problem, ball: Ball, y: Truth, count: int) -> tuple[Slopes, Truth]:
    """What becomes equal where a victim is fooled: the first of K values, and any other one.

    The right class's logit and the `count` - 1 likeliest wrong ones. Without classes: 0 and the criterion's score.

    Returns:
        The function that works values and gradients out, and what it needs to know of every input (N, ...).
    """
    if isinstance(problem.criterion, ClassCriterion):
        classes = problem.criterion.rivals(problem.logits(ball.clean), y, count)
        return compiled_gradients(problem.gradient_model), classes
    return compiled_score(problem.gradient_model, problem.criterion), y


def compiled_gradients(source: GradientModel) -> Slopes:
    """`Slopes` of logits, for classes (N, K).

    One pass of N * K images: cheaper than K backward passes through a graph that is K times larger.
    """
    return source.compiled("logit gradients", _build_gradients)


def _build_gradients(source: GradientModel) -> Slopes:
    tf = runtime().tf

    def graph(x: Any, classes: Any) -> Any:
        count = tf.shape(classes)[1]
        repeated = tf.repeat(x, count, axis=0)
        with tf.GradientTape() as tape:
            tape.watch(repeated)
            logits = source.outputs(repeated)
            picked = tf.gather(logits, tf.reshape(classes, [-1]), batch_dims=1)
        gradient = tape.gradient(picked, repeated)
        gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
        return logits[::count], tf.reshape(gradient, tf.concat([tf.shape(classes), tf.shape(x)[1:]], axis=0))

    traced = Traced(graph)

    def gradients(x: Points, classes: Truth) -> tuple[Points, Points, Points]:
        logits, slopes = (part.numpy().astype(np.float64) for part in traced(tf.constant(x, tf.float32), classes))
        return logits, np.take_along_axis(logits, classes, axis=1), slopes

    return gradients


def compiled_score(source: GradientModel, criterion: Criterion) -> Slopes:
    """`Slopes` of 0 and the criterion's score, for what is right (N, ...)."""

    def build(model: GradientModel) -> Slopes:
        tf = runtime().tf

        def graph(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = model.outputs(x)
                score = criterion.score(outputs, y)
            gradient = tape.gradient(score, x)
            return outputs, score, tf.where(tf.math.is_finite(gradient), gradient, 0.0)

        traced = Traced(graph)

        def slopes(x: Points, y: Truth) -> tuple[Points, Points, Points]:
            found = traced(tf.constant(x, tf.float32), y)
            outputs, score, gradient = (part.numpy().astype(np.float64) for part in found)
            both = np.stack([np.zeros_like(score), score], axis=1)
            return outputs, both, np.stack([np.zeros_like(gradient), gradient], axis=1)

        return slopes

    return source.compiled(("score gradients", criterion), build)
