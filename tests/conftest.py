"""Fixtures that several test files share: a machine without our variables, the command in-process, tiny models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli import Cli
from helpers.models import Toolbox
from hypothesis import settings

# No deadline: the machine is shared and the first example loads TensorFlow. Derandomized: same tests for everyone.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing of the user's environment decides a test, and nothing is left in the user's cache."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"  # one for all workers
    folder.mkdir(exist_ok=True, mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("ROBUST_HLS_")]:
            patch.delenv(variable)
        patch.setenv("ROBUST_HLS_CACHE", str(folder))
        patch.setenv("COLUMNS", "300")  # rich would wrap messages at the width of a terminal that is not there
        yield folder


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`robust-hls` in-process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Tiny digits data and models, made once."""
    return Toolbox()
