"""Built once per digest, whoever asks, however often, and never half."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hw.tools import cache
from hw.tools.cache import build_once, cache_root, discard
from qmodels.errors import UserError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path / "cache"))


def slow_build(work: Path, final: Path) -> None:
    (work / "first").write_text("1")
    time.sleep(0.2)
    (work / "second").write_text(final.name)


def content(folder: Path) -> dict[str, str]:
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(found.pop(".digest")) == 64
    return found


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


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: (entry / "first").write_text(""),
        lambda entry: (entry / "first").write_text("2"),
        lambda entry: (entry / "first").unlink(),
        lambda entry: (entry / "third").write_text("more"),
        lambda entry: (entry / ".digest").unlink(),
        lambda entry: (entry / ".digest").write_bytes(b"\xff"),
        lambda entry: (shutil.rmtree(entry), entry.mkdir()),
        lambda entry: (shutil.rmtree(entry), entry.write_text("a file")),
        discard,
    ],
)
def test_an_entry_that_is_not_whole_is_built_anew(spoil: Callable[[Path], object]) -> None:
    build_once("kind", "d1gest", slow_build)
    spoil(build_once("kind", "d1gest", slow_build))  # found whole once
    assert content(build_once("kind", "d1gest", slow_build)) == WHOLE
    assert [path.name for path in (cache_root() / "kind").iterdir()] == ["d1gest"]


def test_an_entry_is_read_once_while_nobody_writes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(cache, "file_digest", lambda path: [read.append(path), path.name][1])
    for _ in range(4):  # built, checked, known
        build_once("kind", "d1gest", slow_build)
    assert len(read) == 2 * 2
    (cache_root() / "kind" / "d1gest" / "first").touch()
    build_once("kind", "d1gest", slow_build)
    assert len(read) == 3 * 2


def test_what_killed_builds_left_is_cleared_and_what_others_build_is_not() -> None:
    left = cache_root() / "kind" / ".0123456789ab-xyz"
    left.mkdir(parents=True)
    (left / "half").write_text("1")
    started, finish = threading.Event(), threading.Event()

    def build(work: Path, final: Path) -> None:
        started.set()
        assert finish.wait(30)
        slow_build(work, final)

    other = threading.Thread(target=build_once, args=("kind", "other", build))
    other.start()
    assert started.wait(30)
    build_once("kind", "d1gest", slow_build)
    finish.set()
    other.join()
    assert sorted(path.name for path in (cache_root() / "kind").iterdir()) == ["d1gest", "other"]
    assert content(cache_root() / "kind" / "other") == WHOLE | {"second": "other"}


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
@pytest.mark.parametrize("place", ["", "kind", "kind/d1gest"])
def test_a_cache_that_others_can_write_is_refused(mode: int, place: str) -> None:
    build_once("kind", "d1gest", slow_build)
    (cache_root() / place).chmod(mode)
    with pytest.raises(UserError, match=r"others can write to it, .*; chmod go-w it if it is yours, or set ROBUST_HLS"):
        build_once("kind", "d1gest", slow_build)


def test_a_new_cache_is_ours_alone() -> None:
    entry = build_once("kind", "d1gest", slow_build)
    for path in (cache_root(), entry.parent, entry):
        assert path.stat().st_mode & 0o077 == 0


def test_a_relative_cache_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUST_HLS_CACHE", 'it\'s "mine"')
    assert build_once("kind", "d1gest", slow_build) == tmp_path / 'it\'s "mine"' / "kind" / "d1gest"


def test_no_home_and_no_entry_among_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ROBUST_HLS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(UserError, match=r"no home folder .*; set ROBUST_HLS_CACHE"):
        cache_root()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(UserError, match="Permission denied; set ROBUST_HLS_CACHE to a writable folder"):
        build_once("kind", "d1gest", slow_build)
