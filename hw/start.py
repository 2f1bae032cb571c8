"""Where the `robust-hls` command begins: Ctrl-C ends it without a traceback, even while our modules are read."""

from __future__ import annotations

import signal

from qmodels.interrupts import end_now, keep_status


def main() -> None:
    """Entry point. Until a command begins to work there is nothing to put away; then it handles signals itself."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is usual:  # not one that is ignored, as in the background
            signal.signal(number, end_now)
    keep_status()
    from hw.cli import main as command

    command()


if __name__ == "__main__":
    main()
