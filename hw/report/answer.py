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
    robust = [] if line is None else [*_robustness(line, table), *_defence(results, line, table)]
    verdict = [] if line is None else [_verdict(line)]
    trust = [*_bracket(results.plain), *verdict, *_exactness(results.exactness)]
    return [*robust, *trust, *_cost(results.plain.get("cost"))]


def _robustness(line: HeadlineRow, table: Headline) -> list[Fact]:
    found = []
    if line.worst is not None:
        note = f"of all attacks with {table.ball_text}, on {line.name}"
        found.append(Fact(f"{percent(line.worst.accuracy)} %", f"{table.metric}, worst case", note))
    if line.clean is not None:
        found.append(
            Fact(f"{percent(line.clean.accuracy)} %", f"{table.metric}, clean", f"without an attack, on {line.name}")
        )
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
    note = f"under any attack with ε = {row['epsilon_lsb']:g} LSB the true accuracy lies in this range"
    return [Fact(f"{row['certified_%']:g}–{row['attacked_%']:g} %", "proved to attacked", note)]


def _exactness(plain: Any) -> list[Fact]:
    if not isinstance(plain, dict) or "mismatched_outputs" not in plain:
        return []
    others = "csim's" if plain.get("exactness") == "reported" else "the model's"
    note = f"from {others}, in {plain['inputs']:,} inputs compared"
    return [Fact(f"{plain['mismatched_outputs']:,}", "outputs that differ", note)]


def _cost(plain: Any) -> list[Fact]:
    if not isinstance(plain, dict) or "luts_estimated" not in plain:
        return []
    memory = f"{plain['dsps_estimated']:,} DSPs, {plain['bram_18k']:,} block RAMs, {plain['weight_bits']:,} weight bits"
    cycles, latency = plain["ii_cycles_estimated"], plain["latency_cycles_estimated"]
    pace = "a new input every cycle" if cycles == 1 else f"a new input every {cycles:,} cycles"
    note = f"{memory}; latency {latency:,} cycles, {pace}"
    if isinstance(counted := plain.get("rtl_luts"), int):
        note += f"; {counted:,} LUTs counted by Yosys in alkaid's RTL"
    return [Fact(f"{plain['luts_estimated']:,}", "cost: LUTs, estimated", note)]
