"""What promises to need no Keras works where it is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALL = """
import importlib, pkgutil, sys
from helpers.without_keras import Missing
sys.meta_path.insert(0, Missing("hls4ml"))
for package in map(importlib.import_module, ("qmodels", "hw")):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)
print(sum(name.partition(".")[0] in ("hw", "qmodels") for name in sys.modules))
"""


def without_keras(*command: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )


def test_every_module_can_be_imported() -> None:
    done = without_keras("-c", ALL)
    assert done.returncode == 0, done.stderr
    files = [file for package in ("qmodels", "hw") for file in (ROOT / package).rglob("*.py")]
    assert int(done.stdout) == len(files)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.gxx
def test_the_parts_pass_their_own_tests() -> None:
    done = without_keras("-m", "pytest", "-p", "helpers.without_keras", "-n", "0", "-q")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
