"""Progress of long work: one bar at a time on a terminal; elsewhere nothing, or a line now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

_LINE_SECONDS = 30.0


class Bar(Protocol):
    """A running bar."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Move on by `steps`; `note` is a short text such as `loss 0.31`."""
        ...


class _Silent:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Nothing to show."""


class _Lines:
    """Lines of a batch system's log: the first, the last, and one every half minute."""

    def __init__(self, description: str, total: float, done: float, note: str) -> None:
        self._description, self._total, self._note = description, total, note
        self._first = self._done = done
        self._started = time.monotonic()
        self._show()

    def advance(self, steps: float = 1, note: str = "") -> None:
        """One more step; a line if it is time for one."""
        self._done, self._note = self._done + steps, note or self._note
        if self._done >= self._total or time.monotonic() - self._shown >= _LINE_SECONDS:
            self._show()

    def _show(self) -> None:
        from rich.console import Console

        self._shown = time.monotonic()
        parts = [f"{self._description} {self._done:g}/{self._total:g}", self._note, self._time_left()]
        text = " · ".join(part for part in parts if part)
        Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)

    def _time_left(self) -> str:
        left, fresh = self._total - self._done, self._done - self._first
        if left <= 0 or not fresh:
            return ""
        seconds = left * (self._shown - self._started) / fresh
        return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"


@contextlib.contextmanager
def progress_bar(
    description: str, total: float, *, done: float = 0, note: str = "", lines: bool = False, live: bool = True
) -> Iterator[Bar]:
    """A bar for `total` steps on standard error.

    Args:
        description: what is being done.
        total: steps in all.
        done: steps that an earlier run has done.
        note: shown until `advance` brings another.
        lines: where no bar is drawn (standard error is no terminal), write a line now and then.
        live: draw a bar; not where the steps themselves draw bars, since a terminal has room for one.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (live and console.is_terminal):
        yield _Lines(description, total, done, note) if lines else _Silent()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total, note=note)
        progress.advance(task, done)

        class _Rich:
            def advance(self, steps: float = 1, note: str = "") -> None:
                progress.update(task, advance=steps, note=note or progress.tasks[0].fields["note"])

        yield _Rich()
