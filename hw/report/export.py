"""Results as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from hw.report.measures import measure_tables, shown
from hw.report.source import Results
from hw.report.tables import (
    MARKS,
    Number,
    exactness_text,
    explanation,
    headline,
    marked,
    unbounded_checks,
)
from qmodels.metrics.masking import Row
from qmodels.storage import finite_or_none


def csv_text(runs: Sequence[Results]) -> str:
    """All rows of all runs, one a line, with everything a number needs to be understood.

    Accuracies are fractions; `epsilon` is `epsilon_lsb` / 256; flags are separated by spaces; what does not apply
    (bits of a float model, ε of an unbounded attack) is empty.
    """
    records = [_record(results, row) for results in runs for row in results.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def json_text(runs: Sequence[Results]) -> str:
    """The runs' results.json files in one list."""
    return json.dumps({"schema": 1, "runs": [results.plain for results in runs]}, indent=1, allow_nan=False) + "\n"


def markdown_text(runs: Sequence[Results]) -> str:
    """The headline table with its legend."""
    table = headline(runs)
    at = f"ε={table.ball[1]:g}" if table.ball else ""
    heads = ["run", "model", "victim", "bits", "clean"]
    heads += [f"{column.title} {column.strength}" for column in table.columns]
    heads += [f"transfer {at}", f"worst {at}", "flags"]
    body = [
        [line.run, line.model, line.victim, line.bits_text]
        + [_cell(number) for number in (line.clean, *line.attacked, line.transfer, line.worst)]
        + [", ".join(line.flags)]
        for line in table.lines
    ]
    aligned = ["---"] * 4 + ["---:"] * (len(heads) - 5) + ["---"]
    lines = [f"Accuracy in %, {plain_markdown(table.setting)}, ε in LSB (1 LSB = 1/256).\n"]
    lines += markdown_table(heads, body, aligned)
    notes = [*table.notes, *(f"{MARKS.get(flag, '?')} {flag}: {explanation(flag)}" for flag in table.flags)]
    for results in runs:
        notes += [f"{results.run}: {text}" for text in (exactness_text(results), *unbounded_checks(results))]
        notes += [f"{results.run}: {attack.attack}: {attack.describe()}" for attack in results.attacks]
    notes += [f"verdict: {verdict}" for verdict in table.verdicts]
    text = [*lines, "", *(f"- {plain_markdown(note)}" for note in notes)]
    for results in runs:
        for title, records in measure_tables(results.plain.get("measures")).items():
            text += ["", f"{plain_markdown(results.run)}: {plain_markdown(title)}", "", *_records(records)]
    return "\n".join(text) + "\n"


def _records(records: Sequence[dict[str, Any]]) -> list[str]:
    """A table of records that all have the same keys."""
    heads = [key.replace("_", " ") for key in records[0]]
    body = [[shown(value) for value in record.values()] for record in records]
    return markdown_table(heads, body, ["---"] * len(heads))


def _record(results: Results, row: Row) -> dict[str, Any]:
    epsilon_lsb = finite_or_none(row.epsilon_lsb)
    return {
        "run": results.run,
        "model": row.model,
        "victim": row.victim,
        "bits": row.bits,
        "attack": row.attack,
        "knowledge": row.knowledge,
        "source": row.source,
        "norm": row.norm,
        "epsilon_lsb": epsilon_lsb,
        "epsilon": None if epsilon_lsb is None else epsilon_lsb / 256,
        "accuracy": row.accuracy,
        "ci95_low": row.ci95[0],
        "ci95_high": row.ci95[1],
        "n": row.n,
        "seed": row.seed,
        "queries": row.queries,
        "seconds": row.seconds,
        "settings": results.settings_of(row),
        "doubled_accuracy": row.doubled_accuracy,
        "zero_gradient_share": row.zero_gradient_share,
        "non_finite_share": row.non_finite_share,
        "disagreements": row.disagreements,
        "flags": " ".join(row.flags),
    }


def _cell(number: Number | None) -> str:
    return "–" if number is None else marked(number.accuracy, number.marks)


def markdown_table(heads: Sequence[str], body: Sequence[Sequence[str]], aligned: Sequence[str]) -> list[str]:
    """Lines of a Markdown table; `aligned` has `---` (left) or `---:` (right) for every column."""
    return ["| " + " | ".join(map(plain_markdown, cells)) + " |" for cells in (heads, aligned, *body)]


def plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no further cells or lines."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
