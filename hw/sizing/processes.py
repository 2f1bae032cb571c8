"""A crew of local processes. A worker that dies takes at most its job along, which another one is given."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hw.sizing.crew import ATTEMPTS, THREADS, Job, Outcome, StopTheRun, attempt
from qmodels.errors import ToolMissing


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    known: set[str] = field(default_factory=set)  # shared values it has
    homes: set[str] = field(default_factory=set)  # `near` of the jobs it was given
    job: Job | None = None


class ProcessCrew:
    """`workers` processes with one thread each; started with `spawn`, since TensorFlow does not survive a fork."""

    def __init__(self, workers: int, log: Path) -> None:
        """Start them; what they print goes to `log`."""
        self.size = workers
        self._log = log
        self._context = multiprocessing.get_context("spawn")
        self._values: dict[str, Any] = {}
        self._queue: list[Job] = []
        self._attempts: dict[str, int] = {}
        self._workers = [self._start() for _ in range(workers)]

    def share(self, name: str, value: Any) -> None:
        """Known from now on; sent to a worker before the first job that needs it."""
        self._values[name] = value

    def submit(self, job: Job) -> None:
        """At the end of the queue."""
        self._queue.append(job)
        self._hand_out()

    def wait(self) -> list[Outcome]:
        """Outcomes of at least one job; nothing when no job is left."""
        outcomes: list[Outcome] = []
        while not outcomes and any(worker.job for worker in self._workers):
            ready = wait([worker.pipe for worker in self._workers if worker.job])
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                outcome = self._receive(worker)
                outcomes += [outcome] if outcome else []
            self._hand_out()
        return outcomes

    def close(self) -> None:
        """Kill all workers: whatever is not recorded yet is computed again by the next run."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        saved = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(THREADS)  # libraries read it when they are loaded, before any code of ours could tell them
        try:
            process = self._context.Process(target=_work, args=(theirs, str(self._log)), daemon=True)
            process.start()
        finally:
            for name, value in saved.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.job is None and self._queue:
                job = self._queue.pop(self._pick(worker))
                try:
                    self._send(worker, job)
                except OSError:  # it died while idle
                    self._queue.insert(0, job)
                    self._workers[place] = self._start()

    def _pick(self, worker: _Worker) -> int:
        """The first job that is at home with this worker; else the first that is at home nowhere; else the first."""
        taken = set().union(*(other.homes for other in self._workers if other is not worker))
        at_home = [place for place, job in enumerate(self._queue) if job.near in worker.homes]
        homeless = [place for place, job in enumerate(self._queue) if job.near not in taken]
        return (at_home + homeless + [0])[0]

    def _send(self, worker: _Worker, job: Job) -> None:
        for name in job.needs:
            if name not in worker.known:
                worker.pipe.send(("share", name, self._values[name]))
                worker.known.add(name)
        worker.pipe.send(("job", job))
        worker.job = job
        worker.homes.add(job.near)

    def _receive(self, worker: _Worker) -> Outcome | None:
        job = worker.job
        assert job is not None
        try:
            outcome: Outcome | OSError | ToolMissing = worker.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return self._replace(worker, job)
        worker.job = None
        if not isinstance(outcome, Outcome):
            raise StopTheRun(f"a worker cannot go on: {outcome}; what is finished is kept")
        return outcome

    def _replace(self, worker: _Worker, job: Job) -> Outcome | None:
        """The worker is dead: a new one, and its job goes to the head of the queue, unless it keeps killing."""
        worker.process.join()
        code = worker.process.exitcode
        self._workers[self._workers.index(worker)] = self._start()
        self._attempts[job.key] = self._attempts.get(job.key, 0) + 1
        if self._attempts[job.key] < ATTEMPTS:
            self._queue.insert(0, job)
            return None
        why = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
        return Outcome(job.key, None, f"the worker died {ATTEMPTS} times ({why}); see {self._log}", 0.0, "")


def _work(pipe: Connection, log: str) -> None:
    """A worker's life: jobs come in, outcomes go out; it ends when the parent does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _redirect(log)
    blobs: dict[str, Any] = {}
    while True:
        try:
            kind, *rest = pipe.recv()
        except (EOFError, OSError):
            return
        if kind == "share":
            blobs[rest[0]] = rest[1]
            continue
        job: Job = rest[0]
        try:
            pipe.send(attempt(job, {name: blobs[name] for name in job.needs}, f"pid {os.getpid()}"))
        except (OSError, ToolMissing) as error:
            pipe.send(error)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _redirect(log: str) -> None:
    """Standard output and error into the log: the terminal belongs to the progress line."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
