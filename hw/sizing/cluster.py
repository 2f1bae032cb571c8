"""A crew under dask.distributed: processes of this machine, or the workers of a scheduler (`--scheduler tcp://...`).

Every worker has one job at a time, so that its death is blamed on the job that ran. Data and models are dask futures,
sent to every worker once; a worker that comes later fetches what its jobs need there. What died with the last worker
that had it is sent anew.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import socket
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin

from hw.sizing.crew import ATTEMPTS, THREADS, Job, JobOutcome, StopTheRun, attempt
from qmodels.errors import ToolMissing, UserError

_CONNECT_SECONDS = 4  # for the scheduler, and again for a worker
_ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss)://)?\[?(?P<host>[^/\s\[\]]+?)\]?:(?P<port>\d{1,5})/?")
_POLL_SECONDS = 0.5  # short waits let Ctrl-C through, and find workers that came
_GONE = ("cancelled", "lost")
_LOCAL = {
    "distributed.scheduler.allowed-failures": 0,  # we count deaths ourselves
    "distributed.scheduler.worker-ttl": None,  # a worker in a long computation is not dead
}


def local_crew(workers: int, log: Path) -> DaskCrew:
    """`workers` processes on this machine; what they print, and why they died, goes to `log`."""
    # Where there is nothing to compute, a worker that is still connecting would be reported after the cluster is gone.
    logging.getLogger("distributed.batched").setLevel(logging.CRITICAL)
    with dask.config.set(_LOCAL):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address=":0",  # any free port; no dashboard
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,  # the terminal belongs to the progress bar
        )
    return DaskCrew(Client(cluster, set_as_default=False), cluster, log)


def remote_crew(scheduler: str) -> DaskCrew:
    """The workers of a running scheduler; each must have one thread (`dask worker --nthreads 1`).

    Raises:
        UserError: nobody answers, or a worker has several threads.
    """
    _check_address(scheduler)
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(f"--scheduler {scheduler}: no scheduler with workers answers there ({error})") from None
    workers = client.scheduler_info(n_workers=-1)["workers"]
    threads = sorted({worker["nthreads"] for worker in workers.values()})
    if threads != [1]:
        client.close()
        raise UserError(f"--scheduler {scheduler}: workers have {threads} threads; start them with --nthreads 1")
    return DaskCrew(client)


def _check_address(scheduler: str) -> None:
    """Look for somebody there: a client of dask's that found nobody ends with a traceback when it is thrown away."""
    found = _ADDRESS.fullmatch(scheduler)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        raise UserError(f"--scheduler {scheduler}: no scheduler has this address; it must be tcp://HOST:PORT")
    try:
        socket.create_connection((found["host"], int(found["port"])), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise UserError(f"--scheduler {scheduler}: no scheduler with workers answers there ({error})") from None


class DaskCrew:
    """All workers of a client's scheduler."""

    def __init__(self, client: Client, cluster: LocalCluster | None = None, log: Path | None = None) -> None:
        """`cluster` and `log`: of workers that are ours to stop."""
        self._client, self._cluster, self._log = client, cluster, log
        self._handler = logging.FileHandler(log) if log else logging.NullHandler()
        logging.getLogger("distributed").addHandler(self._handler)
        client.register_plugin(_Preparation(log))
        self.size = len(self._workers())
        self._values: dict[str, Any] = {}
        self._shared: dict[str, Future[Any]] = {}
        self._queue: list[Job] = []
        self._running: dict[Future[Any], tuple[Job, str]] = {}  # with the worker's address
        self._deaths: Counter[str] = Counter()  # of workers, by job
        self._homes: defaultdict[str, set[str]] = defaultdict(set)  # worker -> `near` of the jobs it was given
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def share(self, name: str, value: Any) -> None:
        """Sent to all workers that are there when a job needs it; once, however often it is shared."""
        self._values.setdefault(name, value)

    def submit(self, job: Job) -> None:
        """At the end of the queue."""
        self._queue.append(job)

    def wait(self) -> list[JobOutcome]:
        """Outcomes of at least one job; nothing when no job is left."""
        outcomes: list[JobOutcome] = []
        while not outcomes and (self._queue or self._running):
            self._hand_out()
            outcomes = [outcome for future in self._next_ended() if (outcome := self._outcome(future)) is not None]
        self._hand_out()
        return outcomes

    def close(self) -> None:
        """Stop at once; a scheduler that was running before us goes on."""
        if self._running:
            self._client.cancel(list(self._running), force=True)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        logging.getLogger("distributed").removeHandler(self._handler)
        self._handler.close()

    def _workers(self) -> list[str]:
        """Addresses of those that are there now; one with several threads that came late gets no job."""
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        return [address for address, worker in found.items() if worker["nthreads"] == 1]

    def _send(self, name: str) -> None:
        (self._shared[name],) = self._client.scatter([self._values[name]], broadcast=True, hash=False)

    def _hand_out(self) -> None:
        if not self._queue:
            return
        workers, busy = self._workers(), {address for _, address in self._running.values()}
        for address in workers:
            if self._queue and address not in busy:
                place = self._pick(address, workers)
                try:
                    self._start(self._queue[place], address)
                except TimeoutError:  # the last worker has just gone, and what was to be sent has no taker
                    return
                del self._queue[place]

    def _pick(self, address: str, workers: list[str]) -> int:
        """The first job that is at home with this worker; else the first that is at home nowhere; else the first."""
        own = self._homes[address]
        at_home = next((place for place, job in enumerate(self._queue) if job.near in own), None)
        if at_home is not None:
            return at_home
        taken = {near for other in workers for near in self._homes[other]}
        return next((place for place, job in enumerate(self._queue) if job.near not in taken), 0)

    def _start(self, job: Job, address: str) -> None:
        for name in job.needs:
            if name not in self._shared or self._shared[name].status in _GONE:
                self._send(name)
        blobs = {name: self._shared[name] for name in job.needs}
        key = f"sizing-{job.key}-{self._deaths[job.key]}"
        future = self._client.submit(
            attempt, job, blobs, key=key, pure=False, workers=[address], allow_other_workers=True
        )
        self._running[future] = job, address
        self._homes[address].add(job.near)
        future.add_done_callback(self._ended.put)

    def _next_ended(self) -> list[Future[Any]]:
        try:
            ended = [self._ended.get(timeout=_POLL_SECONDS)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get())
        return ended

    def _outcome(self, future: Future[Any]) -> JobOutcome | None:
        job, _ = self._running.pop(future)
        error = None if future.status in _GONE else future.exception()
        if future.status in _GONE or isinstance(error, KilledWorker):
            return self._again(job, error.allowed_failures + 1 if isinstance(error, KilledWorker) else 1)
        if isinstance(error, (OSError, ToolMissing)):
            raise StopTheRun(f"a worker cannot continue: {error}; what is finished is kept")
        if error is not None:
            return JobOutcome(job.key, None, repr(error), 0.0, "")
        outcome: JobOutcome = future.result()
        return outcome

    def _again(self, job: Job, deaths: int) -> JobOutcome | None:
        """A job whose worker died goes to the head of the queue, unless it keeps killing."""
        self._deaths[job.key] += deaths
        if self._deaths[job.key] < ATTEMPTS:
            self._queue.insert(0, job)
            return None
        return JobOutcome(job.key, None, f"the worker died {self._deaths[job.key]} times{self._why()}", 0.0, "")

    def _why(self) -> str:
        """What ended the last worker that died: dask says it in its log only."""
        if self._log is None:
            return ""
        ends = re.findall(r"killed by signal (\d+)|exited with status (\d+)", self._log.read_text(errors="replace"))
        number, status = ends[-1] if ends else ("", "unknown")
        return f" ({signal.Signals(int(number)).name if number else f'exit status {status}'}); see {self._log}"


class _Preparation(WorkerPlugin):
    """What every worker does before its first job, also one that comes late or again."""

    name = "robust-hls-sizing"

    def __init__(self, log: Path | None) -> None:
        self._log = None if log is None else str(log.resolve())

    def setup(self, worker: Worker) -> None:
        """One thread, before TensorFlow is loaded; no statistical profiler; local ones print into the log.

        dask's profiler looks at the whole stack every 10 ms. Keras' stacks are deep: that takes a fifth of the time.
        """
        os.environ.update(THREADS)
        for name in ("profile", "profile-cycle"):
            if name in worker.periodic_callbacks:
                worker.periodic_callbacks[name].stop()
        if self._log is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
            _redirect(self._log)

    def teardown(self, worker: Worker) -> None:
        """A local one ends at once: with TensorFlow loaded it would take seconds."""
        if self._log is not None:
            os._exit(0)


def _redirect(log: str) -> None:
    """Standard output and error into the log."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
    os.close(handle)
