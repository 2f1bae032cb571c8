"""One compiled training loop for every method. All randomness is a function of (seed, phase, epoch, batch)."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ascent import Ascent
from qmodels.attacks.ball import Ball
from qmodels.attacks.gradient import STEPS_ACROSS, compiled_ascent
from qmodels.data import Split
from qmodels.errors import RobustHlsError
from qmodels.grid import Codes, InputGrid
from qmodels.losses import cross_entropy
from qmodels.progress import Bar
from qmodels.runtime import runtime
from qmodels.training.augment import augmented
from qmodels.training.config import AdversarialConfig, TrainingConfig
from qmodels.training.intervals import Interval, check_bounded, margin_bounds
from qmodels.training.objectives import objective
from qmodels.training.regularizer import defensive_penalty
from qmodels.victims import GradientModel, Labels

EVALUATION_BATCH = 1000
NOTE_EVERY = 20  # steps between updates of the loss beside the bar


class EpochPlan(NamedTuple):
    """Where an epoch stands: enough to know its learning rate, its epsilon and its random numbers."""

    phase: int
    epoch: int  # within the phase, from 0
    epochs: int
    learning_rate: float  # at the start of the phase
    cosine: bool
    epsilon_lsb: float  # at the end of the epoch, or of the ramp
    ramp_epochs: int = 0  # a first epoch without a ball, then epsilon grows step by step; 0: it stays

    def epsilon(self, step: int, steps: int) -> float:
        """Radius at a step of this epoch."""
        if not self.ramp_epochs:
            return self.epsilon_lsb
        done = (self.epoch + step / steps - 1) / max(self.ramp_epochs - 1, 1)
        return self.epsilon_lsb * min(max(done, 0.0), 1.0)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step of this epoch."""
        if not self.cosine:
            return self.learning_rate
        done = (self.epoch + step / steps) / self.epochs
        return self.learning_rate * (1 + cos(pi * done)) / 2


class Score(NamedTuple):
    """How the model does on the validation split."""

    loss: float
    accuracy: float
    pgd_accuracy: float | None
    certified_accuracy: float | None = None


