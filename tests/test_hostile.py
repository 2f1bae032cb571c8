"""A ninth of the hostile checks of `benchmarks/hostile.py`: each as it must be, no traceback, no file lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.gxx
@pytest.mark.slow  # half a minute on all cores, and commands of its own: `make bench` has it too
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_hangs(tmp_path: Path) -> None:
    out = tmp_path / "hostile.json"
    command = [sys.executable, "benchmarks/hostile.py", "--quick", "--json", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    report = json.loads(out.read_text())
    assert report["details"]["wrong"] == {}, done.stdout
    figures = report["figures"]
    assert figures["checks"] >= 45
    assert (figures["wrong"], figures["tracebacks"], figures["files_lost"]) == (0, 0, 0)
