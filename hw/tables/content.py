"""The tables as values: every cell with its evidence and the published number beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hw.experiment.defence import through_softmax
from hw.report.columns import made_apart
from hw.report.headline import marked, marks_of
from hw.report.source import FinishedRun, Results
from hw.tables.config import LineKind, TableColumn, TableName, TablesConfig, needs_black_box
from hw.tables.published import Published
from qmodels.metrics.masking import CLEAN, Row
from qmodels.statistics import wilson
from qmodels.storage import finite_or_none

NAMES: dict[LineKind, str] = {"float": "", "quantized": " (Q)", "accelerator": " (accelerator)"}
CLEAN_TITLE = "Clean"


@dataclass(frozen=True)
class TableLine:
    """One form of one row: a line of both tables."""

    row: str
    kind: LineKind
    model: str  # its name in the run's results
    bits: float | None
    beside: str  # the published row

    @property
    def name(self) -> str:
        """As in the table's first column."""
        return f"{self.row}{NAMES[self.kind]}"

    @property
    def published_name(self) -> str:
        """The published line it stands beside; the accelerator computes what (Q) does."""
        return self.beside if self.kind == "float" else f"{self.beside} (Q)"


@dataclass(frozen=True)
class TableCell:
    """One number; accuracies are fractions."""

    table: TableName
    column: str
    accuracy: float
    n: int
    ci95: tuple[float, float]
    attack: str
    norm: str
    epsilon_lsb: float | None  # None: no bound
    seed: int
    settings: str
    knowledge: str
    source: str
    flags: tuple[str, ...]
    published: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus the published one."""
        return None if self.published is None else self.accuracy - self.published

    @property
    def text(self) -> str:
        """Per cent, and the flags as letters."""
        return marked(self.accuracy, marks_of(self.flags))


@dataclass(frozen=True)
class Tables:
    """Both tables; a cell is missing where an attack cannot be run on that line."""

    config: TablesConfig
    lines: tuple[TableLine, ...]
    cells: dict[tuple[str, TableName, str], TableCell]  # line, table, column
    runs: dict[str, FinishedRun]  # by row label
    published: Published
    studies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)  # wall time, environment

    def titles(self, table: TableName) -> list[str]:
        """The columns of a table, in order."""
        clean = [CLEAN_TITLE] if table == "white-box" else []
        return clean + [column.title for column in self.config.columns if column.table == table]

    def cell(self, line: TableLine, table: TableName, title: str) -> TableCell | None:
        """One cell, if it was measured."""
        return self.cells.get((line.name, table, title))

    @property
    def flags(self) -> list[str]:
        """All flags raised anywhere."""
        return list(dict.fromkeys(flag for cell in self.cells.values() for flag in cell.flags))


def tables_of(
    config: TablesConfig,
    runs: Sequence[FinishedRun],
    models: Sequence[str],
    published: Published,
    studies: dict[str, list[dict[str, Any]]],
    account: dict[str, Any],
) -> Tables:
    """Assemble the tables from the rows' finished runs.

    Args:
        config: rows and columns.
        runs: beside the config's rows.
        models: the rows' names in their results, with mapping.
        published: what stands beside ours.
        studies: records of the figures.
        account: wall time and environment.
    """
    lines: list[TableLine] = []
    cells: dict[tuple[str, TableName, str], TableCell] = {}
    for row, run, model in zip(config.rows, runs, models, strict=True):
        for kind in row.lines:
            mine = [r for r in run.results.rows if r.model == model and _kind(r) == kind]
            if not mine:  # the user's own QKeras model has no float line
                continue
            line = TableLine(row.label, kind, model, mine[0].bits, row.beside or row.label)
            lines.append(line)
            for cell in _cells(config, run.results, line, mine, published):
                cells[(line.name, cell.table, cell.column)] = cell
    by_label = dict(zip((row.label for row in config.rows), runs, strict=True))
    return Tables(config, tuple(lines), cells, by_label, published, studies, account)


def _kind(row: Row) -> LineKind:
    if row.victim == "float":
        return "float"
    return "quantized" if row.victim == "quantized" else "accelerator"


def _cells(
    config: TablesConfig, results: Results, line: TableLine, rows: Sequence[Row], published: Published
) -> Iterator[TableCell]:
    clean = next(row for row in rows if row.attack == CLEAN)
    yield _cell(results, line, "white-box", CLEAN_TITLE, clean, published)
    for column in config.columns:
        if column.is_worst_case:
            worst = _worst(results, line, column)
            if worst is not None:
                yield _cell(results, line, column.table, column.title, worst, published)
            continue
        row = min((row for row in rows if _holds(column, row)), key=lambda row: row.accuracy, default=None)
        if row is not None:
            yield _cell(results, line, column.table, column.title, row, published)


def _holds(column: TableColumn, row: Row) -> bool:
    """An unaware attacker's examples were made on the undefended form, or as published: hw/experiment/defence.py."""
    unaware = column.attacker == "unaware"
    published = through_softmax(column.attack) if unaware else None
    digests = [attack.digest for attack in (column.attack, published) if attack is not None]
    same = row.attack_digest in digests and row.epsilon_lsb == column.epsilon_lsb
    if made_apart(row) or needs_black_box(column):
        return same and made_apart(row) and needs_black_box(column)
    return same and row.attacker == column.attacker and (unaware or row.knowledge != "transfer")


def _worst(results: Results, line: TableLine, column: TableColumn) -> Row | None:
    """Share of images that survive every row in the ball, as a row.

    The quantized model and the accelerator give the same bits, so that what fools one fools the other.
    """
    same = ("float",) if line.kind == "float" else ("quantized", "bitsim", "csim")
    found = [
        item
        for item in results.plain.get("worst_case", [])
        if item["model"] == line.model and item["victim"] in same
        and (item["norm"], item["epsilon_lsb"]) == (column.attack.norm, column.epsilon_lsb)
    ]  # fmt: skip
    if not found:
        return None
    if column.attacker == "unaware":
        found = [
            {**item, "accuracy": item["unaware"], "n": item["unaware_n"]}
            for item in results.plain.get("measures", {}).get("defence", [])
            if item["model"] == line.model and item["victim"] in same and item["unaware"] is not None
            and (item["norm"], item["epsilon"]) == (column.attack.norm, column.epsilon_lsb)
        ]  # fmt: skip
        if not found:
            return None
    lowest = min(found, key=lambda item: float(item["accuracy"]))
    accuracy, n = float(lowest["accuracy"]), int(lowest["n"])
    seed = next((row.seed for row in results.rows if row.attack_digest == column.attack.digest), 0)
    return Row(
        line.model, lowest["victim"], column.attack.label, accuracy, n, line.bits, "white-box", column.epsilon_lsb,
        wilson(round(accuracy * n), n), seed=seed, norm=column.attack.norm, source="every row in this ball",
    )  # fmt: skip


def _cell(results: Results, line: TableLine, table: TableName, title: str, row: Row, published: Published) -> TableCell:
    return TableCell(
        table=table,
        column=title,
        accuracy=row.accuracy,
        n=row.n,
        ci95=row.ci95,
        attack=row.attack,
        norm=row.norm,
        epsilon_lsb=finite_or_none(row.epsilon_lsb),
        seed=row.seed,
        settings=results.settings_of(row),
        knowledge=row.knowledge,
        source=row.source,
        flags=row.flags,
        published=published.get((table, line.published_name, title)),
    )
