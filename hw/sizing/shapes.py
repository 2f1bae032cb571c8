"""What the store's results must look like: somebody may have edited them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from qmodels.shapes import Part, Share, Strength

Mask = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class ScorePart(Part):
    """An accuracy with its evidence."""

    accuracy: Share


class MeasurePart(Part):
    """Of stage measure."""

    cost: dict[str, Annotated[int, Field(ge=0, lt=1 << 63)]]
    weights: dict[str, Annotated[int, Field(ge=0, lt=1 << 63)]]
    delta_w: dict[str, Strength]
    clean: ScorePart
    fallen: Mask
    exact_inputs: Annotated[int, Field(gt=0, lt=1 << 31)]
    converted: bool


class ScreenRow(Part):
    """What of a row is read."""

    attack: str
    epsilon_lsb: Strength | None
    accuracy: Share
    flags: list[str] = Field(default=[])


class FallenPart(Part):
    """Of stages pool and attack."""

    fallen: Mask


class ProofPart(Part):
    """Of stage certify."""

    certified: Mask


class FinalPart(Part):
    """Of stage final."""

    clean: ScorePart
    worst: ScorePart
    rows: list[ScreenRow]


class ReplicatePart(Part):
    """Of stage replicate."""

    clean: ScorePart
    worst: ScorePart


class DescendPart(Part):
    """Of stage descend."""

    layers: list[str]
    relus: list[str]


class TrainingPart(Part):
    """Of stages train and aware."""

    files: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]]


SHAPES: dict[str, Any] = {
    "train": TrainingPart,
    "aware": TrainingPart,
    "descend": DescendPart,
    "measure": MeasurePart,
    "certify": ProofPart,
    "pool": FallenPart,
    "attack": FallenPart,
    "final": FinalPart,
    "replicate": ReplicatePart,
}
