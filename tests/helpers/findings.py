"""The findings of docs/hls4ml_findings.md: their reproducers are run as they stand there."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hw.generate.convert import legacy_keras, quiet
from qmodels.runtime import runtime

PAGE = Path(__file__).parents[2] / "docs/hls4ml_findings.md"
_PARAGRAPH = re.compile(r"^### (.*?)\n(.*?)^```(python|cpp)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_WE = re.compile(r"^- We: (.*?)\n- ", re.DOTALL | re.MULTILINE)
_TEST = re.compile(r"^- Test: `(.*?)`$", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One paragraph of the page."""

    title: str
    test: str  # file::function below tests/hw/findings
    ours: str  # what we do about it
    language: str
    code: str

    @property
    def gone(self) -> str:
        """What to do when hls4ml does not do it any more."""
        return (
            f"hls4ml no longer does this: {self.title!r}. Drop what we do about it ({self.ours}), "
            f"this paragraph of docs/{PAGE.name}, and this test."
        )

    def run(self) -> dict[str, Any]:
        """Run the Python reproducer in the current folder; the names it leaves."""
        return self._run(io.StringIO())

    def _run(self, told: io.StringIO) -> dict[str, Any]:
        with legacy_keras(), quiet(), contextlib.redirect_stdout(told):  # hls4ml prints what g++ says
            names = dict(_first_block())
            exec(compile(self.code, f"{PAGE.name}: {self.title}", "exec"), names)
        return names

    def still(self, fault: bool) -> None:
        """The fault is still there."""
        assert fault, self.gone

    def stops(self, error: type[Exception], message: str) -> None:
        """The Python reproducer stops, with that error and those words in it or printed before it."""
        told = io.StringIO()
        try:
            self._run(told)
        except error as caught:
            errors = [line for line in told.getvalue().splitlines() if "error" in line]
            assert any(message in line for line in (str(caught), *errors)), f"it stops at {caught!r} {errors}"
            return
        pytest.fail(self.gone)

    def status(self, folder: Path) -> tuple[int, str]:
        """Compile and run the C++ reproducer with the headers that hls4ml brings along: exit status and stderr."""
        import hls4ml

        headers = Path(hls4ml.__file__).parent / "templates/vivado"
        (folder / "finding.cpp").write_text(self.code)
        command = [
            "g++",
            "-O0",
            "-w",
            "-std=c++14",
            f"-I{headers}",
            f"-I{headers}/ap_types",
            "finding.cpp",
            "-o",
            "finding",
        ]
        subprocess.run(command, cwd=folder, check=True, timeout=120)
        done = subprocess.run([folder / "finding"], capture_output=True, text=True, timeout=20, check=False)
        return done.returncode, done.stderr


@cache
def findings() -> dict[str, Finding]:
    """Every finding of the page, by its test."""
    found = {}
    for title, facts, language, code in _PARAGRAPH.findall(PAGE.read_text(encoding="utf-8")):
        (ours,), (test,) = _WE.findall(facts), _TEST.findall(facts)
        found[test] = Finding(title, test, " ".join(ours.split()), language, code)
    return found


@cache
def _first_block() -> dict[str, Any]:
    runtime()  # quietly, before the block imports it
    names: dict[str, Any] = {}
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    exec(compile(block[1], f"{PAGE.name}: first block", "exec"), names)
    return names
