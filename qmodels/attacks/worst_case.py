"""The worst case: several strong attacks in turn, each on what the ones before left standing.

In the spirit of AutoAttack (Croce & Hein 2020, arXiv:2003.01690). Give it an `AcceleratorVictim`: then gradients
come from the QKeras model, Square and HopSkipJump ask the accelerator itself, and the accelerator judges all.
An image's state is kept in a file as soon as its batch is through an attack, so that a stopped run resumes there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from qmodels.attacks.apgd import APGD, APGDDLR, APGDTargeted
from qmodels.attacks.ball import Epsilon
from qmodels.attacks.base import AnyAttack, Attack, AttackResult, Diagnostics, Family, Problem
from qmodels.attacks.decision import HopSkipJumpLinf
from qmodels.attacks.fmn import FMNLinf
from qmodels.attacks.square import Square
from qmodels.criteria import MISCLASSIFICATION, Criterion, Truth
from qmodels.digest import digest
from qmodels.errors import ARCHIVE_ERRORS
from qmodels.grid import Codes, Points
from qmodels.progress import progress_bar
from qmodels.storage import atomic_path
from qmodels.victims import GradientVictim, Victim

NOT_FALLEN, CLEAN_ERROR = -1, -2
STANDARD: tuple[Attack, ...] = (
    APGD(),
    APGDDLR(),
    APGDTargeted(),
    FMNLinf(),
    Square(queries=2000),
    HopSkipJumpLinf(queries=2000),
)


@dataclass
class Survivors:
    """Per image: the example, which attack it fell to, how many attacks it has been through, queries spent."""

    x: Codes  # the example; the clean image while it stands
    fell_to: NDArray[np.int16]  # index of the attack, NOT_FALLEN or CLEAN_ERROR
    through: NDArray[np.int16]
    queries: NDArray[np.int64]
    zero_gradient: NDArray[np.float64]  # share of its batch with a zero gradient, of the first gradient attack

    @classmethod
    def begin(cls, x: Codes) -> Survivors:
        """Nothing tried yet."""
        count = len(x)
        through, queries = np.zeros(count, np.int16), np.zeros(count, np.int64)
        return cls(x.copy(), np.full(count, NOT_FALLEN, np.int16), through, queries, np.zeros(count))

    def save(self, path: Path, key: str) -> None:
        """Write the record; a reader never sees half of it."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, key=key, **vars(self))

    @classmethod
    def load(cls, path: Path, key: str) -> Survivors | None:
        """The record in `path` if it is whole and about the same question."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["key"]) != key:
                    return None
                return cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, *ARCHIVE_ERRORS):
            return None

    def take_over(self, result: AttackResult, todo: NDArray[np.int64], index: int, batch: NDArray[np.int64]) -> None:
        """Note what one attack did to the images `todo` of a batch."""
        fallen = todo[result.success]
        self.x[fallen] = result.x[result.success]
        self.fell_to[fallen] = index
        self.queries[todo] += result.queries // len(todo)
        if index == 0:
            self.zero_gradient[batch] = result.diagnostics.zero_gradient_share


class WorstCase(Attack):
    """The per-sample minimum over `attacks`; on a victim without gradients only the black-box ones run."""

    kind: ClassVar[str] = "worst-case"
    family: ClassVar[Family] = "worst-case"

    attacks: tuple[AnyAttack, ...] = Field(STANDARD, min_length=1)
    batch: int = Field(250, ge=1, description="images that go through the attacks together")

    @field_validator("attacks")
    @classmethod
    def _one_norm(cls, attacks: tuple[Attack, ...]) -> tuple[Attack, ...]:
        for attack in attacks:
            if attack.norm != "linf" or attack.family in ("worst-case", "noise"):
                raise ValueError(f"{attack.kind} has no place in a worst case; allowed: L-infinity attacks")
        return attacks

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """As `evaluate`, with the state file that the caller gave, if any."""
        seed = int(rng.integers(2**31))
        found = self.evaluate(
            problem.victim, problem.clean, problem.y, epsilon_lsb=problem.ball.epsilon, seed=seed,
            criterion=problem.criterion, state=problem.state, starts=problem.starts,
        )  # fmt: skip
        problem.count(int(found.queries.sum()))
        return found.x, Diagnostics(float(found.zero_gradient.mean()))

    def evaluate(
        self,
        victim: Victim,
        x: Codes,
        y: Truth,
        *,
        epsilon_lsb: Epsilon,
        seed: int,
        criterion: Criterion = MISCLASSIFICATION,
        state: Path | None = None,
        starts: Codes | None = None,
    ) -> Survivors:
        """Run every attack on every image that still stands.

        Args:
            victim: judge of all attacks; source of gradients if it has them.
            x: codes of the clean images.
            y: true labels.
            epsilon_lsb: radius of the L-infinity ball in grid steps.
            seed: every attack and batch derives its own from it, so that resuming changes nothing.
            criterion: when an image has fallen.
            state: file to resume from and to keep up to date.
            starts: as for any attack.
        """
        key = self.question(victim.name, x, y, epsilon_lsb, seed, criterion)
        found = (Survivors.load(state, key) if state else None) or Survivors.begin(x)
        usable = [a for a in self.attacks if isinstance(victim, GradientVictim) or a.knowledge == "black-box"]
        with progress_bar("worst case", len(x) * len(usable)) as bar:
            for rows in self.batches(len(x)):
                if not found.through[rows].any():
                    mistaken = rows[criterion.wrong(victim.logits(x[rows]), y[rows])]
                    found.fell_to[mistaken] = CLEAN_ERROR
                for index, attack in enumerate(usable):
                    todo = rows[(found.fell_to[rows] == NOT_FALLEN) & (found.through[rows] <= index)]
                    if len(todo):
                        own = int(np.random.SeedSequence([seed, index, int(rows[0])]).generate_state(1)[0])
                        part = attack(
                            victim, x[todo], y[todo],
                            epsilon_lsb=epsilon_lsb, seed=own, criterion=criterion, starts=starts,
                        )  # fmt: skip
                        found.take_over(part, todo, index, rows)
                    found.through[rows] = np.maximum(found.through[rows], index + 1)
                    if state:
                        found.save(state, key)
                    bar.advance(len(rows), f"{attack.label}: {np.mean(found.fell_to == NOT_FALLEN):.1%} not fallen")
        return found

    def batches(self, count: int) -> Iterator[NDArray[np.int64]]:
        """Row numbers, batch by batch."""
        return (np.arange(first, min(first + self.batch, count)) for first in range(0, count, self.batch))

    def question(
        self, victim: str, x: Codes, y: Truth, epsilon_lsb: Epsilon, seed: int, criterion: Criterion = MISCLASSIFICATION
    ) -> str:
        """Digest of all that the answer depends on, but for the victim's weights: give each victim its own file."""
        epsilon = np.asarray(epsilon_lsb, float).tolist()
        settings = [victim, self.model_dump(mode="json"), epsilon, seed, repr(criterion)]
        return digest(json.dumps(settings, sort_keys=True), str(x.dtype), x, str(y.dtype), y)
