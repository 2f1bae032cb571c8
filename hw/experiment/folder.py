"""A folder of ours: whose it is, what is finished in it, and that only one process works there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from hw.experiment.made import MadeFiles
from qmodels.digest import file_digest
from qmodels.errors import UserError
from qmodels.shapes import Part, Strength, read_stored
from qmodels.storage import PARTIAL, REPLACED, atomic_folder, put_back, usable_path, write_bytes, write_json

Kind = Literal["run", "sizing", "tables"]
#: The file that makes a folder ours. We write into, and remove from, folders that have it, and new ones.
MARKER = ".robust-hls.json"
MARKER_SCHEMA = 1
_LOCK = ".lock"
_TOLD = 5  # files that are kept


def _inside(name: str) -> str:
    if name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError("must be a path inside the folder")
    return name


class RecordPart(Part):
    """A file of `.steps/`."""

    key: str
    outputs: dict[Annotated[str, AfterValidator(_inside)], str]
    seconds: Strength = 0.0


class RunFolder:
    """`hls_projects/<run>/`. Finished steps are recorded in `.steps/` with the digests of what they made."""

    def __init__(self, path: Path, kind: Kind = "run") -> None:
        """Nothing is read or written yet.

        Args:
            path: the folder.
            kind: what it holds, or will hold.
        """
        self.path, self.kind = path, kind

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.yaml").is_file() and self.is_ours()

    def is_ours(self) -> bool:
        """Whether we made this folder, for this kind of work."""
        return self._marked_kind() == self.kind or self._is_older()

    def check(self, inputs: Sequence[Path | None] = ()) -> None:
        """Whether we may work here; nothing is written.

        Args:
            inputs: files that the user brings, which may not lie inside.

        Raises:
            UserError: the folder has something that we did not make, or another kind of work; or it lies inside a run.
        """
        folder = usable_path(self.path)
        for path in inputs:
            if path is not None and folder.resolve() in usable_path(path).resolve().parents:
                raise UserError(f"{path}: lies inside the output folder {folder}; choose another --out")
        if not folder.is_dir():
            self._check_parents()
            return
        if self.is_ours() or self._is_empty():
            return
        found = self._marked_kind()
        if found is not None:
            raise UserError(f"{folder}: contains {_A[found]}, not {_A[self.kind]}; choose another --out")
        raise UserError(
            f"{folder}: not empty, and not made by robust-hls ({MARKER} is missing); nothing was touched: "
            "choose another --out, or an empty folder"
        )

    def require(self) -> None:
        """Raise UserError unless the folder has work of this kind, made by us."""
        folder = usable_path(self.path)
        if self.is_ours():
            return
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        found = self._marked_kind()
        has = f"it contains {_A[found]}" if found is not None else f"{MARKER} is missing"
        raise UserError(f"{folder}: no {self.kind} of robust-hls in this folder ({has})")

    def remove(self, *names: str) -> None:
        """Remove files that an earlier step of ours left here; those that are not there are no error."""
        for name in names:
            path = self.path / name
            if os.path.lexists(path):
                self.require()
                path.unlink()

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A new folder that takes the place of `name` here when the block succeeds; see `atomic_folder`.

        Files in the old one that are not ours are kept, and told.
        """
        if os.path.lexists(self.path / name):
            self.require()
            if (self.path / name).is_symlink() or not (self.path / name).is_dir():
                raise UserError(f"{self.path / name}: is not the folder that robust-hls made here; move it away")
        with atomic_folder(self.path / name) as fresh:
            yield fresh
            kept = self.made().keep(name, fresh)
        for source, target in [*kept.items()][:_TOLD]:
            why = "was not made by robust-hls" if source == target else f"was edited; your version is {target}"
            sys.stderr.write(f"{self.path / source}: {why}; it is kept\n")
        if len(kept) > _TOLD:
            sys.stderr.write(f"{self.path / name}: {len(kept) - _TOLD} more files are kept\n")

    def made(self) -> MadeFiles:
        """Which files of `hls/` and `synthesis/` are ours."""
        return MadeFiles(self.path, self.outputs("project") | self.outputs("testbench"))

    def owns(self, path: Path) -> bool:
        """Whether a file inside is part of the work here: replacing it would spoil that."""
        name = path.resolve().relative_to(self.path.resolve()).as_posix()
        made = {output for record in (self.path / ".steps").glob("*.json") for output in self.outputs(record.stem)}
        return path.exists() and (name in made or "/" in name or name.startswith(".") or name in _FIXED)

    def _check_parents(self) -> None:
        """A new folder inside a run would go when the run's files are made anew."""
        for parent in self.path.absolute().parents:
            inside = self.path.parent.name == "black_box"  # the attacker's own models
            if RunFolder(parent)._marked_kind() == "run" and not inside:
                raise UserError(f"{self.path}: lies inside the run {parent}; choose another --out")

    def _is_empty(self) -> bool:
        """Nothing but what a command of ours that was killed at its start may leave."""
        return all(path.name == _LOCK or path.name.startswith(PARTIAL) for path in self.path.iterdir())

    def _marked_kind(self) -> Kind | None:
        """What the marker says; None without one.

        Raises:
            UserError: a marker that we cannot read: damaged, or of a later version.
        """
        path = self.path / MARKER
        try:
            if path.exists() and not path.is_file():  # a pipe would keep us waiting
                raise ValueError("no file")
            plain = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError):
            plain = None
        if isinstance(plain, dict) and plain.get("schema") == MARKER_SCHEMA and plain.get("kind") in _A:
            found: Kind = plain["kind"]
            return found
        raise UserError(f"{path}: damaged, or of another version of robust-hls; choose another --out")

    def _is_older(self) -> bool:
        """Made by a version that wrote no marker: its own records tell."""
        if (self.path / MARKER).exists():
            return False
        if self.kind == "sizing":
            return (self.path / "sizing.yaml").is_file() and _begins(self.path / "store.sqlite", b"SQLite format 3\0")
        if self.kind == "tables":
            rows = (self.path / "rows").glob("*") if (self.path / "tables.yaml").is_file() else ()
            return any(RunFolder(row).is_ours() for row in rows)
        records = (self._record(path.stem) for path in (self.path / ".steps").glob("*.json"))
        return (self.path / "config.yaml").is_file() and any({"key", "outputs"} <= set(record) for record in records)

    def claim(self) -> None:
        """Make, and mark as ours, a folder inside one that is ours already."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._mark()

    def _mark(self) -> None:
        if (self.path / MARKER).exists():
            return
        if self._is_older():
            sys.stderr.write(f"{self.path}: made by an earlier robust-hls; marked as ours ({MARKER})\n")
        write_json(self.path / MARKER, {"schema": MARKER_SCHEMA, "kind": self.kind})

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process, marked as ours; the lock ends with the process, however it ends.

        Raises:
            UserError: the folder is not ours or cannot be made, or another process works in it.
        """
        self.check()
        made = [folder for folder in (self.path, *self.path.absolute().parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            self._remove_if_empty(made)
            raise UserError(f"{self.path}: cannot write there ({error.strerror}); choose another --out") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{self.path}: another robust-hls works in this folder; wait or use --out") from None
            self._mark()
            self._clear()
            yield
        finally:
            os.close(handle)
            self._remove_if_empty(made)

    def _clear(self) -> None:
        """Remove what writers that were killed left; whoever holds the lock of a run is the only writer."""
        for path in self.path.rglob(f"{REPLACED}*") if self.kind == "run" else ():
            put_back(path)
        for path in self.path.rglob(f"{PARTIAL}*") if self.kind == "run" else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _remove_if_empty(self, made: list[Path]) -> None:
        """A run that could not even start leaves no folder behind: none of those that it made, its own first."""
        with contextlib.suppress(OSError):
            if made and {path.name for path in self.path.iterdir()} <= {_LOCK, MARKER}:
                (self.path / MARKER).unlink(missing_ok=True)
                (self.path / _LOCK).unlink(missing_ok=True)
                for folder in made:
                    folder.rmdir()

    def is_done(self, step: str, key: str) -> bool:
        """Whether `step` finished with the inputs that `key` stands for, and its outputs are untouched."""
        record = self._record(step)
        return record.get("key") == key and all(
            (self.path / name).is_file() and file_digest(self.path / name) == digest
            for name, digest in record.get("outputs", {}).items()
        )

    def outputs(self, step: str) -> dict[str, str]:
        """Digests of what a finished step made, by file name."""
        found: dict[str, str] = self._record(step).get("outputs", {})
        return found

    def mark_done(self, step: str, key: str, outputs: tuple[str, ...], seconds: float) -> None:
        """Record that `step` has made `outputs`."""
        digests = {name: file_digest(self.path / name) for name in outputs}
        write_json(self._record_path(step), {"key": key, "outputs": digests, "seconds": round(seconds, 3)})

    def amend(self, step: str, name: str, content: Any) -> None:
        """Replace a JSON file that a finished step made, with what came to be known later; the step stays finished."""
        record = self._record(step)
        write_json(self.path / name, content)
        record["outputs"][name] = file_digest(self.path / name)
        write_json(self._record_path(step), record)

    def adopt(self, step: str, key: str, other: RunFolder) -> None:
        """Take over what a step made in another folder, as the answer to `key` here."""
        for name in other.outputs(step):
            write_bytes(self.path / name, (other.path / name).read_bytes())
        write_json(self._record_path(step), other._record(step) | {"key": key})

    def seconds(self, step: str) -> float:
        """How long the step took when it ran."""
        return float(self._record(step).get("seconds", 0.0))

    def _record_path(self, step: str) -> Path:
        return self.path / ".steps" / f"{step}.json"

    def _record(self, step: str) -> dict[str, Any]:
        """What was noted of a finished step; nothing where somebody edited it: the step is done again."""
        with contextlib.suppress(UserError):
            record: dict[str, Any] = read_stored(self._record_path(step), RecordPart)
            return record
        return {}


#: Files that no step of a run records.
_FIXED = frozenset(
    "config.yaml environment.json repair.json synthesis.json rtl.json sizing.yaml experiment.yaml store.sqlite "
    "workers.log sizing.json sizing.csv sizing.md report.html tables.yaml tables.json tables.md tables.html".split()
)
_A = {"run": "a run", "sizing": "a sizing", "tables": "tables"}


def check_output(path: Path) -> None:
    """Raise UserError for a report's file that cannot be written, or is part of a run, a sizing or tables."""
    usable_path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot write there: no folder {path.parent}; make it, or choose another file")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is there, and is no file; choose another one")
    for parent in path.resolve().parents:
        kind = RunFolder(parent)._marked_kind()
        if kind is not None and RunFolder(parent, kind).owns(path):
            raise UserError(f"{path}: is one of the files of {_A[kind]} ({parent}); choose another one")


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False
