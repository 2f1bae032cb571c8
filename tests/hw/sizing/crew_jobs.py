"""Jobs for tests of crews; a worker imports them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qmodels.errors import UserError


def add(argument: int, blobs: Mapping[str, Any]) -> int:
    return argument + sum(blobs.values())


def fail(argument: str, blobs: Mapping[str, Any]) -> None:
    raise UserError(argument) if argument else ZeroDivisionError("a defect")


def die_once(argument: str, blobs: Mapping[str, Any]) -> str:
    """Takes its worker along the first time."""
    mark = Path(argument)
    if not mark.exists():
        mark.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die(argument: None, blobs: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nap(argument: str, blobs: Mapping[str, Any]) -> int:
    """Says who it is, and sleeps."""
    Path(argument, str(os.getpid())).touch()
    time.sleep(60)
    return 0


def environment(argument: str, blobs: Mapping[str, Any]) -> str | None:
    sys.stdout.write("to the log\n")
    sys.stdout.flush()
    return os.environ.get(argument)


def meet(argument: str, blobs: Mapping[str, Any]) -> str | None:
    """Ends when two processes are here at the same time; says how many threads TensorFlow may have."""
    Path(argument, str(os.getpid())).touch()
    end = time.monotonic() + 60
    while len(list(Path(argument).iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    return os.environ.get("TF_NUM_INTRAOP_THREADS")
