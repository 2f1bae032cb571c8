"""Our side of the process in which generated C++ runs: requests, shared memory, and what to say when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from time import monotonic
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hw.tools.guard import seconds_of
from qmodels.errors import SimulationFailed, ToolMissing

Array = NDArray[Any]

SECONDS_VARIABLE = "ROBUST_HLS_CSIM_SECONDS"
WORKER = Path(__file__).with_name("csim_worker.py")
_COUNTERS = 4096  # bytes: a count of finished samples for each of at most 512 threads
_ALIGN = 64
_POLL_SECONDS = 1.0


class CsimProcess:
    """One process with one library, started at the first call. It ends with this object, and with us."""

    def __init__(self, folder: Path, library: Path) -> None:
        """Nothing is started yet.

        Args:
            folder: where it runs; the library reads its weights from there.
            library: its file, wherever it is.
        """
        self._folder, self._library = folder, library
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def call(self, request: dict[str, Any], inputs: list[Array], results: list[Array]) -> None:
        """Have a request answered.

        Args:
            request: for the worker; the places of the arrays are added here, results by their `names` where given.
            inputs: C-contiguous arrays (N, ...).
            results: likewise; filled.

        Raises:
            SimulationFailed: the C++ crashed, ended the process, or finished no sample for too long.
            ToolMissing: the library cannot be loaded.
        """
        with self._lock:
            if self._running is None:
                self._running = _start(self._folder, self._library)
                self._ended = weakref.finalize(self, self._running.end)
            try:
                self._running.call(request, inputs, results)
            except BaseException:  # Ctrl-C too: it is in the middle of something
                self._ended()
                self._running = None
                raise


class _Running:
    def __init__(self, child: subprocess.Popen[bytes], memory: IO[bytes], requests: int, replies: int) -> None:
        self.child, self._memory, self._requests, self._replies = child, memory, requests, replies
        self._unread, self._size = b"", 0
        self._seconds = seconds_of(SECONDS_VARIABLE, 600)

    def ready(self) -> None:
        reply = self._reply(counters=None)
        if "cannot load" in reply:
            raise ToolMissing(reply["cannot load"])

    def call(self, request: dict[str, Any], inputs: list[Array], results: list[Array]) -> None:
        offsets, size = [], _COUNTERS
        for array in [*inputs, *results]:
            offsets.append(size)
            size += -(-array.nbytes // _ALIGN) * _ALIGN
        if size > self._size:
            os.ftruncate(self._memory.fileno(), size)
            self._size = size
        memory: Array = np.memmap(self._memory, np.uint8, "r+", shape=(size,))
        for array, offset in zip(inputs, offsets, strict=False):
            memory[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
        counters = memory[:_COUNTERS].view(np.uint64)
        places = [(offset, array.strides[0]) for array, offset in zip([*inputs, *results], offsets, strict=True)]
        given = {"bytes": size, **_placed(request, places, len(inputs))}
        with contextlib.suppress(BrokenPipeError):  # it died since: the reply tells
            os.write(self._requests, json.dumps(given).encode() + b"\n")
        reply = self._reply(counters)
        if "cannot load" in reply:
            raise ToolMissing(reply["cannot load"])
        for array, offset in zip(results, offsets[len(inputs) :], strict=True):
            array.reshape(-1).view(np.uint8)[:] = memory[offset : offset + array.nbytes]

    def _reply(self, counters: Array | None) -> dict[str, Any]:
        """The next line. The clock starts anew whenever a sample is finished."""
        done, since = -1, monotonic()
        while b"\n" not in self._unread:
            if select.select([self._replies], [], [], _POLL_SECONDS)[0]:
                part = os.read(self._replies, 1 << 16)
                if not part:
                    raise SimulationFailed(f"the C simulation {self._how_it_ended()}")
                self._unread += part
            now = int(counters.sum()) if counters is not None else 0
            if now != done:
                done, since = now, monotonic()
            if monotonic() - since > self._seconds:
                raise SimulationFailed(
                    f"the C simulation finished no sample for {self._seconds:g} s and was stopped; if its network is "
                    f"that large, give it longer: set {SECONDS_VARIABLE}"
                )
        line, _, self._unread = self._unread.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _how_it_ended(self) -> str:
        status = self.child.wait()
        if status >= 0:
            return f"ended itself: its C++ called exit({status})"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = "; too little memory?" if -status == signal.SIGKILL else ""
        return f"crashed: {name} in the generated C++{hint}"

    def end(self) -> None:
        """End the process and let go of all it used."""
        self.child.kill()
        self.child.wait()
        os.close(self._requests)
        os.close(self._replies)
        self._memory.close()


def _placed(request: dict[str, Any], places: list[tuple[int, int]], inputs: int) -> dict[str, Any]:
    """The request with the places of its arrays; those of traced layers by name."""
    if "traced" not in request:
        return request | {"arrays": places}
    names = request["traced"]
    traced = dict(zip(names, places[len(places) - len(names) :], strict=True))
    return request | {"arrays": places[: len(places) - len(names)], "traced": traced}


def _start(folder: Path, library: Path) -> _Running:
    theirs, requests = os.pipe()
    replies, answers = os.pipe()
    memory = tempfile.TemporaryFile(dir=_memory_folder())
    # -I -S: nothing of the user's Python set-up is read; the worker needs the standard library only.
    command = [sys.executable, "-I", "-S", str(WORKER), str(library)]
    try:
        child = subprocess.Popen(
            [*command, *map(str, (memory.fileno(), theirs, answers))],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(memory.fileno(), theirs, answers),
            start_new_session=True,  # the terminal's Ctrl-C is for us
        )
    except BaseException:
        os.close(requests)
        os.close(replies)
        memory.close()
        raise
    finally:
        os.close(theirs)
        os.close(answers)
    running = _Running(child, memory, requests, replies)
    try:
        running.ready()
    except BaseException:
        running.end()
        raise
    return running


def _memory_folder() -> str | None:
    """Where a file is memory, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
