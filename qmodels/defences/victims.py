"""A defended network is a victim like any other: every attack, table and flag works on it.

A filter changes what the network is shown. A detector shows it the input and squeezed views of it, and refuses the
input where the answers differ too much; its outputs are the logits, then those of every view, then how far the
disagreement lies above the threshold (`qmodels.criteria.Rejecting` reads them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.defences.filters import Filter, Identity, Place
from qmodels.grid import Codes
from qmodels.runtime import runtime
from qmodels.tasks import anomaly_threshold
from qmodels.tracing import Traced
from qmodels.victims import GradientModel, GradientVictim, Logits, Victim

Tensor = Any


@dataclass(frozen=True)
class Defence:
    """What stands before a network."""

    views: tuple[Filter, ...]  # what it is shown; its answer is that to the first
    threshold: float | None = None  # of the disagreement between the first view and the others; None: no detector

    @property
    def place(self) -> Place:
        """In hardware only what is a function of one input on the grid there; comparing answers is for the host."""
        alone = self.threshold is None and all(view.place == "hardware" for view in self.views)
        return "hardware" if alone else "host"

    def device_inputs(self, x: Codes) -> list[Codes]:
        """All that the device sees of inputs (N, ...)."""
        return [view.codes(x) for view in self.views]


def detector(squeezers: Sequence[Filter], victim: Victim, clean: Codes, false_positive_rate: float) -> Defence:
    """A detector whose threshold refuses no more than that share of clean inputs.

    Args:
        squeezers: each gives a view.
        victim: the network behind it; each has a threshold of its own.
        clean: validation inputs, never test inputs.
        false_positive_rate: of them.
    """
    views = (Identity(), *squeezers)
    scores = disagreement([victim.logits(view.codes(clean)) for view in views])
    return Defence(views, anomaly_threshold(scores, false_positive_rate))


def disagreement(answers: Sequence[Logits]) -> NDArray[np.float64]:
    """(N,) the largest L1 distance between the first view's probabilities and another's (arXiv:1704.01155, eq. 4)."""
    first, *others = (_softmax(logits) for logits in answers)
    return np.asarray(np.max([np.abs(first - other).sum(axis=1) for other in others], axis=0))


def _softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


class DefendedVictim:
    """A victim behind a defence, through its outputs only."""

    def __init__(self, inner: Victim, defence: Defence) -> None:
        self.inner, self.defence = inner, defence
        self.name: str = inner.name
        self.grid = inner.grid

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r}, {self.defence})"

    def logits(self, x: Codes) -> Logits:
        """The network's outputs for what the defence shows it; a detector's as the module says."""
        answers = [self.inner.logits(view) for view in self.defence.device_inputs(x)]
        if self.defence.threshold is None:
            return answers[0]
        above = (disagreement(answers) - self.defence.threshold).astype(np.float32) if len(x) else np.empty(0, "f4")
        return np.concatenate([*answers, above[:, None]], axis=1)


class GradientDefendedVictim(DefendedVictim):
    """The same for an attacker who knows the defence and follows gradients through it."""

    def __init__(self, inner: GradientVictim, defence: Defence) -> None:
        super().__init__(inner, defence)
        self.gradient_model: GradientModel = DefendedModel(inner.gradient_model, defence)


class _WrappedModel(GradientModel):
    """A differentiable model around another one."""

    def __init__(self, inner: GradientModel) -> None:
        super().__init__(None, inner.grid, inner.head, prepare=lambda _: inner.model, engine=lambda *_: inner.engine)
        self.inner = inner

    @property
    def plain_engine(self) -> None:
        """None: something stands before the network, or behind it."""

    @cached_property
    def forward(self) -> Traced:
        """The model's forward pass, traced once: outputs of what the model takes. Not to be differentiated."""
        return self.inner.forward


class DefendedModel(_WrappedModel):
    """A differentiable model behind a defence: the defence itself forward, a gradient through it backward."""

    def __init__(self, inner: GradientModel, defence: Defence) -> None:
        super().__init__(inner)
        self.defence = defence

    def __repr__(self) -> str:
        return f"DefendedModel({self.inner!r}, {self.defence})"

    def through(self, points: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """`outputs`, with the model's forward pass given."""
        answers = [self.inner.through(view.tensors(points), forward) for view in self.defence.views]
        if self.defence.threshold is None:
            return answers[0]
        tf = runtime().tf
        first, *others = (tf.nn.softmax(logits) for logits in answers)
        apart = tf.stack([tf.reduce_sum(tf.abs(first - other), axis=1) for other in others], axis=1)
        above = tf.reduce_max(apart, axis=1, keepdims=True) - self.defence.threshold
        return tf.concat([*answers, above], axis=1)


def defended(victim: Victim, defence: Defence) -> Victim:
    """The victim behind the defence."""
    if isinstance(victim, GradientVictim):
        return GradientDefendedVictim(victim, defence)
    return DefendedVictim(victim, defence)


class TemperedModel(_WrappedModel):
    """A model whose logits are divided by a temperature: what an attacker of a distilled network follows.

    The temperature is rounded to a power of two, so that no two different logits become equal.
    """

    def __init__(self, inner: GradientModel, temperature: float) -> None:
        super().__init__(inner)
        self.scale = float(2.0 ** -round(float(np.log2(temperature))))

    def __repr__(self) -> str:
        return f"TemperedModel({self.inner!r}, {self.scale:g})"

    def through(self, points: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """`outputs`, with the model's forward pass given."""
        return self.inner.through(points, forward) * self.scale
