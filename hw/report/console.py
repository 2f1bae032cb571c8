"""The headline table as plain text of at most `width` columns."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import get_terminal_size
from textwrap import wrap

from hw.report.source import Results
from hw.report.tables import (
    MARKS,
    Headline,
    HeadlineRow,
    Number,
    exactness_text,
    explanation,
    headline,
    percent,
    unbounded_checks,
)

_GAP = "  "


def console_text(runs: Sequence[Results], width: int | None = None) -> str:
    """The table, its legend, the exactness gate, the unbounded checks, the attacks' parameters and the verdict."""
    table = headline(runs)
    names = ", ".join(dict.fromkeys(results.run for results in runs))
    lines = [f"{names}: accuracy in %, {table.setting}, ε in LSB (1 LSB = 1/256), {_norms(table)}", ""]
    width = width or min(get_terminal_size((100, 24)).columns, 120)
    for block in _blocks(table, len(runs) > 1, width):
        lines += [*block, ""]
    notes = table.notes + [f"{MARKS.get(flag, '?')} {flag}: {explanation(flag)}" for flag in table.flags]
    for results in runs:
        prefix = f"{results.run}: " if len(runs) > 1 else ""
        notes += [prefix + text for text in (exactness_text(results), *unbounded_checks(results))]
        notes += [f"{prefix}{attack.attack}: {attack.describe()}" for attack in results.attacks]
    for note in [*notes, *(f"verdict: {verdict}" for verdict in table.verdicts)]:
        lines += wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(printable(line.rstrip()) for line in lines)


def printable(text: str) -> str:
    """Without control characters, which a hostile model name could send to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _norms(table: Headline) -> str:
    return "L∞ unless named" if any(column.norm != "linf" for column in table.columns) else "L∞"


class _Group:
    """Columns under one title: right-aligned cells, padded to the width of the title."""

    def __init__(self, title: str, heads: list[str], cells: list[list[str]], left: bool = False) -> None:
        self.left = left
        widths = [max(map(len, (head, *column))) for head, column in zip(heads, cells, strict=True)]
        self.titles = _split(title)
        self.width = max(*map(len, self.titles), sum(widths) + len(widths) - 1)
        self.head = self._join(heads, widths)
        self.body = [self._join(list(row), widths) for row in zip(*cells, strict=True)]

    def _join(self, cells: list[str], widths: list[int]) -> str:
        pad = str.ljust if self.left else str.rjust
        return pad(" ".join(pad(cell, width) for cell, width in zip(cells, widths, strict=True)), self.width)


def _split(title: str) -> tuple[str, str]:
    """A title on two lines: settings in brackets go below the name."""
    name, bracket, rest = title.partition("(")
    return (name, bracket + rest) if bracket else ("", title)


def _blocks(table: Headline, with_run: bool, width: int) -> list[list[str]]:
    """The table, cut between attacks where it is too wide; every piece names its lines."""
    names = _name_group(table.lines, with_run)
    clean = _Group("", ["clean"], [[_cell(line.clean) for line in table.lines]])
    tail = _tail(table)
    attacks = [
        _Group(
            title,
            [table.columns[place].strength for place in places],
            [[_cell(line.attacked[place]) for line in table.lines] for place in places],
        )
        for title, places in table.groups
    ]
    pieces: list[list[_Group]] = []
    piece, after = [names, clean], tail
    for group in attacks:
        if len(piece) > 1 and _width([*piece, group, *after]) > width:
            pieces.append([*piece, *after])
            piece, after = [names], []
        piece.append(group)
    pieces.append([*piece, *after])
    return [_render(piece) for piece in pieces]


def _name_group(lines: Sequence[HeadlineRow], with_run: bool) -> _Group:
    heads = ["run"] * with_run + ["model", "victim", "bits"]
    cells = [[line.run, line.model, line.victim, line.bits_text][not with_run :] for line in lines]
    return _Group("", heads, [list(column) for column in zip(*cells, strict=True)] or [[] for _ in heads], left=True)


def _tail(table: Headline) -> list[_Group]:
    groups = []
    if table.ball is not None:
        at = f"ε={table.ball[1]:g}"
        groups = [
            _Group(at, ["transfer"], [[_cell(line.transfer) for line in table.lines]]),
            _Group(at, ["worst"], [[_cell(line.worst) for line in table.lines]]),
        ]
    flags = ["".join(MARKS.get(flag, "?") for flag in line.flags) for line in table.lines]
    return [*groups, _Group("", ["flags"], [flags], left=True)]


def _cell(number: Number | None) -> str:
    return "–" if number is None else percent(number.accuracy) + number.marks


def _width(groups: Sequence[_Group]) -> int:
    return sum(group.width for group in groups) + len(_GAP) * (len(groups) - 1)


def _render(groups: Sequence[_Group]) -> list[str]:
    above = [_GAP.join(group.titles[level].center(group.width) for group in groups) for level in (0, 1)]
    heads = _GAP.join(group.head for group in groups)
    rule = _GAP.join("─" * group.width for group in groups)
    body = [_GAP.join(cells) for cells in zip(*(group.body for group in groups), strict=True)]
    return [line for line in above if line.strip()] + [heads, rule, *body]
