"""What the store's results must look like: somebody may have edited them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from qmodels.shapes import Part, Share, Strength


class ScorePart(Part):
    """An accuracy with its evidence."""

    accuracy: Share


class MeasurePart(Part):
    """Of stage measure."""

    cost: dict[str, Annotated[int, Field(ge=0, lt=1 << 63)]]
    weights: dict[str, Annotated[int, Field(ge=0, lt=1 << 63)]]
    delta_w: dict[str, Strength]
    clean: ScorePart


class ScreenRow(Part):
    """What of a row is read."""

    attack: str
    epsilon_lsb: Strength | None
    accuracy: Share
    flags: list[str] = Field(default=[])


class ScreenPart(Part):
    """Of stage screen."""

    rows: list[ScreenRow]


class FinalPart(Part):
    """Of stage final."""

    clean: ScorePart
    worst: ScorePart
    rows: list[ScreenRow]


class DescendPart(Part):
    """Of stage descend."""

    losses: dict[str, dict[str, Strength]]
    sizes: dict[str, Annotated[int, Field(gt=0, lt=1 << 63)]]


class TrainingPart(Part):
    """Of stages train and aware."""

    files: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]]


SHAPES: dict[str, Any] = {
    "train": TrainingPart,
    "aware": TrainingPart,
    "descend": DescendPart,
    "measure": MeasurePart,
    "screen": ScreenPart,
    "worst": ScorePart,
    "final": FinalPart,
}
