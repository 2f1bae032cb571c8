"""The headline table as plain text of at most `width` columns."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from hw.report.headline import Headline, Number, headline, marks_of, percent, run_notes
from hw.report.source import Results
from hw.report.table import Group, console_blocks, console_width, printable


def console_text(runs: Sequence[Results], width: int | None = None) -> str:
    """The table, its legend, the exactness gate, the unbounded checks, the attacks' parameters and the verdict."""
    table = headline(runs)
    names = ", ".join(dict.fromkeys(results.run for results in runs))
    lines = [f"{names}: {table.metric} in %, {table.setting}, {table.unit_note}, {_norms(table)}", ""]
    width = width or console_width()
    for block in _blocks(table, len(runs) > 1, width):
        lines += [*block, ""]
    notes = [*table.legend, *run_notes(runs, named=len(runs) > 1)]
    for note in [*notes, *(f"verdict: {verdict}" for verdict in table.verdicts)]:
        lines += wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(printable(line.rstrip()) for line in lines)


def _norms(table: Headline) -> str:
    return "L∞ unless named" if any(column.norm != "linf" for column in table.columns) else "L∞"


def _blocks(table: Headline, with_run: bool, width: int) -> list[list[str]]:
    names = Group("", table.name_columns()[not with_run :])
    clean = Group("", (table.column("clean", lambda line: _cell(line.clean)),))
    columns = table.attack_columns(_cell)
    attacks = [Group(title, tuple(columns[place] for place in places)) for title, places in table.groups]
    last = [Group("", (table.column("flags", lambda line: marks_of(line.flags), number=False),))]
    if table.ball is not None:
        at = f"ε={table.ball_strength}"
        transfer = table.column("transfer", lambda line: _cell(line.transfer))
        worst = table.column("worst", lambda line: _cell(line.worst))
        last = [Group(at, (transfer,)), Group(at, (worst,)), *last]
    return console_blocks(names, [clean], attacks, last, width)


def _cell(number: Number | None) -> str:
    return "–" if number is None else percent(number.accuracy) + number.marks
