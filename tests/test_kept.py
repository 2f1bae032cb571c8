"""What tests keep between runs: never without end, and nothing that other sources would make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from time import time

import pytest
from helpers.kept import compile_once, prune

from hw.tools.cache import build_once

DAY = 24 * 60 * 60


@pytest.fixture(autouse=True)
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, of one version of g++."""
    folder = tmp_path / "compiled" / "a version"
    folder.parent.mkdir()
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(folder))
    return folder


def a_kilobyte(work: Path, final: Path) -> None:
    (work / "file").write_bytes(bytes(1000))


def test_what_was_unused_for_longest_goes_first_and_only_while_there_is_too_much(version: Path) -> None:
    for days in (9, 1, 5, 3):
        entry = build_once("kind", str(days), a_kilobyte)
        os.utime(entry / ".digest", (time() - days * DAY,) * 2)
    notes = version / "kind" / "notes"  # nothing that we wrote
    notes.mkdir()
    (notes / "file").write_bytes(bytes(5000))

    def left(most: int) -> set[str]:
        prune(version.parent, most)
        return {path.name for path in (version / "kind").iterdir()} - {"notes"}

    assert left(5000) == {"1", "3", "5", "9"}
    assert left(3500) == {"1", "3", "5"}
    assert left(0) == {"1"}  # in use, perhaps
    assert notes.is_dir()


@pytest.mark.gxx
def test_other_sources_and_other_commands_are_compiled_and_what_fails_is_not_kept(
    tmp_path: Path, version: Path
) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "main.cpp").write_text('#include "value.h"\nint main() { return VALUE; }\n')

    def status(value: str, *flags: str) -> int:
        (folder / "value.h").write_text(f"#ifndef VALUE\n#define VALUE {value}\n#endif\n")
        compile_once(folder, [*flags, "main.cpp"], "main")
        return subprocess.run([folder / "main"], check=False).returncode

    assert [status("3"), status("4"), status("3"), status("3", "-DVALUE=5")] == [3, 4, 3, 5]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"error: .*nothing"):
            status("nothing")
    assert len(list((version / "tests").iterdir())) == 3
