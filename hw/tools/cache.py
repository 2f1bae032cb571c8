"""Things built once per machine and kept, keyed by the digest of what they were built from."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from qmodels.errors import UserError

CACHE_VARIABLE = "ROBUST_HLS_CACHE"


def cache_root() -> Path:
    """$ROBUST_HLS_CACHE, or robust-hls under your cache folder (XDG)."""
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robust-hls"


def build_once(kind: str, digest: str, build: Callable[[Path, Path], None]) -> Path:
    """The folder `<cache>/<kind>/<digest>`, built if it is not there yet.

    Args:
        kind: what is cached, e.g. `csim`.
        digest: of everything the result depends on.
        build: called as build(work, final): fills the folder `work`, which is then renamed to `final`.

    Two processes may build the same thing at once: each works in its own folder and the first rename wins.

    Raises:
        UserError: the cache folder cannot be written to, or the disk is full.
    """
    final = cache_root() / kind / digest
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=final.parent))
    except OSError as error:
        raise UserError(
            f"cache folder {final.parent}: {error.strerror}; set {CACHE_VARIABLE} to a writable folder"
        ) from None
    try:
        build(work, final)
        try:
            work.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    except OSError as error:
        raise UserError(
            f"cache folder {final.parent}: {error.strerror or error}; make room or set {CACHE_VARIABLE} to another one"
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final
