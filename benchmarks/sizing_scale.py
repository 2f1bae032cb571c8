"""Sizing with 100 and 1,000 workers, on paper: what a finished sizing has measured, replayed by a simulation.

Measured here: the main process' time for one job (handing out, collecting) and for one commit, the bytes of a message.
From the sizing's store: the seconds of every answer. Replayed: the stages in order, rounds with a barrier each, one
main process that serves one job at a time.

    python benchmarks/sizing_scale.py SIZING_FOLDER [--round 16 256] [--workers 2 100 1000]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from hw.sizing.asker import TOGETHER  # noqa: E402
from hw.sizing.config import load_sizing  # noqa: E402
from hw.sizing.crew import Job  # noqa: E402
from hw.sizing.questions import Question  # noqa: E402
from hw.sizing.space import grid, make_design  # noqa: E402
from hw.sizing.stages import STAGES  # noqa: E402
from hw.sizing.store import Answer, Store  # noqa: E402

JOBS = 200


@dataclass(frozen=True)
class Paper:
    """What the replay needs: seconds of answers by stage, and what the main process takes."""

    stages: dict[str, list[float]]
    job_seconds: float
    commit_seconds: float


def nothing(argument: int, blobs: object) -> int:
    """A job without work."""
    return argument


def seconds_of_a_job() -> float:
    """Of the main process, for a job that does nothing, with two local workers."""
    from hw.sizing.cluster import local_crew

    with tempfile.TemporaryDirectory() as folder:
        crew = local_crew(2, Path(folder) / "log")
        started = time.process_time()
        for number in range(JOBS):
            crew.submit(Job(str(number), nothing, number))
        while crew.wait():
            pass
        spent = time.process_time() - started
        crew.close()
    return spent / JOBS


def seconds_of_a_commit(records: Sequence[Answer]) -> float:
    """Of 32 answers kept in one transaction."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.sqlite")
        started = time.process_time()
        for first in range(0, min(len(records), 640), 32):
            store.record(*records[first : first + 32])
        spent = time.process_time() - started
        store.close()
    return spent / max(len(range(0, min(len(records), 640), 32)), 1)


def replay(paper: Paper, workers: int, size: int) -> tuple[float, float]:
    """Wall-clock seconds, and the share of the workers' time that is work.

    Jobs of a stage go to whoever is free; the main process serves one job at a time; a round ends with its last job.
    """
    clock = 0.0
    for stage in ("measure", "pool", "attack"):
        seconds = paper.stages[stage]
        together = max(1, min(TOGETHER.get(stage, 1), -(-len(seconds) // (4 * workers))))
        jobs = [sum(seconds[first : first + together]) for first in range(0, len(seconds), together)]
        rounds = [jobs] if stage != "attack" else [jobs[first : first + size] for first in range(0, len(jobs), size)]
        for batch in rounds:
            clock = _one_round(batch, clock, workers, paper.job_seconds + paper.commit_seconds)
    return clock, sum(map(sum, paper.stages.values())) / (clock * workers)


def _one_round(jobs: Sequence[float], clock: float, workers: int, service: float) -> float:
    free, main = [clock] * workers, clock
    for seconds in sorted(jobs, reverse=True):
        main = max(main + service, heapq.heappop(free))
        heapq.heappush(free, main + seconds)
    return max([main, *free])


def main() -> None:
    """Measure, replay, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--round", type=int, nargs="+", default=[16, 256])
    arguments.add_argument("--workers", type=int, nargs="+", default=[2, 100, 1000])
    options = arguments.parse_args()
    store = Store(options.folder / "store.sqlite")
    records = store.records()
    packed = [len(found) for record in records if (found := store.examples(record.key)) is not None]
    store.close()
    config = load_sizing(options.folder / "sizing.yaml")
    experiment = (options.folder / "experiment.yaml").read_text()
    designs = [make_design(experiment, "experiment", item) for item in itertools.islice(grid(config.space), 2)]
    jobs = [
        Job(
            design.key,
            STAGES["measure"],
            Question(design.config, design.key, "d", "t", config.worst_case, config.final, config.layerwise),
        )
        for design in designs
    ]
    one, two = len(pickle.dumps(jobs[:1])), len(pickle.dumps(jobs))
    stages = {name: [r.seconds for r in records if r.stage == name] for name in ("measure", "pool", "attack")}
    paper = Paper(stages, seconds_of_a_job(), seconds_of_a_commit(records))
    print(f"answers: { {name: len(seconds) for name, seconds in stages.items()} }")
    print(f"main process: {1000 * paper.job_seconds:.1f} ms a job, {1000 * paper.commit_seconds:.1f} ms a commit of 32")
    print(f"messages: {one:,} bytes a job, {two - one:,} for one more design in it")
    print(f"pool: {len(packed)} parts, {sum(packed):,} bytes in all; each travels once to every worker")
    for size in options.round:
        for workers in options.workers:
            wall, busy = replay(paper, workers, size)
            print(f"round {size:4d}, {workers:5d} workers: {wall:8.1f} s, {100 * busy:5.1f} % busy")


if __name__ == "__main__":
    main()
