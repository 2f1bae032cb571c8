"""Who stands in a run's table: the forms of its network, the same behind a defence, and the attacker's own models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hw.experiment.run import Run
from qmodels.criteria import MISCLASSIFICATION, Criterion
from qmodels.defences import Defence
from qmodels.victims import AcceleratorVictim, KerasVictim, Victim


@dataclass(frozen=True)
class Contestant:
    """A model in the table: its row name, its victim, and the bits of a weight (None: float, or the user's QKeras)."""

    label: str
    victim: Victim
    bits: float | None = None
    #: Digest of a model of the attacker's own: examples made on it are black-box attacks. Empty: a model of the run.
    apart: str = ""
    criterion: Criterion = MISCLASSIFICATION  # when an attack on it has succeeded
    defence: Defence | None = None  # what stands before it
    own: str = ""  # digest of what its victim depends on besides the run's models

    @property
    def who(self) -> tuple[str, str]:
        """What tells it apart in a table."""
        return self.label, self.victim.name


@dataclass(frozen=True)
class Team:
    """Forms of one network that stand beside each other."""

    sources: tuple[Contestant, ...]  # the differentiable ones, the quantized one last
    accelerator: Contestant
    with_gradients: Contestant | None  # the accelerator with the quantized model's gradients, where there are any

    @property
    def all(self) -> tuple[Contestant, ...]:
        """All forms."""
        return (*self.sources, self.accelerator)


def sources(run: Run) -> list[Contestant]:
    """The differentiable models: float, float mapped, quantized; one of the first two where they are the same.

    None where the accelerator has no Keras model.
    """
    if not run.has_model:
        return []
    found: list[tuple[str, KerasVictim, float | None]] = []
    if run.float_victim is not None and (run.config.mapping.mu > 0 or run.mapped_victim is None):
        found.append((run.config.model_label, run.float_victim, None))
    if run.mapped_victim is not None:
        found.append((run.config.mapped_label, run.mapped_victim, None))
    found.append((run.config.mapped_label, run.prequantized, run.weight_bits))
    criterion = run.task.criterion
    return [Contestant(label, run.task.view(one), bits, criterion=criterion) for label, one, bits in found]


def accelerator_of(run: Run) -> Contestant:
    """The accelerator, in the simulator that the config asks for."""
    return _on_device(run, run.device)


def plain_team(run: Run) -> Team:
    """The run's network, without a defence before it."""
    judged = AcceleratorVictim(run.device, run.device_gradients) if run.has_gradients else None
    return Team(tuple(sources(run)), accelerator_of(run), None if judged is None else _on_device(run, judged))


def _on_device(run: Run, victim: Any) -> Contestant:
    return Contestant(run.config.mapped_label, run.task.view(victim), run.weight_bits, criterion=run.task.criterion)


def attackers(run: Run) -> list[Contestant]:
    """Models of the attacker's own (`evaluation.black_box`); trained by the attack step."""
    found = []
    for own, wanted in zip(run.black_box, run.config.evaluation.black_box, strict=True):
        if wanted.quantization is None:
            victim, bits, made = (
                KerasVictim(own.mapped_model, "float", run.data.grid),
                None,
                own.folder.outputs("map")["mapped.keras"],
            )
        else:
            victim, bits, made = own.prequantized, own.weight_bits, own.folder.outputs("quantize")["quantized.keras"]
        found.append(Contestant(wanted.name, run.task.view(victim), bits, made, run.task.criterion))
    return found


def followed(contestant: Contestant, gradient_model: Any, own: str) -> Contestant:
    """The same contestant with other gradients to follow."""
    return replace(contestant, victim=AcceleratorVictim(contestant.victim, gradient_model), own=own)
