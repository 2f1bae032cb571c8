"""What a check of `benchmarks/hostile.py` is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Check:
    """One command in a folder that was made hostile.

    Args:
        kind: the group it belongs to.
        arguments: of `robust-hls`.
        told: part of what it must say.
        statuses: exit statuses that are right.
        prepare: changes the folder before.
        environment: variables; `@` stands for the folder, `-` removes one.
        writes: it may leave new files although it fails (a run that had begun).
        interrupt_after: seconds until Ctrl-C.
        note: tells it from others.
        kept: files that must stay as they were before, whatever may be edited.
        shell: what a shell does before the command; it is started anew then.
        edits: how the paths of files begin that it may change.
    """

    kind: str
    arguments: tuple[str, ...]
    told: str
    statuses: tuple[int, ...] = (2,)
    prepare: Prepare = lambda folder: None
    environment: dict[str, str] = field(default_factory=dict)
    writes: bool = False
    interrupt_after: float | None = None
    note: str = ""
    kept: tuple[str, ...] = ()
    shell: str = ""
    edits: str = "\0"  # files whose paths begin so may change

    def __str__(self) -> str:
        shown = " ".join(word if len(word) < 60 else f"{word[:60]}..." for word in self.arguments)
        return f"{self.kind}: {shown!a} {self.note}".rstrip()


def write(name: str, content: str | bytes) -> Prepare:
    """Makes a file."""

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return prepare
