"""An attack is a frozen config object; calling it is final: projection, success and counting happen here.

Subclasses write `run`, the algorithm, and may be sloppy about the ball and the grid; `__call__` is not.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from qmodels.victims import Images, Labels, Logits, Victim

Norm = Literal["linf", "l2", "l1", "l0", "none"]
Knowledge = Literal["white-box", "black-box", "transfer", "none"]
Family = Literal["gradient", "minimal-norm", "score", "decision", "noise", "worst-case", "none"]
LEVELS = 256  # the device sees x = k/256, k in 0..255


def device_bytes(x: Images) -> NDArray[np.uint8]:
    """Images on the grid as the device gets them, one byte an input."""
    return np.rint(x * LEVELS).astype(np.uint8)


def project_to_grid(x: Images) -> Images:
    """The nearest device input: x = k/256 with k in 0..255; NaN becomes 0."""
    steps = np.nan_to_num(np.rint(np.asarray(x, np.float64) * LEVELS), nan=0.0)
    return np.asarray(np.clip(steps, 0, LEVELS - 1) / LEVELS, np.float32)


def project_linf(x: Images, clean: Images, epsilon_lsb: int) -> Images:
    """Project onto the grid and into the L-infinity ball of `epsilon_lsb` grid steps, exactly."""
    steps = np.rint(project_to_grid(x).astype(np.float64) * LEVELS)
    centre = np.rint(clean.astype(np.float64) * LEVELS)
    clipped = np.clip(steps, np.maximum(centre - epsilon_lsb, 0), np.minimum(centre + epsilon_lsb, LEVELS - 1))
    return np.asarray(clipped / LEVELS, np.float32)


def project_l2(x: Images, clean: Images, epsilon_lsb: float) -> Images:
    """Project onto the grid and into the L2 ball of radius `epsilon_lsb` grid steps.

    The difference is scaled to the ball and then rounded towards zero, so that rounding cannot leave the ball.
    """
    wanted = np.where(np.isnan(x), clean, np.clip(x, 0.0, 1.0)).astype(np.float64)
    delta = (wanted - clean) * LEVELS
    norms = np.linalg.norm(delta.reshape(len(delta), -1), axis=1).reshape((-1,) + (1,) * (delta.ndim - 1))
    nearest = np.rint(delta)
    fits = np.linalg.norm(nearest.reshape(len(delta), -1), axis=1) <= epsilon_lsb
    scaled = np.trunc(delta * np.minimum(1.0, epsilon_lsb / np.maximum(norms, 1e-12)))
    steps = np.where(fits.reshape(norms.shape), nearest, scaled)
    centre = np.rint(clean.astype(np.float64) * LEVELS)
    return np.asarray(np.clip(centre + steps, 0, LEVELS - 1) / LEVELS, np.float32)


def look_like_probabilities(logits: Logits) -> bool:
    """Whether outputs are non-negative and add up to 1: softmax outputs handed in as logits."""
    sums = logits.sum(axis=1)
    return bool(len(logits)) and bool((logits >= 0).all() and np.allclose(sums, 1.0, atol=1e-3))


@dataclass
class QueryCounter:
    """A victim that counts the images it was shown; attacks query through it."""

    victim: Victim
    queries: int = 0
    non_finite: int = 0
    state: Path | None = None  # where a long attack may keep its progress

    @property
    def name(self) -> str:
        """The victim's name."""
        return self.victim.name

    def logits(self, x: Images) -> Logits:
        """Logits of the victim; non-finite outputs are counted."""
        self.queries += len(x)
        logits = self.victim.logits(x)
        self.non_finite += int(np.sum(~np.isfinite(logits).all(axis=1)))
        return logits


