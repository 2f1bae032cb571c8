"""Every test of this folder gets the finding of docs/hls4ml_findings.md that names it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.findings import Finding, findings


@pytest.fixture(scope="session")
def plain_gxx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A g++ that does not optimize, whatever hls4ml's build script says: it takes a third of the time."""
    folder = tmp_path_factory.mktemp("gxx")
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\nexec "{shutil.which("g++")}" "$@" -O0 -std=c++14 -w\n')
    program.chmod(0o755)
    return folder


@pytest.fixture
def finding(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_gxx: Path
) -> Finding:
    """The finding that names the test, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{plain_gxx}{os.pathsep}{os.environ['PATH']}")
    return findings()[f"{request.path.name}::{request.function.__name__}"]
