"""Processes of their own, forked from one that has loaded everything: a start of their own costs seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

_FORKING = get_context("forkserver")


def fork(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """`function` of a module, in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:  # of the process that is forked, which the first call starts
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        _FORKING.set_forkserver_preload(["helpers.loaded"])
        forkserver.ensure_running()
    child = _FORKING.Process(target=function, args=arguments)
    child.start()
    return child


def command(folder: Path, *words: str, out: Path | None = None, err: Path | None = None) -> ForkServerProcess:
    """`robust-hls WORDS` in a folder; what it writes goes to these files, or nowhere."""
    return fork(be_command, str(folder), words, dict(os.environ), str(out or os.devnull), str(err or os.devnull))


def be_command(
    folder: str, words: tuple[str, ...], environment: dict[str, str], out: str = os.devnull, err: str = os.devnull
) -> None:
    """What `robust-hls WORDS` does, in this process."""
    from hw.cli import main

    for number, path in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8") for number in (1, 2))  # noqa: PTH123
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["robust-hls", *words]
    main()
