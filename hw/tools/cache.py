"""Things built once per machine and kept, keyed by the digest of what they were built from.

An entry holds the digest of its own files (`.digest`), checked when a process first uses it and when a file of it was
written since: one that is damaged is built anew. What is loaded from the cache runs as you, so a cache that somebody
else can write is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from qmodels.digest import file_digest, files_digest
from qmodels.errors import UserError

CACHE_VARIABLE = "ROBUST_HLS_CACHE"
_SEAL = ".digest"

#: Entries that this process has found whole, as they were then. What g++ has precompiled is 90 MB.
_found_whole: dict[Path, frozenset[tuple[str, int, int, int]]] = {}


def cache_root() -> Path:
    """$ROBUST_HLS_CACHE, or robust-hls under your cache folder (XDG); an absolute path."""
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return Path(override).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "robust-hls"
    except RuntimeError:  # no HOME, and no entry in the list of users
        raise UserError(f"you have no home folder to keep compiled code in; set {CACHE_VARIABLE} to a folder") from None


def check_cache(kind: str = "") -> Path:
    """The cache's folder of one kind, made if it is not there.

    Raises:
        UserError: it cannot be written to, or somebody else can write to it.
    """
    folder = cache_root() / kind
    with _explained(folder, f"set {CACHE_VARIABLE} to a writable folder"):
        cache_root().parent.mkdir(parents=True, exist_ok=True)
        for path in dict.fromkeys((cache_root(), folder)):
            path.mkdir(exist_ok=True, mode=0o700)
            _check_owner(path)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return folder


def build_once(kind: str, digest: str, build: Callable[[Path, Path], None]) -> Path:
    """The folder `<cache>/<kind>/<digest>`, built if it is not there yet or damaged.

    Args:
        kind: what is cached, e.g. `csim`.
        digest: of everything the result depends on.
        build: called as build(work, final): fills the folder `work`, which is then renamed to `final`.

    Two processes may build the same thing at once: each works in its own folder and the first rename wins.

    Raises:
        UserError: the cache folder cannot be written to, or the disk is full, or others can write to the cache.
    """
    final = cache_root() / kind / digest
    if final.is_dir() and _is_whole(final):
        for path in (cache_root(), final.parent, final):
            _check_owner(path)
        return final
    parent = check_cache(kind)
    with _explained(parent, f"make room or set {CACHE_VARIABLE} to another one"), _work_folder(parent, digest) as work:
        build(work, final)
        (work / _SEAL).write_text(_content(work))
        with _locked(parent):
            if _is_whole(final):
                return final  # another process was first
            _put_away(final)
            work.rename(final)
    return final


def discard(entry: Path) -> None:
    """Remove an entry that proved useless although it is whole: what the compiler wrote cannot be loaded."""
    with contextlib.suppress(OSError), _locked(entry.parent):
        _put_away(entry)


def _content(folder: Path) -> str:
    inside = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SEAL)
    return files_digest({path.relative_to(folder).as_posix(): file_digest(path).encode() for path in inside})


def _is_whole(entry: Path) -> bool:
    try:
        now = _state(entry)
        if _found_whole.get(entry) == now:
            return True
        whole = (entry / _SEAL).read_text(encoding="utf-8") == _content(entry)
    except (OSError, ValueError):
        return False
    if whole:
        _found_whole[entry] = now
    return whole


def _state(entry: Path) -> frozenset[tuple[str, int, int, int]]:
    """What changes when somebody writes to a file of an entry."""
    found = ((path, path.stat()) for path in entry.rglob("*"))
    return frozenset((str(path), at.st_ino, at.st_size, at.st_mtime_ns) for path, at in found)


def _check_owner(path: Path) -> None:
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(
            f"cache folder {path}: others can write to it, and code that we load from there runs as you; "
            f"chmod go-w it if it is yours, or set {CACHE_VARIABLE} to a folder of your own"
        )


@contextlib.contextmanager
def _work_folder(parent: Path, digest: str) -> Iterator[Path]:
    """A temporary folder, held by a lock while we live; those of processes that died are removed."""
    with _locked(parent):
        for left in parent.glob(".*-*"):
            with contextlib.suppress(OSError), _locked(left, wait=False):
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=parent))
        held = _lock(work)
    try:
        yield work
    finally:
        os.close(held)
        shutil.rmtree(work, ignore_errors=True)


def _put_away(entry: Path) -> None:
    """Remove an entry; at no moment half of it is in its place."""
    if not os.path.lexists(entry):
        return
    away = Path(tempfile.mkdtemp(prefix=".damaged-", dir=entry.parent))
    entry.rename(away / "entry")
    shutil.rmtree(away, ignore_errors=True)


def _lock(folder: Path, wait: bool = True) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[None]:
    handle = _lock(folder, wait)
    try:
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(folder: Path, mend: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cache folder {folder}: {error.strerror or error}; {mend}") from None
