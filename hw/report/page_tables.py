"""Tables of the page: who was attacked stands in one column, and what few readers ask for on a cell's second line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hw.report.headline import marked, marks_of, percent, victim_name
from hw.report.source import NORMS, Results
from hw.report.strength import strength_of
from hw.report.table import Column, Table, records_table
from qmodels.metrics.masking import CLEAN, Row

_NAMES = ("model", "victim", "bits")


def named_table(records: Sequence[dict[str, Any]]) -> Table:
    """Plain records as a table; model, victim and bits become one name, which stays in sight if the table scrolls."""
    return records_table([_named(record) for record in records])


def _named(record: dict[str, Any]) -> dict[str, Any]:
    if not {"model", "victim"} <= record.keys():
        return record
    name = victim_name(record["model"], record["victim"], record.get("bits"))
    return {"victim": name} | {key: value for key, value in record.items() if key not in _NAMES}


def rows_table(results: Results, metric: str) -> Table:
    """Every row with its evidence: what was attacked how, what is left, and then the details."""
    rows = results.rows
    strength = "ε (norm)" if any(row.epsilon is not None for row in rows) else "ε, LSB (norm)"

    def column(head: str, text: Callable[[Row], str], note: Callable[[Row], str] | None, number: bool = True) -> Column:
        notes = tuple(map(note, rows)) if note is not None else ()
        return Column(head, tuple(map(text, rows)), number, notes)

    return Table(
        (
            column("victim", lambda row: victim_name(row.model, row.victim, row.bits), None, number=False),
            column("attack (settings)", lambda row: row.attack, results.settings_of, number=False),
            column(strength, lambda row: "–" if row.attack == CLEAN else strength_of(row), _norm),
            column(f"{metric}, % (95 % interval)", lambda row: marked(row.accuracy, marks_of(row.flags)), _interval),
            column("attacker's knowledge (origin)", _knowledge, _source, number=False),
            column("flags", lambda row: ", ".join(row.flags) or "–", None, number=False),
            column("inputs", lambda row: f"{row.n:,}", None),
            column("queries in all", lambda row: f"{row.queries:,}", None),
            column("time, s", lambda row: f"{row.seconds:.2f}", None),
            column("seed", lambda row: f"{row.seed}", None),
        )
    )


def _norm(row: Row) -> str:
    return "" if row.attack == CLEAN else NORMS[row.norm]


def _interval(row: Row) -> str:
    return f"{percent(row.ci95[0])} to {percent(row.ci95[1])}"


def _knowledge(row: Row) -> str:
    if row.attack == CLEAN:
        return "–"
    return row.knowledge + (", unaware" if row.attacker == "unaware" else "")


def _source(row: Row) -> str:
    return f"made on {row.source}" if row.source else ""
