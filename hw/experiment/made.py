"""Which files of a run's folders `hls/` and `synthesis/` we made: all others are yours, and are kept.

`.made.json` has the digests of what we wrote, and `*` for what a vendor's tool wrote. When such a folder is made anew,
a file that is not in the list stays where it is, and one of ours that somebody changed stays as `NAME.edited`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from qmodels.digest import file_digest
from qmodels.shapes import Part, read_stored
from qmodels.storage import PARTIAL, write_json

MADE_FILE = ".made.json"
EDITED = ".edited"
ANY = "*"  # whatever is in it


class MadePart(Part):
    """.made.json."""

    files: dict[str, list[str]]  # path inside the run -> digests that it may have
    #: Folders in which a tool works, or worked when it was killed -> the files in it that are not the tool's.
    working: dict[str, list[str]] = Field(default={})


class MadeFiles:
    """The list of one run folder."""

    def __init__(self, folder: Path, recorded: dict[str, str]) -> None:
        """Read it.

        Args:
            folder: of the run.
            recorded: digests of files that its steps made, for folders older than the list.

        Raises:
            UserError: somebody edited the list.
        """
        self._folder, self._path = folder, folder / MADE_FILE
        self._known = self._path.is_file()
        plain: dict[str, Any] = read_stored(self._path, MadePart) if self._known else {}
        self._files: dict[str, list[str]] = plain.get("files", {name: [digest] for name, digest in recorded.items()})
        self._working: dict[str, list[str]] = plain.get("working", {})

    def foreign(self, name: str) -> dict[str, str]:
        """What in the folder `name` is not as we left it: path in the run -> path that it gets in the new folder."""
        found = {}
        for path in _files_below(self._folder, name):
            digests = self._digests_of(path)
            if not digests:
                found[path] = path
            elif ANY not in digests and file_digest(self._folder / path) not in digests:
                found[path] = path + EDITED
        return found

    def keep(self, name: str, fresh: Path) -> dict[str, str]:
        """Copy what is not ours into the folder that takes the place of `name`, and note what we made there.

        Returns:
            what was kept, as `foreign` gives it.
        """
        made = {f"{name}/{path}": file_digest(fresh / path) for path in _files_below(fresh, "")}
        kept = self.foreign(name)
        for source, target in kept.items():
            place = fresh / Path(target).relative_to(name)
            if os.path.lexists(place):  # of ours, and now also in the new folder
                place = place.with_name(place.name + EDITED)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._folder / source, place, follow_symlinks=False)
        for path, digest in made.items():  # the old file may be there yet when we are killed
            self._files[path] = list(dict.fromkeys([*self._files.get(path, [])[-1:], digest]))
        self._working.pop(name, None)
        self._write()
        return kept

    def begin(self, name: str) -> None:
        """A tool begins to work in a folder: what is there and not in the list is not the tool's."""
        self._working[name] = [path for path in _files_below(self._folder, name) if not self._digests_of(path)]
        self._write()

    def end(self, name: str) -> None:
        """It has ended: all else is."""
        yours = set(self._working.pop(name, ()))
        for path in _files_below(self._folder, name):
            if path not in yours:
                self._files[path] = [ANY]
        self._write()

    def _digests_of(self, path: str) -> list[str]:
        for name, yours in self._working.items():
            if path.startswith(f"{name}/"):
                return [] if path in yours else [ANY]
        return self._files.get(path, [])

    def _write(self) -> None:
        write_json(self._path, {"files": self._files, "working": self._working})


def _files_below(folder: Path, name: str) -> Iterator[str]:
    """Files and links in folder/name, as paths inside `folder`; none that are not whole yet."""
    for root, folders, files in os.walk(folder / name):
        linked = [entry for entry in folders if (Path(root) / entry).is_symlink()]
        folders[:] = [entry for entry in folders if entry not in linked and not entry.startswith(PARTIAL)]
        for entry in [*files, *linked]:
            if not entry.startswith(PARTIAL):
                yield (Path(root) / entry).relative_to(folder).as_posix()
