"""Workers: who computes, and what they are sent. The same jobs run in this process or under dask (`cluster.py`)."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from qmodels.errors import RobustHlsError, ToolMissing

Blobs = Mapping[str, Any]
Function = Callable[[Any, Blobs], Any]

#: One thread a worker: as many workers as processors keep the machine busy, and sums come out the same everywhere.
THREADS = {
    name: "1"
    for name in (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    )
}
MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)
#: A job that takes its worker with it (out of memory, killed) is given to another one so often.
ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """`function(argument, blobs)`, with the shared values named in `needs`.

    `function` must be importable; `near` names jobs that profit from running where their like has run.
    """

    key: str
    function: Function
    argument: Any
    needs: tuple[str, ...] = ()
    near: str = ""


@dataclass(frozen=True)
class JobOutcome:
    """What became of a job: a value or an error."""

    key: str
    value: Any
    error: str | None
    seconds: float  # of processor time, child processes included: what else the machine does is not in it
    worker: str


class Crew(Protocol):
    """Runs jobs in any order."""

    def share(self, name: str, value: Any) -> None:
        """Make a value known; it travels to a worker once, when a job there needs it."""
        ...

    def submit(self, job: Job) -> None:
        """Run the job when a worker is free."""
        ...

    def wait(self) -> list[JobOutcome]:
        """Jobs that ended since the last call: at least one; nothing if none is running."""
        ...

    def close(self) -> None:
        """Stop at once; unfinished jobs are dropped."""
        ...


class StopTheRun(RobustHlsError):
    """A fault of the machine (a full disk, no compiler), which would fail every other job too."""

    exit_status = 2


def attempt(job: Job, blobs: Blobs) -> JobOutcome:
    """Run a job here; its exceptions are its outcome.

    Raises:
        OSError, ToolMissing: the machine's fault, not the job's.
    """
    started = processor_seconds()
    value, error = None, None
    try:
        value = job.function(job.argument, blobs)
    except ToolMissing:
        raise
    except RobustHlsError as known:
        error = f"{type(known).__name__}: {known}"
    except Exception as unknown:
        if isinstance(unknown, OSError) and unknown.errno in MACHINE_FAULTS:
            raise
        error = traceback.format_exc(limit=-6)
    worker = f"{os.uname().nodename} pid {os.getpid()}"
    return JobOutcome(job.key, value, error, processor_seconds() - started, worker)


def attempt_all(jobs: Sequence[Job], blobs: Blobs) -> list[JobOutcome]:
    """Run several small jobs, one after the other: a message and a commit for all of them."""
    return [attempt(job, blobs) for job in jobs]


def processor_seconds() -> float:
    """Processor time of this process and of its finished children."""
    children = os.times()[2:4]
    return time.process_time() + sum(children)


class SoloCrew:
    """Everything in this process: for tests and debugging."""

    def __init__(self) -> None:
        self._blobs: dict[str, Any] = {}
        self._jobs: list[Job] = []

    def share(self, name: str, value: Any) -> None:
        """Nothing travels."""
        self._blobs[name] = value

    def submit(self, job: Job) -> None:
        """Put it on the list."""
        self._jobs.append(job)

    def wait(self) -> list[JobOutcome]:
        """Run the next one."""
        if not self._jobs:
            return []
        job = self._jobs.pop(0)
        return [attempt(job, {name: self._blobs[name] for name in job.needs})]

    def close(self) -> None:
        """Drop the list."""
        self._jobs.clear()
