"""A table as a value, and how it looks on a console, in Markdown and as CSV; in HTML: `sheet` of parts.html.j2."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Any, TypeVar

from hw.report.words import in_words

_GAP = "  "
Item = TypeVar("Item")


@dataclass(frozen=True)
class Column:
    """A head and the text of every row's cell; numbers stand on the right."""

    head: str
    cells: tuple[str, ...]
    number: bool = True
    notes: tuple[str, ...] = ()  # a small second line of every cell, on a page only


def column_of(items: Iterable[Item], head: str, text: Callable[[Item], str], number: bool = True) -> Column:
    """The column in which every item's cell is its `text`."""
    return Column(head, tuple(map(text, items)), number)


@dataclass(frozen=True)
class Table:
    """Columns of one height."""

    columns: tuple[Column, ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


@dataclass(frozen=True)
class Group:
    """Neighbouring columns under one title, on a console."""

    title: str
    columns: tuple[Column, ...]

    @property
    def titles(self) -> tuple[str, str]:
        """The title on two lines: settings in brackets go below the name."""
        name, bracket, rest = self.title.partition("(")
        return (name, bracket + rest) if bracket else ("", self.title)

    def lines(self) -> list[str]:
        """Titles, heads, a rule and the rows, all of one width."""
        widths = [max(map(len, (column.head, *column.cells))) for column in self.columns]
        width = max(*map(len, self.titles), sum(widths) + len(widths) - 1)

        def join(cells: Iterable[str]) -> str:
            padded = [_pad(*item) for item in zip(self.columns, cells, widths, strict=True)]
            return _pad(self.columns[0], " ".join(padded), width)

        heads = [title.center(width) for title in self.titles] + [join(column.head for column in self.columns)]
        return [*heads, "─" * width, *map(join, Table(self.columns).rows)]


def _pad(column: Column, text: str, width: int) -> str:
    return text.rjust(width) if column.number else text.ljust(width)


def console_blocks(
    names: Group, first: Sequence[Group], groups: Sequence[Group], last: Sequence[Group], width: int
) -> list[list[str]]:
    """A table for a console, cut between groups where it is too wide.

    Args:
        names: tells what a row is; repeated in every block.
        first: begin the first block.
        groups: what may go to further blocks.
        last: end the first block.
        width: of the console, in characters.
    """
    pieces: list[list[Group]] = []
    piece, after = [names, *first], list(last)
    for group in groups:
        if len(piece) > 1 and len(_side_by_side([*piece, group, *after])[-1]) > width:
            pieces.append([*piece, *after])
            piece, after = [names], []
        piece.append(group)
    pieces.append([*piece, *after])
    return [_without_empty_heads(_side_by_side(piece)) for piece in pieces]


def _side_by_side(groups: Sequence[Group]) -> list[str]:
    return [_GAP.join(parts) for parts in zip(*(group.lines() for group in groups), strict=True)]


def _without_empty_heads(lines: list[str]) -> list[str]:
    return [line for line in lines[:3] if line.strip()] + lines[3:]


def console_width() -> int:
    """Of the terminal, in characters; lines of more than 120 are hard to read."""
    return min(get_terminal_size((100, 24)).columns, 120)


def printable(text: str) -> str:
    """Without control characters, which a hostile name could send to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def markdown_lines(table: Table) -> list[str]:
    """The table in Markdown."""
    heads = [column.head for column in table.columns]
    aligned = ["---:" if column.number else "---" for column in table.columns]
    return ["| " + " | ".join(map(plain_markdown, cells)) + " |" for cells in (heads, aligned, *table.rows)]


def plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no further cells or lines."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def records_csv(records: Sequence[dict[str, Any]]) -> str:
    """One record a line, under the keys of all of them; what a record lacks is empty."""
    text = io.StringIO()
    heads = list(dict.fromkeys(key for record in records for key in record))
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def records_table(records: Sequence[dict[str, Any]]) -> Table:
    """Plain records, as results.json has them, under the keys of the first, in words."""
    return Table(tuple(_record_column(key, [record.get(key) for record in records]) for key in records[0]))


def _record_column(key: str, values: Sequence[Any]) -> Column:
    numbers = [value for value in values if value is not None]
    number = bool(numbers) and all(isinstance(value, (int, float)) for value in numbers)
    return Column(in_words(key), tuple(map(shown, values)), number)


def shown(value: Any) -> str:
    """A value of any table: four digits are enough of a float, a dash stands for nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) or "–"
    return "–" if value is None else str(value)
