"""A command in a process forked from one that has loaded all modules: a start of its own costs seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context

FORKING = get_context("forkserver")


def load_modules() -> None:
    """Before the first fork: what every command needs is loaded once, in the process that is forked."""
    FORKING.set_forkserver_preload(["benchmarks.hostile_warm"])


def be_command(
    main: Callable[[], None],
    words: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    streams: Mapping[int, int],
) -> None:
    """What `robust-hls WORDS` does, in this process.

    Args:
        main: an entry point of the command.
        words: its arguments.
        folder: the current folder.
        environment: all of it.
        streams: file descriptors 0 to 2, and what each is to be from now on.
    """
    for number, source in streams.items():
        os.dup2(source, number)
    sys.stdout, sys.stderr = (open(fd, "w", encoding="utf-8") for fd in (1, 2))  # noqa: PTH123
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["robust-hls", *words]
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
