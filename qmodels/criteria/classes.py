"""Criteria for outputs that are logits: the victim's class is its largest logit; of equal ones the first counts."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from qmodels.criteria.base import CriterionConfig, Outputs, Truth, finite_rows
from qmodels.losses import LossName, Tensor, loss_function, margin, margin_to, set_loss, targeted_dlr
from qmodels.runtime import runtime
from qmodels.victims import Labels, decisions

_NUDGE = 1e-6  # lifts the margin of a tie that goes to a wrong class above zero


class ClassCriterion(CriterionConfig):
    """Some classes are right for an input, all others are wrong."""

    @abstractmethod
    def allowed(self, y: Truth, classes: int) -> NDArray[np.bool_]:
        """Which classes are right: (N, classes)."""

    @abstractmethod
    def allowed_tensor(self, y: Tensor, classes: int) -> Tensor:
        """The same in TensorFlow."""

    def fooled(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where a wrong class wins."""
        return self.wrong(outputs, y) & finite_rows(outputs)

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where a wrong class wins or there is none."""
        classes = decisions(outputs)
        right = self.allowed(y, outputs.shape[1])[np.arange(len(classes)), classes]
        return np.asarray(~right | (classes < 0))

    def margins(self, outputs: Outputs, y: Truth) -> NDArray[np.float64]:
        """Best right logit minus best wrong one; a tie that the victim decides for a wrong class counts as wrong."""
        logits = outputs.astype(np.float64)
        finite, allowed = finite_rows(logits), self.allowed(y, outputs.shape[1])
        logits[~finite] = 0.0
        wrong = ~allowed[np.arange(len(logits)), logits.argmax(axis=1)]
        right, rival = (np.where(part, logits, -np.inf).max(axis=1) for part in (allowed, ~allowed))
        gap = right - rival
        gap = np.where(wrong & (gap >= 0), -1e-9, gap)
        return np.where(finite, gap, np.inf)

    def differ(self, outputs: Outputs, others: Outputs) -> NDArray[np.bool_]:
        """Where the classes differ."""
        return np.asarray(decisions(outputs) != decisions(others))

    def targets(self, outputs: Outputs, y: Truth, count: int) -> Labels:
        """The likeliest wrong classes."""
        return self.rivals(outputs, y, count + 1)[:, 1:]

    def rivals(self, outputs: Outputs, y: Truth, count: int) -> Labels:
        """(N, up to `count`): the likeliest right class, then the likeliest wrong ones."""
        allowed, scores = self.allowed(y, outputs.shape[1]), np.nan_to_num(outputs.astype(np.float64))
        right = np.where(allowed, scores, -np.inf).argmax(axis=1)
        wrong = np.argsort(-np.where(allowed, -np.inf, scores), axis=1, kind="stable")
        most = min(count - 1, int((~allowed).sum(axis=1).min(initial=outputs.shape[1])))
        return np.concatenate([right[:, None], wrong[:, :most]], axis=1).astype(np.int64)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Best wrong logit minus the best right one, a hair above zero where a tie already goes to a wrong class."""
        tf = runtime().tf
        allowed = self.allowed_tensor(y, outputs.shape[-1])
        winner = tf.one_hot(tf.argmax(outputs, axis=1), outputs.shape[-1], on_value=True, off_value=False)
        wrong = tf.cast(tf.reduce_any(winner & ~allowed, axis=1), outputs.dtype)
        finite = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
        gap = tf.where(wrong > 0, tf.maximum(self.gap(outputs, y), _NUDGE), self.gap(outputs, y))
        return tf.where(finite, gap, tf.constant(-np.inf, outputs.dtype))

    def gap(self, outputs: Tensor, y: Tensor) -> Tensor:
        """(N,) best wrong logit minus the best right one."""
        return margin_to(outputs, self.allowed_tensor(y, outputs.shape[-1]))

    @abstractmethod
    def loss(self, name: LossName) -> Any:
        """The loss of that name."""


