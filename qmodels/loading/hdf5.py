"""HDF5 files that strangers made, read in a process of their own first: a damaged one can hang libhdf5, or crash it.

`python -I -S hdf5.py FILE SECONDS FOLDER ...` reads all of a file and ends; libhdf5 then reads it here without harm.
This file needs only h5py, which lies in one of the folders.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

_SECONDS = 2  # of the processor; reading a small file takes a seventh of one
_BYTES_A_SECOND = 50_000_000
#: What the numbers of a file may take, once unpacked.
MAX_BYTES = 1_600_000_000
#: How the process says that libhdf5 itself has found the fault.
_TOLD = 2


def check_readable(path: Path) -> None:
    """See that libhdf5 can read every attribute and number of a file.

    Args:
        path: an HDF5 file. It takes half a second, and one more for every gigabyte.

    Raises:
        ValueError: libhdf5 hangs, crashes or finds the fault itself; or the file is too large, or has links.
    """
    import h5py
    import numpy as np

    seconds = _SECONDS + path.stat().st_size // _BYTES_A_SECOND
    folders = [str(Path(str(module.__file__)).resolve().parent.parent) for module in (np, h5py)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, str(path.resolve()), str(seconds), *folders],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == _TOLD:
        raise ValueError(done.stdout.decode("utf-8", "replace").strip()[:300])
    if done.returncode != 0:
        hangs = done.returncode in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL)
        raise ValueError(f"the file is damaged: HDF5's own library {'never ends' if hangs else 'crashes'} on it")


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


if __name__ == "__main__":
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    signal.alarm(20 * limit)  # the machine may be busy, and the process that waits for us may be gone
    sys.path += sys.argv[3:]
    try:
        _read_all(sys.argv[1])
    except Exception as error:  # h5py raises almost anything
        sys.stdout.write(str(error))
        sys.exit(_TOLD)
