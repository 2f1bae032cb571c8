"""Where the `robust-hls` command begins: Ctrl-C ends it without a traceback, even while our modules are read."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Entry point."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background, where it is ignored
        signal.signal(signal.SIGINT, _stop)
    from hw.cli import main as command

    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


def _stop(number: int, frame: FrameType | None) -> None:
    """Nothing has begun: there is nothing to put away."""
    os.write(2, b"robust-hls: stopped\n")
    os._exit(130)


if __name__ == "__main__":
    main()
