"""The tables as Markdown, CSV, JSON and on the console."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from hw.report.headline import MARKS, exactness_text, explanation, percent
from hw.report.plots import standalone
from hw.report.source import NORMS
from hw.report.table import (
    Column,
    Group,
    Table,
    column_of,
    console_blocks,
    console_width,
    markdown_lines,
    plain_markdown,
    printable,
    records_csv,
)
from hw.tables.config import TableColumn, TableName
from hw.tables.content import CLEAN_TITLE, TableCell, TableLine, Tables
from hw.tables.figures import figures
from hw.tables.measured import measures_csv, measures_markdown
from hw.tables.published import SOURCE

SCHEMA = 1
TABLES: tuple[tuple[TableName, str], ...] = (("white-box", "White-box attacks"), ("black-box", "Black-box attacks"))
_FIELDS = (
    *("table", "row", "line", "weight_bits", "column", "accuracy", "n", "ci95_low", "ci95_high", "published_row"),
    *("published", "difference", "attack", "norm", "epsilon_lsb", "seed", "settings", "knowledge", "source", "flags"),
)
MEASURES = "measures.csv"
RESULTS = ("tables.md", "tables.csv", "results.json")


def files_of(tables: Tables) -> dict[str, str]:
    """Name -> content of every file of finished tables."""
    plots = {f"{name}.svg": standalone(plot) for name, plot in figures(tables).items()}
    written = dict(zip(RESULTS, (markdown_text(tables, list(plots)), csv_text(tables), json_text(tables)), strict=True))
    more = {MEASURES: measures_csv(tables)} if tables.config.measures else {}
    return written | more | plots


def csv_text(tables: Tables) -> str:
    """One cell a line; accuracies are fractions, ε in LSBs of 1/256, flags separated by spaces."""
    records = [_record(line, cell) for line, cell in _cells(tables)]
    return records_csv([record | {"flags": " ".join(record["flags"])} for record in records])


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
    known = asdict(cell) | {
        "row": line.row,
        "line": line.kind,
        "weight_bits": line.bits,
        "ci95_low": cell.ci95[0],
        "ci95_high": cell.ci95[1],
        "published_row": None if cell.published is None else line.published_name,
        "difference": cell.difference,
        "flags": list(cell.flags),
    }
    return {name: known[name] for name in _FIELDS}


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
    lines += measures_markdown(tables) if tables.config.measures else []
    lines += ["## What the columns are", "", *(f"- {plain_markdown(text)}" for text in _legend(tables)), ""]
    lines += ["## Exactness", ""]
    lines += [
        f"- {label}: {exactness_text(run.results.exactness).removeprefix('exactness: ')}"
        for label, run in tables.runs.items()
    ]
    lines += ["", *(f"![{name.removesuffix('.svg')}]({name})" for name in plots)]
    return "\n".join(lines) + "\n"


def _setting(tables: Tables) -> str:
    missing, environment = tables.account["rows_missing"], tables.account["environment"]
    said = [f"**Unfinished:** {'; '.join(missing)}, and the studies, are missing."] if missing else []
    said.append(f"Accuracy in %, seed {environment['seed']}, ε in LSB of 1/256, letters are flags.")
    said.append(f"{tables.account['wall_seconds'] / 60:.0f} minutes on {plain_markdown(environment['cpu'])}.")
    said += [f"Published: {SOURCE}."] if tables.published else []
    said += [
        f"{plain_markdown(r.label)}: {r.samples} test images." for r in tables.config.rows if r.samples is not None
    ]
    return " ".join(said)


def _compared(line: TableLine) -> str:
    """A row that stands beside one of another name says so."""
    return line.name if line.row == line.beside else f"{line.name}, compared with {line.published_name}"


def _table(
    tables: Tables, table: TableName, name: Callable[[TableLine], str], text: Callable[[TableLine, TableCell], str]
) -> list[str]:
    titles = tables.titles(table)
    rows = [(line, [_text(tables.cell(line, table, title), line, text) for title in titles]) for line in tables.lines]
    rows = [(line, texts) for line, texts in rows if set(texts) != {"–"}]
    bits = tuple("–" if line.bits is None else f"{line.bits:g}" for line, _ in rows)
    names = Column("model", tuple(name(line) for line, _ in rows), number=False)
    numbers = [Column(title, tuple(texts[place] for _, texts in rows)) for place, title in enumerate(titles)]
    return markdown_lines(Table((names, Column("weight bits", bits), *numbers)))


def _text(cell: TableCell | None, line: TableLine, text: Callable[[TableLine, TableCell], str]) -> str:
    return "–" if cell is None else text(line, cell) or "–"


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
    bound = f"ε = {column.epsilon_lsb:g} LSB" if isfinite(column.epsilon_lsb) else "no bound"
    images = _images(tables, column.table, column.title)
    said = f"{column.attack.label}, {NORMS[column.attack.norm]}, {bound}, {images}{settings}"
    return f"per image over every row in this ball, among them {said}" if column.is_worst_case else said


def _images(tables: Tables, table: TableName, title: str) -> str:
    counts = {cell.n for cell in tables.cells.values() if (cell.table, cell.column) == (table, title)}
    return f"the first {'/'.join(map(str, sorted(counts)))} test images" if counts else "concerns none of these rows"


def show(tables: Tables, folder: Path, say: Callable[[str], None]) -> None:
    """Both tables on the console, ours with flags, and where the files are."""
    say("")
    for table, title in TABLES:
        if tables.titles(table):
            say(f"{title}: accuracy, %, letters are flags\n")
            for line in _console_lines(tables, table):
                say(printable(line.rstrip()))
    for flag in tables.flags:
        say(f"{MARKS.get(flag, '?')} {flag}: {explanation(flag)}")
    for name in RESULTS:
        say(f"{name:16s}{folder / name}")


def _console_lines(tables: Tables, table: TableName) -> list[str]:
    names = Group("", (column_of(tables.lines, "model", lambda line: line.name, number=False),))

    def column(name: str, title: str) -> Column:
        cells = (tables.cell(line, table, title) for line in tables.lines)
        return Column(title.removeprefix(name).strip(), tuple("–" if cell is None else cell.text for cell in cells))

    groups = [
        Group(name, tuple(column(name, title) for title in titles))
        for name, titles in groupby(tables.titles(table), key=_name)
    ]
    return [line for block in console_blocks(names, [], groups, [], console_width()) for line in (*block, "")]


def _name(title: str) -> str:
    """What stands before the brackets, where there are any: neighbours of one name share it."""
    return title.partition("(")[0].strip() if "(" in title else ""