class Loop:
    """The compiled step of one model and method, with its optimizer (Adam, arXiv:1412.6980)."""

    def __init__(
        self, model: Any, config: TrainingConfig, grid: InputGrid, seed: int, static: Sequence[Any] = ()
    ) -> None:
        self.model, self.config, self.grid, self.seed = model, config, grid, seed
        if config.certifies:
            check_bounded(model)
        self._certify = _compile_certificate(model) if config.certifies else None
        self.optimizer = runtime().keras.optimizers.Adam(config.learning_rate)
        self.optimizer.build(model.trainable_variables)
        #: Share of the clean loss in certified training: 1 without a ball, `clean_weight` at the full radius.
        self._clean_share = runtime().tf.Variable(1.0, trainable=False)
        self._step = _compile_step(model, self.optimizer, config, static, self._clean_share)
        self._evaluate = _compile_evaluation(model)
        source = GradientModel(model, grid)
        self._ascent: Ascent | None = compiled_ascent(source, "ce", "linf") if config.attacks else None
        #: Of an ensemble's other models.
        others = static if config.method == "ensemble" else ()
        self._others = [compiled_ascent(GradientModel(other, grid), "ce", "linf") for other in others]

    def optimizer_state(self) -> list[NDArray[Any]]:
        """Adam's moments and its step count."""
        return [variable.numpy() for variable in self.optimizer.variables]

    def set_optimizer_state(self, values: list[NDArray[Any]]) -> None:
        """The reverse of `optimizer_state`."""
        for variable, value in zip(self.optimizer.variables, values, strict=True):
            variable.assign(value)

    def reset_optimizer(self) -> None:
        """As new."""
        self.set_optimizer_state([np.zeros_like(value) for value in self.optimizer_state()])

    def epoch(self, data: Split, plan: EpochPlan, bar: Bar) -> float:
        """One pass over `data` in a seeded order; the mean loss of its steps.

        Every batch is full: the samples beyond the last one are left out, other ones in each epoch.

        Raises:
            RobustHlsError: the loss is no longer finite.
        """
        tf = runtime().tf
        batch = min(self.config.batch_size, len(data.y))
        steps = len(data.y) // batch
        order = np.random.default_rng([self.seed, plan.phase, plan.epoch]).permutation(len(data.y))
        total = 0.0
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            x, y = data.x[rows], data.y[rows]
            random = np.random.default_rng([self.seed, plan.phase, plan.epoch, step, 0xA06])
            x = augmented(x, self.config.augmentation, random)
            attacked = self._attack_batch(x, y, plan, step, steps)
            rate = tf.constant(plan.rate(step, steps), tf.float32)
            clean, harmed = (tf.constant(self.grid.to_values(part)) for part in (x, attacked))
            loss = float(self._step(clean, harmed, tf.constant(y), rate))
            total += loss
            bar.advance(1, note=f"loss {loss:.3f}" if step % NOTE_EVERY == 0 else "")
        if not np.isfinite(total):
            raise RobustHlsError(
                f"training: the loss is not finite in epoch {plan.epoch + 1}; lower training.learning_rate "
                f"(now {plan.learning_rate:g})"
            )
        return total / steps

    def evaluate(self, data: Split) -> Score:
        """Loss and accuracy, and under attack for the methods that attack."""
        tf = runtime().tf
        losses = right = 0.0
        for start in range(0, len(data.y), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            loss, hits = self._evaluate(tf.constant(self.grid.to_values(data.x[part])), tf.constant(data.y[part]))
            losses, right = losses + float(loss), right + int(hits)
        count = len(data.y)
        return Score(losses / count, right / count, self._pgd_accuracy(data), self._certified_accuracy(data))

    def _certified_accuracy(self, data: Split) -> float | None:
        """Share of validation samples whose interval bounds leave no other class, at the full epsilon."""
        if self._certify is None:
            return None
        tf, attack = runtime().tf, self.config.adversarial
        inputs, labels = data.take(attack.validation_samples)
        proved = 0
        for start in range(0, len(labels), EVALUATION_BATCH):
            x, y = inputs[start : start + EVALUATION_BATCH], labels[start : start + EVALUATION_BATCH]
            corners = self.grid.to_values(_corners(Ball(self.grid, x, "linf", attack.epsilon_lsb)))
            proved += int(self._certify(tf.constant(corners), tf.constant(y)))
        return proved / len(labels)

    def _attack_batch(self, x: Codes, y: Labels, plan: EpochPlan, step: int, steps: int) -> Codes:
        if self.config.certifies:
            settings, epsilon = self.config.adversarial, plan.epsilon(step, steps)
            self._clean_share.assign(1 - (1 - settings.clean_weight) * epsilon / settings.epsilon_lsb)
            return _corners(Ball(self.grid, x, "linf", epsilon))
        if self._ascent is None:
            return x
        rng = np.random.default_rng([self.seed, plan.phase, plan.epoch, step])
        attack = self.config.adversarial
        ball = Ball(self.grid, x, "linf", plan.epsilon_lsb)
        if self._others and (turn := int(rng.integers(len(self._others) + 1))):
            return self._fgsm_elsewhere(self._others[turn - 1], x, y, plan)
        return _pgd(self._ascent, ball, y, attack.steps, attack, rng)[0]

    def _fgsm_elsewhere(self, ascent: Ascent, x: Codes, y: Labels, plan: EpochPlan) -> Codes:
        """One step on a model that stands still; its radius grows with the other one while that warms up."""
        full = self.config.adversarial.epsilon_lsb
        epsilon = max(1.0, (self.config.ensemble.epsilon_lsb or full) * plan.epsilon_lsb / full)
        return ascent(Ball(self.grid, x, "linf", epsilon), x, y, y, 1, epsilon, epsilon, 0.0).x

    def _pgd_accuracy(self, data: Split) -> float | None:
        """Share of validation images that stand a PGD of full epsilon, always from the same random starts."""
        if self._ascent is None:
            return None
        attack = self.config.adversarial
        images, labels = data.take(attack.validation_samples)
        rng = np.random.default_rng([self.seed, 0xBAD])
        standing = 0
        for start in range(0, len(labels), EVALUATION_BATCH):
            x, y = images[start : start + EVALUATION_BATCH], labels[start : start + EVALUATION_BATCH]
            ball = Ball(self.grid, x, "linf", attack.epsilon_lsb)
            score = _pgd(self._ascent, ball, y, attack.validation_steps, attack, rng)[1]
            standing += int(np.sum(score <= 0))
        return standing / len(labels)


def _corners(ball: Ball) -> Codes:
    """The lowest and the highest codes of the ball, (2, N, ...)."""
    return np.stack(ball.box).astype(ball.clean.dtype)


def _pgd(
    ascent: Ascent, ball: Ball, y: Labels, steps: int, settings: AdversarialConfig, rng: np.random.Generator
) -> tuple[Codes, NDArray[np.float32]]:
    """The worst grid points met by PGD and their margins (positive: misclassified)."""
    epsilon = ball.radius
    # The step shrinks with epsilon while it warms up.
    step = STEPS_ACROSS * epsilon / steps
    if settings.step_lsb is not None:
        step = settings.step_lsb * epsilon / settings.epsilon_lsb
    found = ascent(ball, ball.random(rng), y, y, steps, epsilon, step, 0.0)
    return found.x, found.score


def _compile_step(model: Any, optimizer: Any, config: TrainingConfig, static: Sequence[Any], clean_share: Any) -> Any:
    tf = runtime().tf
    loss_of = objective(config, static, clean_share)

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(clean: Any, attacked: Any, y: Any, rate: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(model, clean, attacked, y)
            if config.defensive.beta:
                loss += defensive_penalty(model, config.defensive)
        variables = model.trainable_variables
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


def _compile_certificate(model: Any) -> Any:
    tf = runtime().tf

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def proved(corners: Any, y: Any) -> Any:
        margins = margin_bounds(model, Interval(corners[0], corners[1]), y)
        others = tf.where(tf.one_hot(y, tf.shape(margins)[1]) > 0, tf.ones_like(margins), margins)
        return tf.reduce_sum(tf.cast(tf.reduce_min(others, axis=1) > 0, tf.int32))

    return proved


def _compile_evaluation(model: Any) -> Any:
    tf = runtime().tf

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def evaluate(x: Any, y: Any) -> Any:
        logits = model(x, training=False)
        hits = tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1) == y, tf.int32))
        return tf.reduce_sum(cross_entropy(logits, y)), hits

    return evaluate
