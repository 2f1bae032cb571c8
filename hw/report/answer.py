"""What a report says first: how robust the accelerator is, whether to believe it, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hw.report.headline import Headline, HeadlineRow, percent
from hw.report.source import Results

#: Victims that are the accelerator, best first.
_ACCELERATORS = ("bitsim", "csim")


@dataclass(frozen=True)
class Fact:
    """A number in large type, what it is, and what to know of it."""

    value: str
    name: str
    note: str = ""


def answer(results: Results, table: Headline) -> list[Fact]:
    """The facts of one run's first screen; what the run has not measured is left out."""
    line = next((line for name in _ACCELERATORS for line in table.lines if line.victim == name), None)
    line = line or next(iter(table.lines[::-1]), None)
    facts = [] if line is None else [*_robustness(line, table), _verdict(line)]
    return [*facts, *_exactness(results.exactness), *_cost(results.plain.get("cost"))]


def _robustness(line: HeadlineRow, table: Headline) -> list[Fact]:
    found = []
    if line.worst is not None:
        found.append(Fact(f"{percent(line.worst.accuracy)} %", "worst case", f"{line.name}, {table.ball_text}"))
    if line.clean is not None:
        found.append(Fact(f"{percent(line.clean.accuracy)} %", f"clean {table.metric}", line.name))
    return found


def _verdict(line: HeadlineRow) -> Fact:
    flags = len(line.flags)
    if not flags:
        return Fact("no flag", "can you believe it?", "no check for masked gradients or broken attacks objects")
    return Fact(
        f"{flags} flag{'s' if flags > 1 else ''}", "can you believe it?", f"not as it stands: {', '.join(line.flags)}"
    )


def _exactness(plain: Any) -> list[Fact]:
    if not isinstance(plain, dict) or "mismatched_outputs" not in plain:
        return []
    return [Fact(f"{plain['mismatched_outputs']:,}", "outputs that differ", f"in {plain['inputs']:,} inputs compared")]


def _cost(plain: Any) -> list[Fact]:
    if not isinstance(plain, dict) or "luts_estimated" not in plain:
        return []
    memory = f"{plain['dsps_estimated']:,} DSPs, {plain['bram_18k']:,} block RAMs, {plain['weight_bits']:,} weight bits"
    pace = f"a new input every {plain['ii_cycles_estimated']:,} cycles"
    return [
        Fact(f"{plain['luts_estimated']:,}", "LUTs, estimated", memory),
        Fact(f"{plain['latency_cycles_estimated']:,}", "cycles of latency, estimated", pace),
    ]
