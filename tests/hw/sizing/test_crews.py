"""Crews: jobs end somewhere, once; a dead worker costs its job a second try; nobody outlives the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import crew_jobs
import pytest
from distributed import LocalCluster

from hw.sizing import cluster
from hw.sizing.cluster import DaskCrew, local_crew, remote_crew
from hw.sizing.crew import ATTEMPTS, Crew, Job, JobOutcome, SoloCrew, attempt_all
from qmodels.errors import UserError


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crew") / "workers.log"


@pytest.fixture(scope="module")
def crew(log: Path) -> Iterator[DaskCrew]:
    """Two workers; no test kills them."""
    crew = local_crew(2, log)
    yield crew
    crew.close()


def finish(crew: Crew, jobs: list[Job]) -> dict[str, JobOutcome]:
    for job in jobs:
        crew.submit(job)
    ended: list[JobOutcome] = []
    while outcomes := crew.wait():
        ended += outcomes
    assert len({outcome.key for outcome in ended}) == len(ended)
    return {outcome.key: outcome for outcome in ended}


def job(key: str, function: Any, argument: Any, *needs: str) -> Job:
    return Job(key, function, argument, needs)


def check(crew: Crew) -> None:
    """What every crew must do."""
    crew.share("ten", 10)
    crew.share("one", 1)
    jobs = [job(str(number), crew_jobs.add, number, "ten", "one") for number in range(6)]
    jobs += [job("known", crew_jobs.fail, "no such layer"), job("defect", crew_jobs.fail, "")]
    found = finish(crew, jobs)
    assert [found[str(number)].value for number in range(6)] == [11, 12, 13, 14, 15, 16]
    assert found["known"].error == "UserError: no such layer"
    assert "ZeroDivisionError: a defect" in (found["defect"].error or "")
    assert crew.wait() == []


def test_in_this_process() -> None:
    check(SoloCrew())


def test_processes(crew: DaskCrew, log: Path) -> None:
    check(crew)
    found = finish(crew, [job("threads", crew_jobs.environment, "TF_NUM_INTRAOP_THREADS")])
    assert found["threads"].value == "1"
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ
    assert "to the log" in log.read_text()


def test_a_worker_with_threads_that_comes_late_gets_no_job(crew: DaskCrew, monkeypatch: pytest.MonkeyPatch) -> None:
    info = crew._client.scheduler_info(n_workers=-1)
    info["workers"]["tcp://127.0.0.1:1"] = {"nthreads": 8}
    monkeypatch.setattr(crew._client, "scheduler_info", lambda n_workers: info)
    assert len(crew._workers()) == 2
    assert "tcp://127.0.0.1:1" not in crew._workers()


def test_a_killed_worker_loses_nothing_and_a_deadly_job_does_not_stop_the_others(tmp_path: Path) -> None:
    jobs = [job("once", crew_jobs.die_once, str(tmp_path / "mark")), job("always", crew_jobs.die, None)]
    jobs += [job(str(number), crew_jobs.add, number) for number in range(4)]
    with closing(local_crew(2, tmp_path / "workers.log")) as crew:
        found = finish(crew, jobs)
    assert found["once"].value == "alive"
    assert f"died {ATTEMPTS} times (SIGKILL)" in (found["always"].error or "")
    assert [found[str(number)].value for number in range(4)] == [0, 1, 2, 3]


PARENT = """
import sys
from pathlib import Path
import crew_jobs
from hw.sizing.crew import Job
from hw.sizing.cluster import local_crew
if __name__ == "__main__":
    crew = local_crew(2, Path(sys.argv[1], "log"))
    for key in "ab":
        crew.submit(Job(key, crew_jobs.nap, sys.argv[2]))
    crew.wait()
"""


def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script, marks = tmp_path / "parent.py", tmp_path / "marks"
    script.write_text(PARENT)
    marks.mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(marks)], env=os.environ | {"PYTHONPATH": path}
    )
    _until(lambda: len(list(marks.iterdir())) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = [int(mark.name) for mark in marks.iterdir()]
    _until(lambda: not any(_lives(pid) for pid in workers))


def _until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.filterwarnings("default")  # dask's own
def test_dask_with_a_worker_killed_midway(tmp_path: Path) -> None:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp"
    ) as running:
        crew = remote_crew(running.scheduler_address)
        assert crew.size == 2
        crew._client.run(sys.path.insert, 0, str(Path(__file__).parent))
        check(crew)
        found = finish(crew, [job("once", crew_jobs.die_once, str(tmp_path / "mark")), job("after", crew_jobs.add, 5)])
        assert (found["once"].value, found["after"].value) == ("alive", 5)
        check(crew)  # what was shared is still there, though a worker is not
        crew.close()


@pytest.mark.filterwarnings("default")  # dask's own
def test_a_worker_that_comes_late_is_prepared_and_works(tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as running:
        crew = remote_crew(running.scheduler_address)
        crew.share("one", 1)
        assert finish(crew, [job("early", crew_jobs.add, 1, "one")])["early"].value == 2
        running.scale(2)
        found = finish(crew, [job(key, crew_jobs.meet, str(tmp_path)) for key in "ab"])
        assert len(list(tmp_path.iterdir())) == 2
        assert [found[key].value for key in "ab"] == ["1", "1"]
        crew.close()


@pytest.mark.filterwarnings("default")  # dask's own
def test_jobs_that_are_sent_together_survive_a_worker(tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as running:
        crew = remote_crew(running.scheduler_address)
        crew._client.run(sys.path.insert, 0, str(Path(__file__).parent))
        crew.share("one", 1)
        singles = (job("a", crew_jobs.add, 1, "one"), job("b", crew_jobs.die_once, str(tmp_path / "mark")))
        running.scale(2)
        found = finish(crew, [job("a+2", attempt_all, singles, "one"), job("c", crew_jobs.add, 5, "one")])
        assert [outcome.key for outcome in found["a+2"].value] == ["a", "b"]
        assert [outcome.value for outcome in found["a+2"].value] == [2, "alive"]
        assert found["c"].value == 6
        crew.close()


def test_threads_are_refused() -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address=":0"
    ) as running:
        with pytest.raises(UserError, match="start them with --nthreads 1"):
            remote_crew(running.scheduler_address)


def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.3)
    with pytest.raises(UserError, match="no scheduler"):
        remote_crew("tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "http://127.0.0.1:9", "127.0.0.1:99999", "tcp://a b:1", ""])
def test_what_is_no_address_of_a_scheduler(address: str) -> None:
    with pytest.raises(UserError, match="no scheduler has this address; it must be tcp://HOST:PORT"):
        remote_crew(address)
