"""Where the `robust-hls` command begins: Ctrl-C ends it without a traceback, even while our modules are read."""

from __future__ import annotations

import os
import signal
import sys

from qmodels.interrupts import end_now, keep_status


def main() -> None:
    """Entry point. Until a command begins to work there is nothing to put away; then it handles signals itself."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is usual:  # not one that is ignored, as in the background
            signal.signal(number, end_now)
    keep_status()
    _open_streams()
    from hw.cli import main as command

    command()


def _open_streams() -> None:
    """Where they were closed (`2>&-`, a daemon) the next file that we open would get what is printed."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(handle := os.open(os.devnull, os.O_RDWR), number)
            if handle != number:
                os.close(handle)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


if __name__ == "__main__":
    main()
