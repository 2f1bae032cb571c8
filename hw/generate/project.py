"""A generated project as a value: files and their digest. Of an HLS project, what goes in and out of its top too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from qmodels.digest import files_digest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Ports:
    """The arguments of a project's top function, shapes of one sample each."""

    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()
    reentrant: bool = False  # whether its C++ may run in several threads at once: without static buffers
    traced: Mapping[str, Shape] = field(default_factory=dict)  # layers whose outputs its C simulation can record


@dataclass(frozen=True)
class FileTree:
    """Files by relative path."""

    name: str
    files: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {len(self.files)} files, {self.digest[:12]})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths and contents."""
        return files_digest(self.files)

    def write(self, folder: Path) -> None:
        """Write all files below `folder`; a path that would lead out of it is refused."""
        for relative, content in self.files.items():
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                raise ValueError(f"{relative}: not a path inside the project")
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if target.suffix == ".sh":
                target.chmod(0o755)


@dataclass(frozen=True, repr=False)
class HlsProject(FileTree):
    """The files of an HLS project. Same model and config: same bytes, same digest."""

    ports: Ports = Ports()
