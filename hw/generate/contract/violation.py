"""What a rule says of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

RepairKind = Literal["input", "fold", "softmax"]


@dataclass(frozen=True)
class Violation:
    """One setting that hls4ml would not reproduce."""

    layer: str  # layer name, or "" for the model as a whole
    setting: str
    problem: str
    fix: str
    silently: str  # what hls4ml does with it when nobody checks
    repair: RepairKind | None = None  # which repair mends it without changing what the model computes
    blocks_repair: bool = False  # no repair looks into such a model

    def __str__(self) -> str:
        where = f"layer {self.layer!r}: " if self.layer else ""
        return f"{where}{self.problem}; {self.fix}. Unchecked, {self.silently}"


Rule = Callable[[Any, str], Iterator[Violation]]


def plain(value: Any) -> Any:
    """A TensorFlow variable's or an array's numbers as Python's own; everything else as it is."""
    value = value.numpy() if hasattr(value, "numpy") else value
    return value.tolist() if hasattr(value, "tolist") else value
