"""The process that reads HDF5 files first: one for many files, and none that stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from helpers.damaged import HANGS, damaged
from helpers.processes import hdf5_reader, in_group

from qmodels.loading.hdf5 import check_readable


@pytest.fixture
def good(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file.create_dataset("one", data=1.0)
    return tmp_path / "good.h5"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_process_reads_all_files_damaged_ones_too(tmp_path: Path, good: Path) -> None:
    check_readable(good)
    first = hdf5_reader()
    with pytest.raises(ValueError, match="never ends"):
        check_readable(damaged(tmp_path, HANGS))
    check_readable(good)
    assert hdf5_reader() == first
    assert in_group(first) == [first]


def test_one_that_has_ended_is_started_again(good: Path) -> None:
    check_readable(good)
    first = hdf5_reader()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not in_group(first))
    check_readable(good)
    assert hdf5_reader() != first


#: Says which process reads, then has the file read that it never ends on.
ENDS = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from helpers.processes import hdf5_reader
from qmodels.loading.hdf5 import check_readable
check_readable(Path(sys.argv[1]))
first = hdf5_reader()
fork = os.fork()
if fork == 0:  # has one of its own, which ends with it
    check_readable(Path(sys.argv[1]))
    sys.exit(0 if hdf5_reader() != first else 1)
assert os.waitpid(fork, 0)[1] == 0
check_readable(Path(sys.argv[1]))
assert hdf5_reader() == first
print(first, flush=True)
if sys.argv[2]:
    check_readable(Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [None, signal.SIGINT, signal.SIGKILL])
def test_none_stays_when_we_exit_or_are_stopped(tmp_path: Path, good: Path, how: signal.Signals | None) -> None:
    hangs = damaged(tmp_path, HANGS) if how else ""
    command = [sys.executable, "-c", ENDS, str(good), str(hangs), str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        first = int(child.stdout.readline())
        if how is not None:
            wait_until(lambda: len(in_group(first)) == 2)  # it has begun to read
            child.send_signal(how)
        assert (child.wait(30) == 0) == (how is None)
    wait_until(lambda: not in_group(first))
