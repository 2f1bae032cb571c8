"""One line: what is being done, done/total, the best so far, time left."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_SILENT_SECONDS = 30.0  # between two lines where the output is no terminal


class ProgressLine:
    """A line on standard error that rewrites itself on a terminal, and appears now and then elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._shown = 0.0
        self.best = ""
        self.begin("", 0, 0)

    def begin(self, stage: str, total: int, kept: int) -> None:
        """A stage of `total` designs starts; `kept` of them were done by an earlier run."""
        self._stage, self._total, self._done, self._fresh = stage, total, kept, 0
        self._started = time.monotonic()
        if total:
            self._show(force=True)

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        self._fresh += 1
        self._show(force=self._done == self._total)

    def end(self) -> None:
        """Leave the line as it is and go to the next."""
        if self._live:
            self._stream.write("\n")
            self._stream.flush()

    def text(self) -> str:
        """What the line says."""
        parts = [f"{self._stage} {self._done}/{self._total}", self.best, self._time_left()]
        return " · ".join(part for part in parts if part)

    def _time_left(self) -> str:
        left = self._total - self._done
        if not left or not self._fresh:
            return ""
        seconds = left * (time.monotonic() - self._started) / self._fresh
        return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"

    def _show(self, force: bool) -> None:
        now = time.monotonic()
        if self._live:
            self._stream.write(f"\r\x1b[K{self.text()}")
        elif force or now - self._shown >= _SILENT_SECONDS:
            self._stream.write(self.text() + "\n")
            self._shown = now
        self._stream.flush()