@dataclass(frozen=True)
class Diagnostics:
    """What an attack noticed about its gradients; feeds the masking flags."""

    zero_gradient_share: float = 0.0
    non_finite_share: float = 0.0
    softmax_outputs: bool = False
    #: Per image, the queries spent until it fell, -1 where it never did; black-box attacks fill it in.
    queries_to_success: tuple[int, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class AttackResult:
    """Adversarial examples of one attack at one epsilon, with the evidence."""

    attack: str
    x: Images  # (N, ...) on the grid and in the ball
    success: NDArray[np.bool_]  # (N,) the attacked victim is wrong on x
    epsilon_lsb: float
    queries: int  # images shown to the victim
    seconds: float
    seed: int
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    @property
    def accuracy(self) -> float:
        """The attacked victim's accuracy on these examples."""
        return float(1.0 - self.success.mean())

    def accuracy_after(self, queries: int) -> float:
        """Accuracy had every image been given only this many queries: the accuracy-vs-queries curve.

        Raises:
            ValueError: the attack keeps no count per image (gradient attacks do not).
        """
        if self.diagnostics.queries_to_success is None:
            raise ValueError(f"{self.attack} counts no queries per image: only black-box attacks do")
        spent = np.asarray(self.diagnostics.queries_to_success)
        return float(1.0 - np.mean(self.success & (spent >= 0) & (spent <= queries)))


class Attack(BaseModel):
    """Base of every attack: fields are its settings, `kind` its name in configs and tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    norm: ClassVar[Norm] = "linf"
    knowledge: ClassVar[Knowledge] = "white-box"
    family: ClassVar[Family] = "none"
    iterative: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The name shown in tables."""
        return self.kind

    @abstractmethod
    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """Candidates for adversarial examples, not necessarily on the grid or in the ball."""

    def __call__(
        self, victim: Victim, x: Images, y: Labels, *, epsilon_lsb: float, seed: int, state: Path | None = None
    ) -> AttackResult:
        """Attack `victim` on images `x` with true labels `y`.

        Args:
            victim: the model under attack (logits in).
            x: clean images (N, ...) on the input grid.
            y: true labels (N,).
            epsilon_lsb: radius of the ball in grid steps of 1/256; infinite for minimal-norm attacks.
            seed: of this call; same seed, same examples.
            state: file in which a long attack keeps its progress, to go on there when it was stopped.

        Returns:
            Examples on the grid and in the ball, judged by the victim itself.
        """
        started = perf_counter()
        counter = QueryCounter(victim, state=state)
        raw, diagnostics = self.run(counter, x, y, epsilon_lsb, np.random.default_rng(seed))
        candidates = self.project(raw, x, epsilon_lsb)
        logits = victim.logits(candidates)
        finite = np.isfinite(logits).all(axis=1)
        # A NaN output is a failure of the attack, not a success; it is flagged instead.
        success = (logits.argmax(axis=1) != y) & finite
        share = max(diagnostics.non_finite_share, counter.non_finite / max(counter.queries, 1), float(np.mean(~finite)))
        return AttackResult(
            self.label,
            candidates,
            success,
            epsilon_lsb,
            counter.queries,
            perf_counter() - started,
            seed,
            replace(
                diagnostics,
                non_finite_share=share,
                softmax_outputs=diagnostics.softmax_outputs or look_like_probabilities(logits),
            ),
        )

    def project(self, x: Images, clean: Images, epsilon_lsb: float) -> Images:
        """Onto the grid, and into the ball on the grid."""
        if self.norm == "linf" and np.isfinite(epsilon_lsb):
            return project_linf(x, clean, int(epsilon_lsb))
        if self.norm == "l2" and np.isfinite(epsilon_lsb):
            return project_l2(x, clean, epsilon_lsb)
        return project_to_grid(x)

    def curve(self, victim: Victim, x: Images, y: Labels, *, epsilons: list[float], seed: int) -> list[AttackResult]:
        """One result per epsilon (in LSBs): the accuracy-vs-epsilon curve."""
        return [self(victim, x, y, epsilon_lsb=epsilon, seed=seed) for epsilon in epsilons]
