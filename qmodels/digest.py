"""SHA-256 digests: how we tell whether two contents are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def digest(*parts: str | bytes | NDArray[Any]) -> str:
    """Hexadecimal digest of the parts' bytes, one after another.

    Args:
        parts: text counts as UTF-8, an array as its values in C order; where shapes may differ, give them as parts too.
    """
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else part.tobytes())
    return total.hexdigest()


def digest_of(value: Any) -> str:
    """Digest of a JSON-able value; the order of keys does not count."""
    return digest(json.dumps(value, sort_keys=True, default=str))


def file_digest(path: Path) -> str:
    """Digest of a file's content; of a folder, of all names and contents in it."""
    if not path.is_dir():
        return digest(path.read_bytes())
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    return files_digest({file.relative_to(path).as_posix(): file.read_bytes() for file in inside})


def files_digest(files: Mapping[str, bytes]) -> str:
    """Digest over names and contents."""
    return digest(*(part for name in sorted(files) for part in (f"{name}\0{len(files[name])}\0", files[name])))
