"""Where the `robust-hls` command begins: Ctrl-C ends it without a traceback, even while our modules are read."""

from __future__ import annotations

import signal

from qmodels.interrupts import end_now


def main() -> None:
    """Entry point. Until a command begins to work there is nothing to put away; then it handles signals itself."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background, where it is ignored
        signal.signal(signal.SIGINT, end_now)
    from hw.cli import main as command

    command()


if __name__ == "__main__":
    main()
