"""Every test of this folder gets the finding of docs/hls4ml_findings.md that names it."""

from __future__ import annotations

import os
import shutil
from functools import singledispatch
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
    _forget_our_rules(monkeypatch)
    return findings()[f"{request.path.name}::{request.function.__name__}"]


def _forget_our_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """hls4ml's table as hls4ml brings it: a conversion earlier in this process has added ours (`teach_bit_exact`)."""
    from hls4ml.model.optimizer.passes import bit_exact

    known = bit_exact._produce_kif
    own = singledispatch(known.registry[object])
    for kind, rule in known.registry.items():
        if not rule.__module__.startswith("hw."):
            own.register(kind, rule)
    monkeypatch.setattr(bit_exact, "_produce_kif", own)
