"""How long tables took, over all the times the command was started: kept on disk, so that a stopped one counts too."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

from qmodels.storage import write_json

WALL_FILE = "wall.json"


class WallClock:
    """Seconds of this start of the command and of earlier ones, in `OUT/wall.json`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WALL_FILE
        self._started = perf_counter()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.starts: list[dict[str, Any]] = [*_earlier(self._path), {"started": now, "seconds": 0.0}]

    def tick(self) -> None:
        """Note the time so far; what is not noted when the machine stops is lost."""
        self.starts[-1]["seconds"] = round(perf_counter() - self._started, 1)
        write_json(self._path, self.starts)

    @property
    def seconds(self) -> float:
        """Of all starts, as last noted."""
        return float(sum(start["seconds"] for start in self.starts))


def _earlier(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
