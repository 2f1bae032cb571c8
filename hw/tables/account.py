"""How long tables took, over all the times the command was started: kept on disk, so that a stopped one counts too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

from qmodels.shapes import Part, Strength, read_stored
from qmodels.storage import write_json

WALL_FILE = "wall.json"
EVERY_SECONDS = 20.0


class StartPart(Part):
    """One start in wall.json."""

    started: str
    commit: str | None = None  # outside a git repository
    seconds: Strength


class WallClock:
    """Seconds and commit of this start of the command and of earlier ones, in `OUT/wall.json`."""

    def __init__(self, folder: Path, commit: str | None) -> None:
        self._path = folder / WALL_FILE
        self._started = perf_counter()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        this = {"started": now, "commit": commit, "seconds": 0.0}
        self.starts: list[dict[str, Any]] = [*_earlier(self._path), this]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Note the time now and then; what is not noted when the process dies is lost."""
        done = Event()

        def tick() -> None:
            while not done.wait(EVERY_SECONDS):
                self._note()

        thread = Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._note()

    def _note(self) -> None:
        self.starts[-1]["seconds"] = round(perf_counter() - self._started, 1)
        write_json(self._path, self.starts)

    @property
    def seconds(self) -> float:
        """Of all starts, until now."""
        return float(sum(start["seconds"] for start in self.starts[:-1])) + perf_counter() - self._started


def _earlier(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = read_stored(path, list[StartPart])
    return found
