"""What a training leaves behind besides weights: plain values that go into JSON as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Level = Literal["high", "medium", "low"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Phase 0 is the training itself, phase r the r-th feedback round."""

    phase: int
    epoch: int  # within the phase, from 1
    learning_rate: float  # at the start of the epoch
    epsilon_lsb: float  # 0 where nothing is attacked
    loss: float  # mean over the batches
    validation_loss: float
    validation_accuracy: float
    validation_pgd_accuracy: float | None = None
    validation_certified_accuracy: float | None = None  # by interval bounds of floats: a guide, no proof

    @property
    def score(self) -> tuple[float, float]:
        """What early stopping maximises: the accuracy that counts, and among equals the smaller loss.

        A feedback round only refines, so that accuracies differ by a few validation images: there the loss decides.
        """
        for robust in (self.validation_certified_accuracy, self.validation_pgd_accuracy):
            if robust is not None:
                return (robust, -self.validation_loss)
        return (0.0 if self.phase else self.validation_accuracy, -self.validation_loss)


@dataclass(frozen=True)
class ClassMargin:
    """Margins of one class over its probe samples; a sample's margin is the mean of its smallest directions."""

    label: int
    samples: int  # correctly classified probe samples
    mean: float  # L2 distance
    min: float
    std: float


@dataclass(frozen=True)
class RoundRecord:
    """One feedback round: how robust each class was, how it was ranked, and what was made for it."""

    round: int
    levels: tuple[Level, ...]  # by class
    examples: tuple[int, ...]  # generated, by class
    before: tuple[ClassMargin, ...]
    after: tuple[ClassMargin, ...] = ()

    @property
    def generated(self) -> int:
        """Examples generated in this round."""
        return sum(self.examples)


@dataclass(frozen=True)
class TrainingReport:
    """The whole training, resumed parts included."""

    method: str
    epochs: int  # epochs run, all phases together
    best_epoch: int  # whose weights the model now has; counted from 1 over all phases
    history: tuple[EpochRecord, ...]
    seconds: float  # of all sessions together
    resumed_from: int | None  # epochs already done when this session began; None if it began afresh
    rounds: tuple[RoundRecord, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def joined(reports: Sequence[TrainingReport]) -> TrainingReport:
    """One report of trainings that followed each other; the best epoch is the last one's."""
    last, before = reports[-1], reports[:-1]
    earlier = sum(report.epochs for report in before)
    return replace(
        last,
        epochs=earlier + last.epochs,
        best_epoch=earlier + last.best_epoch,
        history=tuple(record for report in reports for record in report.history),
        seconds=round(sum(report.seconds for report in reports), 3),
    )
