"""Runs one vendor tool: its words go to a log, the telling ones to the console, and it never outlives us."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from hw.tools.guard import guarded
from qmodels.errors import ToolMissing
from qmodels.interrupts import stoppable

#: What is shown: the build script's headings, the HLS compiler's steps, our test bench's verdict, errors.
TELLING = re.compile(r"^(\*\*\*\*\* |ERROR|CRITICAL WARNING|PASS: |FAIL: |MISMATCH |INFO: \[HLS 200-10\] --|Error:)")
_GRACE_SECONDS = 10.0
_SHOWN_ERRORS = 3


def run_tool(command: Sequence[str], folder: Path, log: Path, say: Callable[[str], None]) -> float:
    """Run a tool in `folder` to its end; seconds it took.

    Ctrl-C, and SIGTERM or SIGHUP to us, end the tool with all its children before they are passed on; and so does our
    own end, however it comes.

    Raises:
        ToolMissing: it cannot be started, or ends with an error; its first error lines are shown.
    """
    started = perf_counter()
    errors: list[str] = []
    with stoppable(), log.open("w", encoding="utf-8") as out:
        try:
            # A session of its own: the terminal's Ctrl-C goes to us alone, and we end the whole group.
            child = subprocess.Popen(
                guarded(command),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise ToolMissing(f"{command[0]} cannot be run: {error}") from None
        try:
            assert child.stdout is not None
            for line in child.stdout:
                out.write(line)
                if TELLING.match(line):
                    say(f"  {line.rstrip()[:200]}")
                if line.startswith(("ERROR", "Error:")):
                    errors.append(line.strip()[:300])
            status = child.wait()
        finally:
            _end_group(child)
    if status != 0:
        told = "".join(f"\n  {line}" for line in errors[:_SHOWN_ERRORS])
        raise ToolMissing(f"{Path(command[0]).name} ended with status {status}; its output is in {log}{told}")
    return perf_counter() - started


def _end_group(child: subprocess.Popen[str]) -> None:
    """End the tool's process group: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
        except (ProcessLookupError, PermissionError):
            break
        if child.poll() is not None and sign == signal.SIGTERM:
            continue  # it is gone; what it left behind goes at once
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_SECONDS)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
