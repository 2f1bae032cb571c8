"""Processes of their own, forked from one that has loaded everything: a start of their own costs seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.forked import FORKING, be_command, load_modules


def fork(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """`function` of a module, in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:  # of the process that is forked, which the first call starts
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        load_modules()
        forkserver.ensure_running()
    child = FORKING.Process(target=function, args=arguments)
    child.start()
    return child


def command(folder: Path, *words: str) -> ForkServerProcess:
    """`robust-hls WORDS` in a folder; what it says goes nowhere."""
    return fork(become, str(folder), words, dict(os.environ))


def become(folder: str, words: tuple[str, ...], environment: dict[str, str], err: str = os.devnull) -> None:
    """What `robust-hls WORDS` does, in this process; its errors go to a file."""
    from hw.cli import main

    nothing, errors = (os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in (os.devnull, err))
    be_command(main, words, folder, environment, {0: nothing, 1: nothing, 2: errors})
