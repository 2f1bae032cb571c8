"""The tables as Markdown, CSV, JSON and on the console."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hw.report.export import markdown_table, plain_markdown
from hw.report.plots import standalone
from hw.report.tables import MARKS, NORMS, exactness_text, explanation, percent
from hw.tables.config import TableColumn, TableName
from hw.tables.content import CLEAN_TITLE, TableCell, TableLine, Tables
from hw.tables.figures import figures
from hw.tables.published import SOURCE

SCHEMA = 1
TABLES: tuple[tuple[TableName, str], ...] = (("white-box", "White-box attacks"), ("black-box", "Black-box attacks"))
RESULTS = ("tables.md", "tables.csv", "results.json")


def files_of(tables: Tables) -> dict[str, str]:
    """Name -> content of every file of finished tables."""
    plots = {f"{name}.svg": standalone(plot) for name, plot in figures(tables).items()}
    written = dict(zip(RESULTS, (markdown_text(tables, list(plots)), csv_text(tables), json_text(tables)), strict=True))
    return written | plots


def csv_text(tables: Tables) -> str:
    """One cell a line; accuracies are fractions, ε in LSBs of 1/256, flags separated by spaces."""
    records = [_record(line, cell) for line, cell in _cells(tables)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(record | {"flags": " ".join(record["flags"])} for record in records)
    return text.getvalue()


def json_text(tables: Tables) -> str:
    """Everything known: cells with their evidence, studies, exactness and cost of every row, time and versions."""
    plain = {
        "schema": SCHEMA,
        "name": tables.config.name,
        "published": {"source": SOURCE} if tables.published else None,
        **tables.account,
        "config": tables.config.model_dump(mode="json", exclude={"experiment"}),
        "cells": [_record(line, cell) for line, cell in _cells(tables)],
        "rows": {label: _row(run.results.plain) for label, run in tables.runs.items()},
        "studies": tables.studies,
    }
    return json.dumps(_finite(plain), indent=1, allow_nan=False) + "\n"


def _row(plain: dict[str, Any]) -> dict[str, Any]:
    keys = ("exactness", "cost", "measures", "lipschitz", "lipschitz_by_bits", "layerwise", "clean")
    return {key: plain[key] for key in keys if key in plain}


def _finite(value: Any) -> Any:
    """JSON lacks infinity: an unbounded ε is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if value == float("inf") else value


def _cells(tables: Tables) -> Iterator[tuple[TableLine, TableCell]]:
    for table, _ in TABLES:
        for line in tables.lines:
            for title in tables.titles(table):
                if (cell := tables.cell(line, table, title)) is not None:
                    yield line, cell


def _record(line: TableLine, cell: TableCell) -> dict[str, Any]:
    return {
        "table": cell.table,
        "row": line.row,
        "line": line.kind,
        "weight_bits": line.bits,
        "column": cell.column,
        "accuracy": cell.accuracy,
        "n": cell.n,
        "ci95_low": cell.ci95[0],
        "ci95_high": cell.ci95[1],
        "published_row": None if cell.published is None else line.published_name,
        "published": cell.published,
        "difference": cell.difference,
        "attack": cell.attack,
        "norm": cell.norm,
        "epsilon_lsb": cell.epsilon_lsb,
        "seed": cell.seed,
        "settings": cell.settings,
        "knowledge": cell.knowledge,
        "source": cell.source,
        "flags": list(cell.flags),
    }


def markdown_text(tables: Tables, plots: list[str]) -> str:
    """Both tables, the published ones with the differences, what the columns mean, flags, exactness and figures."""
    lines = [f"# {plain_markdown(tables.config.name)}", "", _setting(tables), ""]
    for table, title in TABLES:
        if tables.titles(table):
            lines += [f"## {title}", "", *_table(tables, table, lambda line: line.name, lambda _, cell: cell.text)]
            if any(cell.published is not None for cell in tables.cells.values() if cell.table == table):
                lines += ["", "Published, and in brackets ours minus the published number:", ""]
                lines += _table(tables, table, _compared, _beside)
            lines.append("")
    lines += ["## What the columns are", "", *(f"- {plain_markdown(text)}" for text in _legend(tables)), ""]
    lines += ["## Exactness", ""]
    lines += [
        f"- {label}: {exactness_text(run.results).removeprefix('exactness: ')}" for label, run in tables.runs.items()
    ]
    lines += ["", *(f"![{name.removesuffix('.svg')}]({name})" for name in plots)]
    return "\n".join(lines) + "\n"


