"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmodels.errors import UserError
from qmodels.interrupts import raise_if_swallowed

#: How the names of files begin that are not whole yet, and those of folders that are being replaced.
PARTIAL = ".part-"
REPLACED = ".old-"


def usable_path(path: Path) -> Path:
    """The path, if a file system can have it; whether something is there does not matter.

    Raises:
        UserError: it is empty, too long, not UTF-8, holds a NUL, or goes through a loop of symbolic links.
    """
    try:
        str(path).encode()
        path.resolve()
        path.stat()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: its name is not UTF-8; rename it") from None
    except (ValueError, RuntimeError) as error:  # a NUL; until Python 3.12 a loop
        raise UserError(f"{str(path)[:200]!r}: no usable path ({error})"[:400]) from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise UserError(f"{str(path)[:200]}: no usable path ({error.strerror})") from None
    return path


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that is renamed to it when the block succeeds, and removed when not.

    Raises:
        UserError: the folder is not writable, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot write there ({error.strerror}); choose another --out") from None
    temporary = Path(name)
    try:
        yield temporary
        raise_if_swallowed()  # what was made may lack what the interruption cut off
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or error  # h5py gives only a text
        raise UserError(f"{target}: writing failed ({reason}); the file was left as it was") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place, whole, when the block succeeds, and is removed when not.

    Raises:
        UserError: the place is not writable, or the disk is full.
    """
    fresh: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{target.name}-", dir=target.parent))
        yield fresh
        raise_if_swallowed()
        fresh.chmod(0o755)
        old = target.with_name(REPLACED + target.name)
        put_back(old)
        if os.path.lexists(target):
            target.rename(old)
        fresh.rename(target)
        put_back(old)
    except OSError as error:
        raise UserError(f"{target}: writing failed ({error.strerror or error}); make room, then --resume") from None
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def put_back(old: Path) -> None:
    """End what a writer that was killed while it replaced a folder began: nothing is lost at any moment.

    Args:
        old: the folder that was moved away (`REPLACED`); it need not be there.
    """
    target = old.with_name(old.name.removeprefix(REPLACED))
    if not os.path.lexists(old):
        return
    if os.path.lexists(target):
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(target)


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity, which JSON lacks, are refused."""
    write_bytes(target, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds.

    Raises:
        UserError: it is missing, is no file, or holds no JSON (NaN and Infinity are none).
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def finite_or_none(value: float) -> float | None:
    """For JSON, which lacks NaN (nothing was measured) and infinity (no bound)."""
    return value if math.isfinite(value) else None


def save_model(model: Any, target: Path) -> None:
    """Save a Keras or QKeras model as `.keras`, atomically."""
    with atomic_path(target) as temporary:
        model.save(temporary)
