"""How a command ends: one message and an exit status, whatever went wrong or whoever stopped it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from io import TextIOWrapper
from typing import NoReturn

import typer

from qmodels.errors import RobustHlsError, UserError
from qmodels.interrupts import STATUS, stoppable

#: The machine's state, not a defect of ours.
_NOT_OUR_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
#: Its limits: memory, open files, processes.
_TOO_LITTLE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
#: What was typed leads nowhere.
_NO_SUCH_PLACE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
#: Columns; with fewer, tables would have no room for their words.
_NARROWEST = 20


@contextlib.contextmanager
def one_message() -> Iterator[None]:
    """Errors in the block become one message and an exit status; those that are defects of ours stay what they are."""
    try:
        yield
    except RobustHlsError as error:
        die(str(error), error.exit_status)
    except OSError as error:
        if error.errno in _NO_SUCH_PLACE:
            die(f"{str(error.filename)[:200]}: {os.strerror(error.errno or 0)}", UserError.exit_status)
        if error.errno in _TOO_LITTLE:
            die(f"{os.strerror(error.errno or 0)}; look at ulimit -a, or use a smaller model", UserError.exit_status)
        if error.errno not in _NOT_OUR_FAULT:
            raise
        where = error.filename or "writing failed"
        die(f"{where}: {os.strerror(error.errno)}; make room or choose another --out", UserError.exit_status)
    except MemoryError as error:
        die(f"too little memory ({error}); take a smaller model or fewer samples", UserError.exit_status)


def settle() -> None:
    """What is set up around us decides neither whether we end well nor what we compute."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal of another encoding gets `?`
            stream.reconfigure(errors="replace")
    if not (columns := os.environ.get("COLUMNS", "80")).isdigit() or int(columns) < _NARROWEST:
        del os.environ["COLUMNS"]
    if "error" in (option.split(":")[0] for option in sys.warnoptions):  # of libraries: they are not ours to mend
        warnings.simplefilter("default")
        os.environ.pop("PYTHONWARNINGS", None)


@contextlib.contextmanager
def ends_when_stopped(message: str) -> Iterator[None]:
    """Ctrl-C in the block ends the command with a message; typer would end it without a word."""
    try:
        with stoppable(message):
            yield
    except KeyboardInterrupt:
        die(message, STATUS)


def die(message: str, status: int) -> NoReturn:
    """End with a message on stderr."""
    say(f"robust-hls: {message}", err=True)
    sys.exit(status)


def say(message: str, err: bool = False) -> None:
    """Print a line. Names in files that others made must not steer your terminal."""
    shown = (sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in message)
    typer.echo("".join(shown), err=err)