class Misclassification(ClassCriterion):
    """The victim's class is not the true label."""

    kind: Literal["misclassification"] = Field("misclassification", repr=False)

    def allowed(self, y: Truth, classes: int) -> NDArray[np.bool_]:
        """The label."""
        return np.asarray(np.arange(classes) == y[:, None])

    def allowed_tensor(self, y: Tensor, classes: int) -> Tensor:
        """The label."""
        return runtime().tf.one_hot(y, classes, on_value=True, off_value=False, dtype=runtime().tf.bool)

    def wrong(self, outputs: Outputs, y: Truth) -> NDArray[np.bool_]:
        """Where another class wins or there is none. Attacks that see decisions only ask for nothing else."""
        return np.asarray(decisions(outputs) != y)

    def gap(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Best wrong logit minus the right one."""
        return margin(outputs, y)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Best wrong logit minus the right one, a hair above zero where a tie already goes to a wrong class."""
        tf = runtime().tf
        wrong = tf.cast(tf.argmax(outputs, axis=1) != tf.cast(y, tf.int64), outputs.dtype)
        finite = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
        return tf.where(finite, margin(outputs, y) + _NUDGE * wrong, tf.constant(-np.inf, outputs.dtype))

    def loss(self, name: LossName) -> Any:
        """The loss of that name."""
        return loss_function(name)


class Targeted(ClassCriterion):
    """The victim's class is `target`, whatever the input is. Inputs that are of that class count as taken for it."""

    kind: Literal["targeted"] = Field("targeted", repr=False)
    target: int = Field(ge=0)

    def allowed(self, y: Truth, classes: int) -> NDArray[np.bool_]:
        """All classes but the target."""
        return np.tile(np.arange(classes) != self.target, (len(y), 1))

    def allowed_tensor(self, y: Tensor, classes: int) -> Tensor:
        """All classes but the target."""
        tf = runtime().tf
        return tf.tile(tf.constant([[label != self.target for label in range(classes)]]), [tf.shape(y)[0], 1])

    def loss(self, name: LossName) -> Any:
        """The untargeted loss with the target as the label, turned round: it grows as the target gains.

        DLR is the targeted one, from the best other class: the plain one is constant where the target is third.
        """
        if name in ("dlr", "dlr-targeted"):
            return self._ratio
        away = loss_function(name)

        def towards(outputs: Tensor, y: Tensor, _target: Tensor) -> Tensor:
            label = runtime().tf.fill([runtime().tf.shape(outputs)[0]], self.target)
            return -away(outputs, label, label)

        return towards

    def _ratio(self, outputs: Tensor, y: Tensor, _target: Tensor) -> Tensor:
        tf, allowed = runtime().tf, self.allowed_tensor(y, outputs.shape[-1])
        if outputs.shape[-1] < 4:  # its denominator needs a fourth logit
            return margin_to(outputs, allowed)
        rival = tf.argmax(tf.where(allowed, outputs, outputs.dtype.min), axis=1)
        return targeted_dlr(outputs, rival, tf.fill([tf.shape(outputs)[0]], self.target))


class GroupMisclassification(ClassCriterion):
    """The victim's class lies in another group than the true label; a class in no group is a group of its own."""

    kind: Literal["group"] = Field("group", repr=False)
    groups: tuple[tuple[int, ...], ...] = Field(min_length=1)

    @field_validator("groups")
    @classmethod
    def _apart(cls, groups: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        named = [label for group in groups for label in group]
        twice = sorted({label for label in named if named.count(label) > 1})
        if twice or min(named, default=0) < 0:
            raise ValueError(f"groups: class {twice[0] if twice else min(named)} is negative or in two places")
        return groups

    def allowed(self, y: Truth, classes: int) -> NDArray[np.bool_]:
        """The label's group."""
        group = np.array([self._group_of.get(label, -1 - label) for label in range(classes)])
        return np.asarray(group[y][:, None] == group)

    @cached_property
    def _group_of(self) -> dict[int, int]:
        return {label: number for number, group in enumerate(self.groups) for label in group}

    def allowed_tensor(self, y: Tensor, classes: int) -> Tensor:
        """The label's group."""
        return runtime().tf.gather(runtime().tf.constant(self.allowed(np.arange(classes), classes)), y)

    def loss(self, name: LossName) -> Any:
        """The loss of that name with the group in place of the label; those that know one class only: the margin."""
        return lambda outputs, y, _target: set_loss(name)(outputs, self.allowed_tensor(y, outputs.shape[-1]))


MISCLASSIFICATION = Misclassification()
