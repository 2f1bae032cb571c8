"""The process in which generated C++ runs: whatever it does to the process, ours goes on.

Run as a script, by `hw/simulate/csim_process.py`; it needs ctypes only, so it starts in milliseconds. Arguments: the
library, the file descriptor of the shared memory, and those of the pipes for requests and replies. A request is a line
of JSON; arrays are in the shared memory, at the offsets that it names.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_STACK_BYTES = 256 << 20  # generated code keeps whole layers on the stack; only what is used becomes memory
_COUNTER = 8  # bytes of a thread's count of finished samples, at the memory's start


class _Record(ctypes.Structure):
    """hls4ml's `trace_data`: a layer's name and its output."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p)]


def main() -> None:
    """Answer requests until the pipe closes: then end at once, even in the middle of a sample."""
    library, memory, requests, replies = sys.argv[1], *map(int, sys.argv[2:])
    threading.stack_size(_STACK_BYTES)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(library, memory, waiting, replies), daemon=True).start()
    with os.fdopen(requests, encoding="ascii") as lines:
        for line in lines:
            waiting.put(line)
    os._exit(0)


def _work(path: str, memory: int, waiting: queue.SimpleQueue[str], replies: int) -> None:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        os.write(replies, json.dumps({"cannot load": str(error)}).encode() + b"\n")
        return
    os.write(replies, b'{"ready": true}\n')
    while True:
        request = json.loads(waiting.get())
        try:
            with _mapped(memory, request["bytes"]) as start:
                (_trace if "traced" in request else _predict)(library, request, start)
            reply = {"done": request["samples"]}
        except AttributeError as error:  # no such function in the library
            reply = {"cannot load": str(error)}
        os.write(replies, json.dumps(reply).encode() + b"\n")


class _mapped:
    """The address of the shared memory, while the block runs."""

    def __init__(self, memory: int, size: int) -> None:
        self._map = mmap.mmap(memory, size)
        self._view: Any = ctypes.c_char.from_buffer(self._map)

    def __enter__(self) -> int:
        return ctypes.addressof(self._view)

    def __exit__(self, *_: object) -> None:
        del self._view
        self._map.close()


def _caller(library: ctypes.CDLL, request: dict[str, Any], start: int) -> Callable[[int, range], None]:
    """The top function over some of the samples: it takes a pointer to every input and output."""
    top = library[request["top"]]
    top.restype, top.argtypes = None, [ctypes.c_void_p] * len(request["arrays"])
    places = [(start + offset, step) for offset, step in request["arrays"]]

    def call(thread: int, samples: range) -> None:
        count = ctypes.c_uint64.from_address(start + thread * _COUNTER)
        for sample in samples:
            top(*[place + sample * step for place, step in places])
            count.value += 1

    return call


def _predict(library: ctypes.CDLL, request: dict[str, Any], start: int) -> None:
    call, threads, samples = _caller(library, request, start), request["threads"], request["samples"]
    call(0, range(1))  # the first call loads the weights; only later ones are re-entrant
    if threads == 1 or samples <= 2:
        call(0, range(1, samples))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, range(threads), _shares(samples, threads)))


def _shares(samples: int, threads: int) -> Iterator[range]:
    """All samples but the first, which is done, in equal parts."""
    bounds = [1 + (samples - 1) * number // threads for number in range(threads + 1)]
    return map(range, bounds, bounds[1:])


def _trace(library: ctypes.CDLL, request: dict[str, Any], start: int) -> None:
    call, layers = _caller(library, request, start), request["traced"]
    records = (_Record * len(layers))()
    library.allocate_trace_storage(ctypes.c_size_t(request["itemsize"]))
    try:
        for sample in range(request["samples"]):
            call(0, range(sample, sample + 1))
            library.collect_trace_output(records)
            for record in records:
                offset, size = layers[record.name.decode()]
                ctypes.memmove(start + offset + sample * size, record.data, size)
    finally:
        library.free_trace_storage()


if __name__ == "__main__":
    main()