def _setting(tables: Tables) -> str:
    missing, environment = tables.account["rows_missing"], tables.account["environment"]
    said = [f"**Unfinished:** {'; '.join(missing)}, and the studies, are missing."] if missing else []
    said.append(f"Accuracy in %, seed {environment['seed']}, ε in LSB of 1/256, letters are flags.")
    said.append(f"{tables.account['wall_seconds'] / 60:.0f} minutes on {plain_markdown(environment['cpu'])}.")
    said += [f"Published: {SOURCE}."] if tables.published else []
    return " ".join(said)


def _compared(line: TableLine) -> str:
    """A row that stands beside one of another name says so."""
    return line.name if line.row == line.beside else f"{line.name}, beside {line.published_name}"


def _table(
    tables: Tables, table: TableName, name: Callable[[TableLine], str], text: Callable[[TableLine, TableCell], str]
) -> list[str]:
    titles = tables.titles(table)
    body = []
    for line in tables.lines:
        cells = [tables.cell(line, table, title) for title in titles]
        texts = ["–" if cell is None else text(line, cell) or "–" for cell in cells]
        if set(texts) != {"–"}:
            body.append([name(line), "–" if line.bits is None else f"{line.bits:g}", *texts])
    heads = ["model", "weight bits", *titles]
    return markdown_table(heads, body, ["---", *["---:"] * (len(heads) - 1)])


def _beside(line: TableLine, cell: TableCell) -> str:
    """Nothing for the accelerator, which is not in the published tables; it computes what (Q) does."""
    if line.kind == "accelerator" or cell.published is None or cell.difference is None:
        return ""
    return f"{percent(cell.published)} ({100 * cell.difference:+.1f})"


def _legend(tables: Tables) -> list[str]:
    """What every column and every letter means."""
    said = [f"{CLEAN_TITLE}: {_images(tables, 'white-box', CLEAN_TITLE)}"]
    for table, _ in TABLES:
        for column in tables.config.columns:
            if column.table == table:
                said.append(f"{column.title} ({table}): {_meaning(tables, column)}")
    return said + [f"{MARKS.get(flag, '?')} {flag}: {explanation(flag)}" for flag in tables.flags]


def _meaning(tables: Tables, column: TableColumn) -> str:
    known = (tables.cell(line, column.table, column.title) for line in tables.lines)
    cell = next((cell for cell in known if cell is not None), None)
    settings = f"; {cell.settings}" if cell is not None and cell.settings else ""
    bound = "no bound" if cell is None or cell.epsilon_lsb is None else f"ε = {cell.epsilon_lsb:g} LSB"
    images = _images(tables, column.table, column.title)
    said = f"{column.attack.label}, {NORMS[column.attack.norm]}, {bound}, {images}{settings}"
    return f"per image over every row in this ball, among them {said}" if column.is_worst_case else said


def _images(tables: Tables, table: TableName, title: str) -> str:
    counts = {cell.n for cell in tables.cells.values() if (cell.table, cell.column) == (table, title)}
    return f"the first {'/'.join(map(str, sorted(counts)))} test images"


def show(tables: Tables, folder: Path) -> None:
    """Both tables on the console, ours with flags, and where the files are."""
    from rich.console import Console
    from rich.table import Column as Head
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for table, title in TABLES:
        titles = tables.titles(table)
        heads = (Head("model", min_width=14), *(Head(Text(name), justify="right", min_width=5) for name in titles))
        heading = f"\n{title}: accuracy, %, letters are flags"
        # names wrap, numbers do not; where even that is too wide, the terminal breaks lines: rich would drop columns
        shown = Table(*heads, title=heading, box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for line in tables.lines:
            cells = [tables.cell(line, table, name) for name in titles]
            texts = ["–" if cell is None else cell.text for cell in cells]
            shown.add_row(Text(line.name), *map(Text, texts))
        if titles:
            needed = 15 + sum(1 + max(7, *map(len, name.split())) for name in titles)
            Console(width=max(console.width, needed)).print(shown)
    for flag in tables.flags:
        console.print(f"{MARKS.get(flag, '?')} {flag}: {explanation(flag)}", markup=False, highlight=False)
    for name in RESULTS:
        console.print(f"{name:16s}{folder / name}", markup=False, highlight=False, soft_wrap=True)
