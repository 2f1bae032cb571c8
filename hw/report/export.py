"""Results as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hw.report.certificates import TITLE, certificate_rows
from hw.report.errors import error_records, error_title
from hw.report.headline import Number, headline, marked, run_notes
from hw.report.measures import measure_tables
from hw.report.source import Results
from hw.report.table import Table, markdown_lines, plain_markdown, records_csv, records_table
from qmodels.metrics.masking import CLEAN, Row
from qmodels.storage import finite_or_none

_FIELDS = (
    *("run", "model", "victim", "bits", "attack", "knowledge", "source", "norm", "epsilon_lsb", "epsilon"),
    *(
        "epsilon_unit",
        "accuracy",
        "ci95_low",
        "ci95_high",
        "n",
        "seed",
        "queries",
        "seconds",
        "settings",
        "doubled_accuracy",
    ),
    *("zero_gradient_share", "non_finite_share", "disagreements", "flags", "task", "metric"),
    *("attacker", "refused"),
)


def csv_text(runs: Sequence[Results]) -> str:
    """All rows of all runs, one a line, with everything a number needs to be understood.

    Accuracies are fractions, of what `metric` says; errors come last, where there are any. `epsilon` is `epsilon_lsb`
    as a value, for images divided by 256, or what `epsilon_unit` says, a column that is there where ε was asked for in
    another unit; flags are separated by spaces; what does not apply (bits of a float model, ε of an unbounded attack)
    is empty.
    """
    records = [_record(results, row) for results in runs for row in results.rows]
    if all(row.epsilon_unit == "lsb" for results in runs for row in results.rows):
        for record in records:
            del record["epsilon_unit"]  # as a value
    return records_csv(records)


def json_text(runs: Sequence[Results]) -> str:
    """The runs' results.json files in one list."""
    return json.dumps({"schema": 1, "runs": [results.plain for results in runs]}, indent=1, allow_nan=False) + "\n"


def markdown_text(runs: Sequence[Results]) -> str:
    """The headline table with its legend."""
    table = headline(runs)
    at = f"ε={table.ball_strength}" if table.ball else ""
    attacks = zip(table.columns, table.attack_columns(_cell), strict=True)
    columns = (
        *table.name_columns(),
        table.column("clean", lambda line: _cell(line.clean)),
        *(replace(column, head=f"{attack.title} {attack.strength}") for attack, column in attacks),
        table.column(f"transfer {at}", lambda line: _cell(line.transfer)),
        table.column(f"worst {at}", lambda line: _cell(line.worst)),
        table.column("flags", lambda line: ", ".join(line.flags), number=False),
    )
    lines = [f"{table.metric.capitalize()} in %, {plain_markdown(table.setting)}, {plain_markdown(table.unit_note)}.\n"]
    notes = [*table.legend, *run_notes(runs, named=True), *(f"verdict: {verdict}" for verdict in table.verdicts)]
    lines += [*markdown_lines(Table(columns)), "", *(f"- {plain_markdown(note)}" for note in notes)]
    for results in runs:
        tables = {TITLE: certificate_rows(results.plain), error_title(results): error_records(results)}
        tables |= measure_tables(results.plain.get("measures"))
        for title, records in tables.items():
            if not records:
                continue
            heading = f"{plain_markdown(results.run)}: {plain_markdown(title)}"
            lines += ["", heading, "", *markdown_lines(records_table(records))]
    return "\n".join(lines) + "\n"


def _record(results: Results, row: Row) -> dict[str, Any]:
    epsilon, unit = row.epsilon, row.epsilon_unit
    if epsilon is None and results.step is not None:
        epsilon, unit = row.epsilon_lsb * results.step, "value" if row.attack != CLEAN else unit
    known = row.as_json() | {
        "run": results.run,
        "epsilon": None if epsilon is None else finite_or_none(epsilon),
        "epsilon_unit": unit,
        "ci95_low": row.ci95[0],
        "ci95_high": row.ci95[1],
        "settings": results.settings_of(row),
        "flags": " ".join(row.flags),
    }
    return {name: known[name] for name in _FIELDS} | dict(row.errors or {})


def _cell(number: Number | None) -> str:
    return "–" if number is None else marked(number.accuracy, number.marks)
