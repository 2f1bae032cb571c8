"""What a report says first: how robust the accelerator is, whether to believe it, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hw.report.certificates import certificate_rows
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
    # of a defended network the defended line, which comes after the other one
    line = next((line for name in _ACCELERATORS for line in table.lines[::-1] if line.victim == name), None)
    line = line or next(iter(table.lines[::-1]), None)
    facts = [] if line is None else [*_robustness(line, table), *_defence(results, line, table), _verdict(line)]
    return [*facts, *_bracket(results.plain), *_exactness(results.exactness), *_cost(results.plain.get("cost"))]


def _robustness(line: HeadlineRow, table: Headline) -> list[Fact]:
    found = []
    if line.worst is not None:
        found.append(Fact(f"{percent(line.worst.accuracy)} %", "worst case", f"{line.name}, {table.ball_text}"))
    if line.clean is not None:
        found.append(Fact(f"{percent(line.clean.accuracy)} %", f"clean {table.metric}", line.name))
    return found


def _defence(results: Results, line: HeadlineRow, table: Headline) -> list[Fact]:
    """What the defence seems to be worth to an attacker who does not know it."""
    records = (results.plain.get("measures") or {}).get("defence") or []
    mine = [r for r in records if (r.get("model"), r.get("victim")) == (line.model, line.victim)]
    found = next((r for r in mine if table.ball and (r.get("norm"), r.get("epsilon")) == table.ball[:2]), None)
    if found is None or not isinstance(found.get("unaware"), (int, float)):
        return []
    undefended = found.get("undefended")
    beside = f"; undefended {percent(undefended)} %" if isinstance(undefended, (int, float)) else ""
    note = f"the worst case is against an attacker who knows it{beside}"
    return [Fact(f"{percent(found['unaware'])} %", "against an attacker who does not know the defence", note)]


def _verdict(line: HeadlineRow) -> Fact:
    flags = len(line.flags)
    if not flags:
        return Fact("no flag", "can you believe it?", "all checks for masked gradients and broken attacks passed")
    return Fact(
        f"{flags} flag{'s' if flags > 1 else ''}",
        "can you believe it?",
        f"not the flagged numbers: {', '.join(line.flags)}",
    )


def _bracket(plain: Any) -> list[Fact]:
    """Of the largest radius that was to be proved."""
    rows = certificate_rows(plain)
    if not rows:
        return []
    row = max(rows, key=lambda one: float(one["epsilon_lsb"]))
    note = f"ε = {row['epsilon_lsb']:g} LSB: the true accuracy is between these, for any attack"
    return [Fact(f"{row['certified_%']:g} to {row['attacked_%']:g} %", "proved to attacked", note)]


def _exactness(plain: Any) -> list[Fact]:
    if not isinstance(plain, dict) or "mismatched_outputs" not in plain:
        return []
    return [Fact(f"{plain['mismatched_outputs']:,}", "outputs that differ", f"in {plain['inputs']:,} inputs compared")]


def _cost(plain: Any) -> list[Fact]:
    if not isinstance(plain, dict) or "luts_estimated" not in plain:
        return []
    memory = f"{plain['dsps_estimated']:,} DSPs, {plain['bram_18k']:,} block RAMs, {plain['weight_bits']:,} weight bits"
    cycles = plain["ii_cycles_estimated"]
    pace = "a new input every cycle" if cycles == 1 else f"a new input every {cycles:,} cycles"
    return [
        Fact(f"{plain['luts_estimated']:,}", "LUTs, estimated", memory),
        Fact(f"{plain['latency_cycles_estimated']:,}", "cycles of latency, estimated", pace),
    ]
