"""What a rule says of a model, and how bad it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

#: "refused": hls4ml stops, its C++ does not compile, or what it computes has nothing to do with the model.
#: "reported": the accelerator is well defined (bitsim and csim agree on every bit), and the model may differ from it.
Severity = Literal["refused", "reported"]
Grade = Literal["repairable", "refused", "reported"]
#: How a repair mends it (`repair.py`). All keep what the model computes, but "requantize".
RepairKind = Literal[
    "name",
    "scaling",
    "axis",
    "merge",
    "reshape",
    "pointwise",
    "causal",
    "pool",
    "norm",
    "requantize",
    "fold",
    "head",
    "input",
]


@dataclass(frozen=True)
class Violation:
    """One setting that hls4ml would not reproduce."""

    layer: str  # layer name, or "" for the model as a whole
    setting: str
    problem: str
    fix: str
    silently: str  # what hls4ml does with it when nobody checks
    repair: RepairKind | None = None  # how --repair mends it
    blocks_repair: bool = False  # no repair looks into such a model
    severity: Severity = "refused"  # what it is while nobody repairs it
    stops_bit_exact: bool = False  # hls4ml's bit_exact pass stops at it or gets it wrong, its plain conversion does not

    @property
    def grade(self) -> Grade:
        """What to do about it: repair it, or refuse or report it."""
        return self.severity if self.repair is None else "repairable"

    def __str__(self) -> str:
        where = f"layer {self.layer!r}: " if self.layer else ""
        mend = "" if self.repair is None else " (--repair does it)" if self.repair != "requantize" else _CHANGES
        return f"{where}{self.problem}; {self.fix}{mend}. Without this check: {self.silently}"


_CHANGES = " (--repair does it and says how much outputs change)"
Rule = Callable[[Any, str], Iterator[Violation]]


def plain(value: Any) -> Any:
    """A TensorFlow variable's or an array's numbers as Python's own; everything else as it is."""
    value = value.numpy() if hasattr(value, "numpy") else value
    return value.tolist() if hasattr(value, "tolist") else value
