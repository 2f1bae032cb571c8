"""The store: nothing lost, nothing twice, whatever is killed and however many write."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw.sizing.store import Answer, Store
from qmodels.errors import UserError

WRITER = """
import sys
from pathlib import Path
from hw.sizing.store import Answer, Store
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 100000):
    store.record(Answer(f"{number:06d}", "screen", "a design", {"number": number, "padding": "x" * 2000}, None, 0.1))
    print(number, flush=True)
"""


def record(key: str, value: int = 0, error: str | None = None) -> Answer:
    return Answer(key, "measure", "a design", {"value": value}, error, 0.5, "pid 1")


def test_what_is_recorded_is_found_and_a_finished_result_is_never_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.record(record("a", 1))
    store.record(record("a", 2))
    assert store.find("a") == record("a", 1)
    assert store.find("b") is None
    assert store.computed_twice() == 1  # and it shows that the work was done twice


def test_failed_work_is_kept_with_its_error_and_forgotten_on_demand(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.record(record("a", error="UserError: no such reuse factor"))
    store.record(record("b", 1))
    assert store.find("a") == record("a", error="UserError: no such reuse factor")
    assert store.forget_failed() == 1
    assert [found.key for found in store.records()] == ["b"]
    store.record(record("a", 3))
    assert store.find("a") == record("a", 3)
    assert store.computed_twice() == 0  # a failure and a success are not the same work twice


def test_kill_9_of_the_writer_loses_nothing_it_had_said_was_recorded(tmp_path: Path) -> None:
    path, rng, first = tmp_path / "s.sqlite", random.Random(0), 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.2))
        writer.kill()
        said = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        writer.stdout.close()
        store = Store(path)
        kept = [found.value["number"] for found in store.records()]
        store.close()
        assert kept == list(range(len(kept)))  # whole transactions, in order
        assert not said or len(kept) > said[-1]
        first = len(kept)


def _write_many(path: Path, mark: int) -> None:
    store = Store(path)
    for number in range(25):
        store.record(record(f"{number}", mark))
        store.record(record(f"own {mark} {number}", mark))


def test_many_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, mark)) for mark in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    store = Store(path)
    assert len(store.records()) == 25 + 3 * 25
    assert store.computed_twice() == 2 * 25


def test_a_damaged_store_is_told_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match=r"s\.sqlite.*move it away"):
        Store(path)


def test_the_journal_survives_a_stopped_process_that_holds_the_lock(tmp_path: Path) -> None:
    """A reader and a second writer go on while a first writer is suspended between transactions."""
    path = tmp_path / "s.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "0"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.stdout.close()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    store = Store(path)
    store.record(record("mine"))
    assert store.find("mine") is not None
