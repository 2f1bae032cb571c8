"""HDF5 files that strangers made, read in a process of their own first: a damaged one can hang libhdf5, or crash it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from qmodels.loading.hdf5_process import MAX_BYTES, TOLD, check_content

__all__ = ["MAX_BYTES", "check_content", "check_readable"]

WORKER = Path(__file__).with_name("hdf5_process.py")
_SECONDS = 2  # of the processor; a small file takes a hundredth of one
_BYTES_A_SECOND = 50_000_000


def check_readable(path: Path) -> None:
    """See that libhdf5 can read every attribute and number of a file.

    Args:
        path: an HDF5 file. The first one takes a quarter of a second, others a hundredth; a gigabyte takes one more.

    Raises:
        ValueError: libhdf5 hangs, crashes or finds the fault itself; or the file is too large, or has links.
    """
    seconds = _SECONDS + path.stat().st_size // _BYTES_A_SECOND
    reader = _READERS.setdefault(os.getpid(), _Reader())  # a fork of ours has its own
    status, told = reader.ask(path.resolve(), seconds)
    if status == TOLD:
        raise ValueError(told.strip()[:300])
    if status != 0:
        hangs = status in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL)
        raise ValueError(f"the file is damaged: HDF5's own library {'never ends' if hangs else 'crashes'} on it")


class _Reader:
    """A process that reads one file after another. It ends with us, and when nothing was read for a minute."""

    def __init__(self) -> None:
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, path: Path, seconds: int) -> tuple[int, str]:
        """The exit status of the fork that read the file, and what it said."""
        request = json.dumps([str(path), seconds]).encode() + b"\n"
        with self._lock:
            try:
                for _ in range(2):  # the first one may have ended meanwhile
                    if reply := _exchange(self._started(), request):
                        status, told = json.loads(reply)
                        return status, told
                    self.end()
            except BaseException:  # Ctrl-C too: it is in the middle of something
                self.end()
                raise
        raise OSError("the process that reads HDF5 files first has ended; too little memory?")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = _start()
            atexit.register(self.end)
        return self._child

    def end(self) -> None:
        """End the process, and the fork that may be reading."""
        if self._child is None or self._owner != os.getpid():
            return
        child, self._child = self._child, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with child:  # closes its pipes and waits
            pass
        atexit.unregister(self.end)


_READERS: dict[int, _Reader] = {}


def _start() -> subprocess.Popen[bytes]:
    import h5py
    import numpy as np

    folders = [str(Path(str(module.__file__)).resolve().parent.parent) for module in (np, h5py)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(WORKER), *folders],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the terminal's Ctrl-C is for us
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def _exchange(child: subprocess.Popen[bytes], request: bytes) -> bytes:
    """The line that answers a request; empty where the process is gone."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(request)
    return child.stdout.readline()
