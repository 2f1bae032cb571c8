"""Built once per digest, whoever asks, however often, and never half."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from hw.tools.cache import build_once, cache_root


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path / "cache"))


def slow_build(work: Path, final: Path) -> None:
    (work / "first").write_text("1")
    time.sleep(0.2)
    (work / "second").write_text(final.name)


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


WHOLE = {"first": "1", "second": "d1gest"}


def test_it_is_built_once() -> None:
    calls = []

    def build(work: Path, final: Path) -> None:
        calls.append(final)
        slow_build(work, final)

    assert (
        build_once("kind", "d1gest", build) == build_once("kind", "d1gest", build) == cache_root() / "kind" / "d1gest"
    )
    assert calls == [cache_root() / "kind" / "d1gest"]


def test_threads_at_the_same_time_all_get_the_whole_thing() -> None:
    seen: list[dict[str, str]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(content(build_once("kind", "d1gest", slow_build))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [WHOLE] * 4
    assert [path.name for path in (cache_root() / "kind").iterdir()] == ["d1gest"]


def build_in_a_process(_: int) -> dict[str, str]:
    return content(build_once("kind", "d1gest", slow_build))


def test_processes_at_the_same_time_all_get_the_whole_thing() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(build_in_a_process, range(3), chunksize=1) == [WHOLE] * 3
    assert [path.name for path in (cache_root() / "kind").iterdir()] == ["d1gest"]


def test_a_build_that_fails_leaves_nothing_and_can_be_tried_again() -> None:
    def fail(work: Path, final: Path) -> None:
        (work / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        build_once("kind", "d1gest", fail)
    assert list((cache_root() / "kind").iterdir()) == []
    assert content(build_once("kind", "d1gest", slow_build)) == WHOLE


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("ROBUST_HLS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_root() == Path("/xdg/robust-hls")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_root() == Path("/home/somebody/.cache/robust-hls")
