"""Programs that never outlive us, even when we are killed: a shell beside each watches a pipe that our death closes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from qmodels.errors import UserError

#: What `run_guarded` gives as the status of a program that took too long.
TIMED_OUT = -1000

#: Standard input is the pipe. When it closes, the whole process group goes: the program and what it has started.
#: SIGTERM to the group is the program's alone; the shell waits for what comes of it.
_GUARD = """
exec 3<&0
trap : TERM
{ trap '' TERM; read -r _ <&3; kill -9 0; } >/dev/null 2>&1 &
watcher=$!
"$@" </dev/null 3<&- &
program=$!
while wait $program; status=$?; [ $status -gt 128 ] && kill -0 $program 2>/dev/null; do :; done
kill -9 $watcher
exit $status
"""


def guarded(command: Sequence[str]) -> list[str]:
    """The command that runs another one until the pipe that is its standard input closes: at the latest at our end."""
    return ["/bin/sh", "-c", _GUARD, "guard", *command]


def run_guarded(commands: Sequence[Sequence[str]], cwd: Path, seconds: float) -> list[tuple[int, str]]:
    """Run programs at once, to their ends.

    Args:
        commands: program and arguments, each.
        cwd: where.
        seconds: how long all of them together may take.

    Returns:
        For each its exit status (126 or 127: it cannot be run; `TIMED_OUT`) and what it wrote to standard error, in
        English where it has a choice; bytes that are no UTF-8 are replaced.
    """
    with contextlib.ExitStack() as stack:
        started = []
        for command in commands:
            words = stack.enter_context(tempfile.TemporaryFile())
            child = subprocess.Popen(
                guarded(command),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
            stack.callback(_end, child)
            started.append((child, words))
        deadline = monotonic() + seconds
        outcomes = []
        for child, words in started:
            try:
                status = child.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                status = TIMED_OUT
                _end(child)
            words.seek(0)
            outcomes.append((status, words.read().decode("utf-8", "replace")))
    return outcomes


def seconds_of(variable: str, default: float) -> float:
    """The time limit in an environment variable; UserError if it is no positive number of seconds."""
    text = os.environ.get(variable) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(f"{variable}={text}: must be a number of seconds above 0")
    return seconds


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the program's process group, if it still runs."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert child.stdin is not None
    child.stdin.close()
