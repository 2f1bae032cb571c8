"""Progress of long work: one bar at a time, silent when standard error is not a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Bar(Protocol):
    """A running bar."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Move on by `steps`; `note` is a short text such as `loss 0.31`."""
        ...


class _Silent:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Nothing to show."""


@contextlib.contextmanager
def progress_bar(description: str, total: float) -> Iterator[Bar]:
    """A bar for `total` steps on standard error; nothing is drawn when that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Silent()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total, note="")

        class _Rich:
            def advance(self, steps: float = 1, note: str = "") -> None:
                progress.update(task, advance=steps, note=note)

        yield _Rich()
