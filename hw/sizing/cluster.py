"""A crew under dask.distributed: `--scheduler tcp://...`, on one machine or many.

Data and models are dask futures, sent to every worker once; a worker that comes later fetches what its jobs need
there. dask runs the job of a dead worker on another one. What died with the last worker that had it is sent anew.
"""

from __future__ import annotations

import importlib
import os
import queue
from typing import Any

from hw.sizing.crew import ATTEMPTS, THREADS, Job, Outcome, StopTheRun, attempt
from qmodels.errors import ToolMissing, UserError

_CONNECT_SECONDS = 20
_POLL_SECONDS = 0.5
_GONE = ("cancelled", "lost")


class DaskCrew:
    """All workers of a dask scheduler; each should have one thread (`dask worker --nthreads 1`)."""

    def __init__(self, scheduler: str) -> None:
        """Connect.

        Raises:
            UserError: dask is missing, nobody answers, or a worker has several threads.
        """
        try:
            self._dask: Any = importlib.import_module("distributed")
        except ImportError:
            raise UserError('--scheduler needs dask: pip install "robust-hls[cluster]"') from None
        try:
            self._client: Any = self._dask.Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(f"--scheduler {scheduler}: no scheduler with workers answers there ({error})") from None
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        threads = sorted({worker["nthreads"] for worker in workers.values()})
        if threads != [1]:
            self._client.close()
            raise UserError(f"--scheduler {scheduler}: workers have {threads} threads; start them with --nthreads 1")
        self.size = len(workers)
        self._client.run(_prepare)
        self._values: dict[str, Any] = {}
        self._shared: dict[str, Any] = {}  # their futures
        self._running: dict[Any, Job] = {}
        self._attempts: dict[str, int] = {}
        self._homes: dict[str, str] = {}  # `near` of a job that ended -> address of the worker that ran it
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def share(self, name: str, value: Any) -> None:
        """Sent to all workers that are there; once, however often it is shared."""
        if name not in self._values:
            self._values[name] = value
            self._send(name)

    def submit(self, job: Job) -> None:
        """Queued by the scheduler, for the worker that ran its like if it lives; an idle one may take it from there."""
        for name in job.needs:
            if self._shared[name].status in _GONE:
                self._send(name)
        blobs = {name: self._shared[name] for name in job.needs}
        self._attempts[job.key] = self._attempts.get(job.key, 0) + 1
        home = self._homes.get(job.near) if job.near else None
        where = {"workers": [home], "allow_other_workers": True} if home else {}
        key = f"sizing-{job.key}-{self._attempts[job.key]}"
        future = self._client.submit(_run, job, blobs, key=key, pure=False, **where)
        self._running[future] = job
        future.add_done_callback(self._ended.put)

    def wait(self) -> list[Outcome]:
        """Outcomes of at least one job; nothing when none is running."""
        while self._running:
            try:
                ended = [self._ended.get(timeout=_POLL_SECONDS)]  # short waits let Ctrl-C through
            except queue.Empty:
                continue
            while not self._ended.empty():
                ended.append(self._ended.get())
            outcomes = [outcome for future in ended if (outcome := self._outcome(future)) is not None]
            if outcomes:
                return outcomes
        return []

    def close(self) -> None:
        """Cancel what is running and leave; the cluster is not ours to stop."""
        if self._running:
            self._client.cancel(list(self._running), force=True)
        self._client.close()

    def _send(self, name: str) -> None:
        (self._shared[name],) = self._client.scatter([self._values[name]], broadcast=True, hash=False)

    def _outcome(self, future: Any) -> Outcome | None:
        job = self._running.pop(future)
        if future.status in _GONE:  # what it needed died with a worker
            if self._attempts[job.key] < ATTEMPTS:
                self.submit(job)
                return None
            return Outcome(job.key, None, f"lost {ATTEMPTS} times with the worker that had its data", 0.0, "")
        error = future.exception()
        if error is None:
            outcome: Outcome
            outcome, self._homes[job.near] = future.result()
            future.release()
            return outcome
        if isinstance(error, (OSError, ToolMissing)):
            raise StopTheRun(f"a worker cannot go on: {error}; what is finished is kept")
        text = f"the worker died {ATTEMPTS} times" if type(error).__name__ == "KilledWorker" else repr(error)
        return Outcome(job.key, None, text, 0.0, "")


def _prepare(dask_worker: Any) -> None:
    """On a worker, before TensorFlow is loaded: one thread, and no statistical profiler.

    dask's profiler looks at the whole stack every 10 ms; Keras' stacks are deep, and that takes a fifth of the time.
    """
    os.environ.update(THREADS)
    for name in ("profile", "profile-cycle"):
        if name in dask_worker.periodic_callbacks:
            dask_worker.periodic_callbacks[name].stop()


def _run(job: Job, blobs: dict[str, Any]) -> tuple[Outcome, str]:
    """On a worker; its address too."""
    address: str = importlib.import_module("distributed").get_worker().address
    return attempt(job, blobs, f"{os.uname().nodename} pid {os.getpid()}"), address
