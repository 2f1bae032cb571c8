"""A run's folder: whose it is, what is finished in it, and that only one process works there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmodels.digest import file_digest
from qmodels.errors import UserError
from qmodels.storage import write_bytes, write_json


class RunFolder:
    """`hls_projects/<run>/`. Finished steps are recorded in `.steps/` with the digests of what they made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.yaml").exists()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however it ends.

        Raises:
            UserError: the folder cannot be made, or another process works in it.
        """
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if is_new:
                self._remove_if_empty()
            raise UserError(f"{self.path}: cannot write there ({error.strerror}); choose another --out") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{self.path}: another robust-hls works in this folder; wait or use --out") from None
            yield
        finally:
            os.close(handle)
            if is_new:
                self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        """A run that could not even start leaves no folder behind."""
        with contextlib.suppress(OSError):
            if {path.name for path in self.path.iterdir()} <= {".lock"}:
                (self.path / ".lock").unlink(missing_ok=True)
                self.path.rmdir()

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
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(self._record_path(step).read_text())
            if isinstance(record, dict):
                return record
        return {}
