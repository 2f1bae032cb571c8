"""Ctrl-C and SIGTERM that no library can swallow.

Python raises KeyboardInterrupt wherever the program is: also in a destructor, in a callback of a weak reference (every
import has some) or before a bare `except:`, and there it is dropped. Here a signal is remembered, and raised again
every fifth of a second until somebody handles it; and no file of ours is finished in between.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: Exit status of a command that was asked to end, by whichever signal.
STATUS = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.2
_TWICE_SECONDS = 0.5  # two signals within are one: a wrapper passes on what the terminal has sent already
_LOADING_SECONDS = 3.0  # how long modules that load are waited for
_CLEANING_SECONDS = 30.0  # who puts away for longer has swallowed it


class _Stop:
    """Handles the signals of one `stoppable` block."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.since: float | None = None  # when it was first asked for
        self.later = 0  # depth of `interrupt_later` blocks
        self._process = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember it, and raise KeyboardInterrupt; the second one ends the process here and now."""
        now = time.monotonic()
        if os.getpid() != self._process:  # a fork has not asked for this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.since is None:
            self.since = now
            if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
                signal.signal(signal.SIGALRM, self._again)
                signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
        elif now - self.since > _TWICE_SECONDS:
            end_now()
        else:
            return
        if not self.later:
            raise KeyboardInterrupt

    def _again(self, number: int, frame: FrameType | None) -> None:
        if self.later and self.since is not None and time.monotonic() - self.since > _LOADING_SECONDS:
            end_now()
        if self.swallowed():
            raise KeyboardInterrupt

    def swallowed(self) -> bool:
        """Whether it was asked for, and nobody handles it at this moment."""
        if self.since is None or self.later:
            return False
        error = sys.exc_info()[1]
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__context__
        return error is None or time.monotonic() - self.since > _CLEANING_SECONDS

    def untimed(self) -> None:
        """No more raising."""
        if signal.getsignal(signal.SIGALRM) == self._again:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


_running: list[_Stop] = []  # signals belong to the process, and so do these
_stopped: list[_Stop] = []
_messages = 2  # the file descriptor of stderr


@contextlib.contextmanager
def stoppable(message: str = "stopped") -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the block until it ends; a second one ends the process.

    Whoever catches KeyboardInterrupt says the message; it is said here only where the process ends at once.

    A signal that is ignored stays so (a job in the background of a shell, nohup). Whatever error a library made of
    KeyboardInterrupt, it leaves the block as KeyboardInterrupt. Only in the main thread; inside another such block
    nothing more is done.
    """
    if _running or not _in_main_thread():
        yield
        return
    stop, hook = _Stop(message), sys.unraisablehook
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    _running.append(stop)
    try:
        sys.unraisablehook = _quiet(hook)
        for number in before:
            signal.signal(number, stop.handle)
        yield
    except Exception:
        if stop.since is None:
            raise
        raise KeyboardInterrupt from None
    finally:
        stop.untimed()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _running.remove(stop)
        if stop.since is not None:
            _stopped.append(stop)


def raise_if_swallowed() -> None:
    """Raise KeyboardInterrupt if a signal asked for the end and the interruption got lost on its way."""
    if _in_main_thread() and any(stop.swallowed() for stop in _running):
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupt_later() -> Iterator[None]:
    """A signal in the block counts at its end: for modules that crash when KeyboardInterrupt comes while they load.

    If that takes longer than three seconds, the process ends.
    """
    if not _in_main_thread():
        yield
        return
    with stoppable():
        for stop in _running:
            stop.later += 1
        try:
            yield
        finally:
            for stop in _running:
                stop.later -= 1
        raise_if_swallowed()


def keep_status() -> None:
    """Have this process end with `STATUS` when it was stopped; to be called before anything registers with atexit.

    Python ends by the signal itself, whatever `sys.exit` says, when KeyboardInterrupt came through `exec` of a text.
    """
    atexit.register(_end_if_stopped)


def _end_if_stopped() -> None:
    """The last of all that was registered."""
    if _stopped:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(STATUS)


@contextlib.contextmanager
def messages_to(descriptor: int) -> Iterator[None]:
    """Where the last word goes while file descriptor 2 leads elsewhere."""
    global _messages
    before, _messages = _messages, descriptor
    try:
        yield
    finally:
        _messages = before


def end_now(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """End the process without putting anything away: files of ours are whole at every moment."""
    with contextlib.suppress(OSError):
        message = _running[0].message if _running else "stopped"
        os.write(_messages, f"robust-hls: {message}\n".encode())
    os._exit(STATUS)


def _in_main_thread() -> bool:
    """Where Python handles signals; in others nothing is interrupted."""
    return threading.current_thread() is threading.main_thread()


def _quiet(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Python writes a traceback of what is swallowed in a destructor; of this it comes again."""

    def quiet(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)

    return quiet
