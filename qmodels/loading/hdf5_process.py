"""The process in which HDF5 files of strangers are read first: libhdf5 may hang or crash on a damaged one.

Run as a script, by `hdf5.py`: `python -I -S hdf5_process.py FOLDER ...`. It needs only h5py, which lies in one of the
folders. A request is a line of JSON, [path, seconds of the processor]. A fork reads the file, so that modules are
imported once; the reply is the fork's exit status and what it said.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
from math import prod
from typing import Any, NoReturn

#: What the numbers of a file may take, once unpacked.
MAX_BYTES = 1_600_000_000
#: The exit status by which a fork says that libhdf5 itself has found the fault.
TOLD = 2
_IDLE_SECONDS = 60
_REQUESTS, _REPLIES = 0, 1


def check_content(file: Any, most: int = MAX_BYTES) -> None:
    """See that an HDF5 file holds all it says, itself, within bounds: links could read other files of the user.

    Args:
        file: open.
        most: bytes that its numbers may take, once unpacked.

    Raises:
        ValueError: names what is a link, no number, or too large.
    """
    import h5py

    size, groups, seen = 0, [file], {file.id}
    while groups:
        group = groups.pop()
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise ValueError(f"{group.name}/{name} is a link to another file")
            if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise ValueError(f"{group.name}/{name} is a link")
            content = group[name]
            if content.id in seen:
                raise ValueError(f"{group.name}/{name} is elsewhere in the file too")
            seen.add(content.id)
            if isinstance(content, h5py.Group):
                groups.append(content)
                continue
            if content.external or content.is_virtual:
                raise ValueError(f"{content.name} keeps its numbers in another file")
            if content.dtype.kind not in "fiub":
                raise ValueError(f"{content.name} contains {content.dtype}, no numbers")
            size += prod(content.shape or ()) * content.dtype.itemsize
            if size > most:
                raise ValueError(f"{content.name} has shape {content.shape}; at most {most} bytes of numbers are read")


def _read_all(path: str) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        check_content(file)
        waiting = [file]
        while waiting:
            item = waiting.pop()
            for key in item.attrs:
                item.attrs[key]
            if isinstance(item, h5py.Group):
                waiting.extend(item.values())
            else:
                for chunk in item.iter_chunks() if item.chunks else [()]:
                    item[chunk]


def serve() -> None:
    """Answer requests until the pipe closes, or nobody has asked for a minute."""
    import h5py  # noqa: F401  # once, for all forks

    while select.select([_REQUESTS], [], [], _IDLE_SECONDS)[0] and (line := sys.stdin.readline()):
        os.write(_REPLIES, json.dumps(_read_in_a_fork(*json.loads(line))).encode() + b"\n")


def _read_in_a_fork(path: str, seconds: int) -> tuple[int, str]:
    answers, end = os.pipe()
    fork = os.fork()
    if fork == 0:
        _read_and_exit(path, seconds, end)
    os.close(end)
    if answers not in select.select([answers, _REQUESTS], [], [])[0]:  # who asked is gone
        os.kill(fork, signal.SIGKILL)
        sys.exit()
    with os.fdopen(answers, "rb") as said:
        told = said.read().decode("utf-8", "replace")
    return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]), told


def _read_and_exit(path: str, seconds: int, end: int) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.alarm(20 * seconds)  # the machine may be busy
    os.dup2(os.open(os.devnull, os.O_RDWR), _REPLIES)
    try:
        _read_all(path)
    except BaseException as error:  # h5py raises almost anything
        os.write(end, str(error).encode("utf-8", "replace")[:1000])
        os._exit(TOLD)
    os._exit(0)


if __name__ == "__main__":
    sys.path += sys.argv[1:]
    serve()
