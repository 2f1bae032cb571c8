"""The `robust-hls` command in-process: a subprocess for each case would cost seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hw.cli import main
from qmodels.digest import file_digest


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str


@dataclass
class Cli:
    """Runs `robust-hls ARGUMENTS` with `folder` as the current folder."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Outcome:
        self.monkeypatch.setattr("sys.argv", ["robust-hls", *map(str, arguments)])
        self.capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = self.capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    def refuses(self, *arguments: str | Path, status: int = 2) -> str:
        """The message of a command that must end with `status`, write nothing and show no traceback."""
        before = snapshot(self.folder)
        outcome = self(*arguments)
        assert outcome.status == status, outcome
        assert outcome.err.startswith("robust-hls: "), outcome.err
        assert "Traceback" not in outcome.err
        assert snapshot(self.folder) == before, "something was written"
        return outcome.err


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below `folder`, with the digest of its content."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path) if path.is_file() else "" for path in folder.rglob("*")
    }
