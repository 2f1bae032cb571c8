"""How much a model and its accelerator differ, where nothing promises that they are equal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qmodels.victims import Logits, decisions


@dataclass(frozen=True)
class Difference:
    """What of a model's answers its accelerator does not give."""

    outputs: int
    of_outputs: int
    decisions: int
    of_decisions: int  # 0: the model has one output, which is no choice among classes
    largest_gap: float
    first_layer: str = ""  # of one differing input, and what probably makes it differ
    suspect: str = ""

    def __add__(self, other: Difference) -> Difference:
        """Of two sets of inputs together; the layer is that of the first that has one."""
        told = self if self.first_layer or self.suspect else other
        return Difference(
            self.outputs + other.outputs,
            self.of_outputs + other.of_outputs,
            self.decisions + other.decisions,
            self.of_decisions + other.of_decisions,
            max(self.largest_gap, other.largest_gap),
            told.first_layer,
            told.suspect,
        )

    def __str__(self) -> str:
        if not self.outputs:
            return f"the accelerator gave the model's bits in all {self.of_outputs} outputs, which is not guaranteed"
        of_all = f"{_share(self.outputs, self.of_outputs)} outputs"
        chosen = f" and {_share(self.decisions, self.of_decisions)} decisions" if self.of_decisions else ""
        where = f", beginning in layer {self.first_layer!r}" if self.first_layer else ""
        why = f"; {self.suspect}" if self.suspect else ""
        return (
            f"the accelerator differs from the model in {of_all}{chosen}, by at most {self.largest_gap:g}{where}{why}"
        )

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self) | {"told": str(self)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Difference:
        """What `as_json` wrote."""
        return cls(**{name: plain[name] for name in cls.__dataclass_fields__})


def difference(model: Logits, accelerator: Logits) -> Difference:
    """Count where two answers to the same inputs (N, outputs) differ; where it begins is not known yet."""
    ours = accelerator.reshape(len(accelerator), -1)
    theirs = model.reshape(len(model), -1)
    differs = theirs != ours
    gaps = np.abs(theirs.astype(np.float64) - ours)
    chooses = theirs.shape[1] > 1
    return Difference(
        outputs=int(np.count_nonzero(differs)),
        of_outputs=differs.size,
        decisions=int(np.count_nonzero(decisions(theirs) != decisions(ours))) if chooses else 0,
        of_decisions=len(theirs) if chooses else 0,
        largest_gap=float(np.max(gaps[np.isfinite(gaps)], initial=0.0)),
    )


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.3g} %)"
