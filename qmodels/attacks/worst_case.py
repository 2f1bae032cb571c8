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
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.apgd import APGD, APGDDLR, APGDTargeted
from qmodels.attacks.base import LEVELS, Attack, Diagnostics, Family, QueryCounter
from qmodels.attacks.decision import HopSkipJumpLinf
from qmodels.attacks.fmn import FMNLinf
from qmodels.attacks.square import Square
from qmodels.digest import digest
from qmodels.errors import ARCHIVE_ERRORS
from qmodels.progress import progress_bar
from qmodels.storage import atomic_path
from qmodels.victims import GradientVictim, Images, Labels, predictions

NOT_FALLEN, CLEAN_ERROR = -1, -2
Member = Annotated[APGD | APGDDLR | APGDTargeted | FMNLinf | Square | HopSkipJumpLinf, Field(discriminator="kind")]
STANDARD: tuple[Member, ...] = (
    APGD(),
    APGDDLR(),
    APGDTargeted(),
    FMNLinf(),
    Square(queries=2000),
    HopSkipJumpLinf(queries=2000),
)


@dataclass
class Record:
    """Per image: the example, which attack it fell to, how many attacks it has been through, queries spent."""

    steps: NDArray[np.uint8]  # the example in LSBs; the clean image while it stands
    fell_to: NDArray[np.int16]  # index of the attack, NOT_FALLEN or CLEAN_ERROR
    through: NDArray[np.int16]
    queries: NDArray[np.int64]
    zero_gradient: NDArray[np.float64]  # share of its batch with a zero gradient, of the first gradient attack

    @classmethod
    def begin(cls, x: Images) -> Record:
        """Nothing tried yet."""
        count = len(x)
        steps = np.rint(x.astype(np.float64) * LEVELS).astype(np.uint8)
        through, queries = np.zeros(count, np.int16), np.zeros(count, np.int64)
        return cls(steps, np.full(count, NOT_FALLEN, np.int16), through, queries, np.zeros(count))

    def save(self, path: Path, key: str) -> None:
        """Write the record; a reader never sees half of it."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, key=key, **vars(self))

    @classmethod
    def load(cls, path: Path, key: str) -> Record | None:
        """The record in `path` if it is whole and about the same question."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["key"]) != key:
                    return None
                return cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, *ARCHIVE_ERRORS):
            return None


class WorstCase(Attack):
    """The per-sample minimum over `attacks`; on a victim without gradients only the black-box ones run."""

    kind: Literal["worst-case"] = "worst-case"
    family: ClassVar[Family] = "worst-case"

    attacks: tuple[Member, ...] = Field(STANDARD, min_length=1)
    batch: int = Field(250, ge=1, description="images that go through the attacks together")

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """As `evaluate`, with the state file that the caller gave, if any."""
        seed = int(rng.integers(2**31))
        record = self.evaluate(victim.victim, x, y, epsilon_lsb=epsilon_lsb, seed=seed, state=victim.state)
        victim.queries += int(record.queries.sum())
        return (record.steps / LEVELS).astype(np.float32), Diagnostics(float(record.zero_gradient.mean()))

    def evaluate(
        self, victim: Any, x: Images, y: Labels, *, epsilon_lsb: float, seed: int, state: Path | None = None
    ) -> Record:
        """Run every attack on every image that still stands.

        Args:
            victim: judge of all attacks; source of gradients if it has them.
            x: clean images on the grid.
            y: true labels.
            epsilon_lsb: radius of the L-infinity ball in LSBs.
            seed: every attack and batch derives its own from it, so that resuming changes nothing.
            state: file to resume from and to keep up to date.
        """
        key = self.question(victim.name, x, y, epsilon_lsb, seed)
        record = (Record.load(state, key) if state else None) or Record.begin(x)
        usable = [a for a in self.attacks if isinstance(victim, GradientVictim) or a.knowledge == "black-box"]
        with progress_bar("worst case", len(x) * len(usable)) as bar:
            for rows in self.batches(len(x)):
                if not record.through[rows].any():
                    mistaken = rows[predictions(victim, x[rows]) != y[rows]]
                    record.fell_to[mistaken] = CLEAN_ERROR
                for index, attack in enumerate(usable):
                    self.attack_batch(record, rows, index, attack, victim, x, y, epsilon_lsb, seed)
                    if state:
                        record.save(state, key)
                    bar.advance(len(rows), f"{attack.label}: {np.mean(record.fell_to == NOT_FALLEN):.1%} not fallen")
        return record

    def attack_batch(
        self, record: Record, rows: NDArray[np.int64], index: int, attack: Attack, victim: Any,
        x: Images, y: Labels, epsilon_lsb: float, seed: int,
    ) -> None:  # fmt: skip
        """One attack on those of a batch that still stand and have not been through it."""
        todo = rows[(record.fell_to[rows] == NOT_FALLEN) & (record.through[rows] <= index)]
        if len(todo):
            own = int(np.random.SeedSequence([seed, index, int(rows[0])]).generate_state(1)[0])
            result = attack(victim, x[todo], y[todo], epsilon_lsb=epsilon_lsb, seed=own)
            fallen = todo[result.success]
            record.steps[fallen] = np.rint(result.x[result.success] * LEVELS).astype(np.uint8)
            record.fell_to[fallen] = index
            record.queries[todo] += result.queries // len(todo)
            if index == 0:
                record.zero_gradient[rows] = result.diagnostics.zero_gradient_share
        record.through[rows] = np.maximum(record.through[rows], index + 1)

    def batches(self, count: int) -> Iterator[NDArray[np.int64]]:
        """Row numbers, batch by batch."""
        return (np.arange(first, min(first + self.batch, count)) for first in range(0, count, self.batch))

    def question(self, victim: str, x: Images, y: Labels, epsilon_lsb: float, seed: int) -> str:
        """Digest of all that the answer depends on, but for the victim's weights: give each victim its own file."""
        settings = json.dumps([victim, self.model_dump(mode="json"), float(epsilon_lsb), seed], sort_keys=True)
        return digest(settings, x, y)
