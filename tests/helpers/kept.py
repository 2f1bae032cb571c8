"""What g++ has built for tests is kept between runs, in pytest's cache: `.pytest_cache`. `--cache-clear` removes it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from hw.tools.cache import build_once, discard
from hw.tools.toolchain import GXX, tool_version
from qmodels.digest import digest, file_digest, files_digest

if TYPE_CHECKING:
    import pytest  # benchmarks use this too

#: Bytes that are kept: those of some ten versions of the code that we generate.
MOST = 1 << 30
#: File systems note once a day that a file was read; what was used since the day before may be in use.
_SPARED_SECONDS = 2 * 24 * 60 * 60


def kept_folder(config: pytest.Config) -> Path | None:
    """The cache of all runs with this g++; None where pytest keeps nothing (`-p no:cacheprovider`, a read-only folder).

    Keys of the entries say what was compiled and how, not by which g++.
    """
    cache = getattr(config, "cache", None)
    if cache is None:
        return None
    try:
        folder = Path(cache.mkdir("compiled")) / digest(tool_version(GXX))[:16]
        folder.mkdir(exist_ok=True, mode=0o700)  # whoever else may write to pytest's cache: not to this
    except OSError:
        return None
    return folder


def prune(root: Path, most: int = MOST) -> None:
    """Remove entries below root/VERSION/KIND while they take more than `most` bytes: first those unused for longest.

    What was used in the last two days stays: another run may be using it now.
    """
    now = time()
    used = {entry: _last_used(entry) for entry in root.glob("*/*/[!.]*") if (entry / ".digest").is_file()}
    sizes = {entry: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file()) for entry in used}
    total = sum(sizes.values())
    for entry in sorted(used, key=lambda entry: used[entry]):
        if total <= most or now - used[entry] < _SPARED_SECONDS:
            return
        discard(entry)
        total -= sizes[entry]


def _last_used(entry: Path) -> float:
    """When its seal was read, or made: not every file system notes the first."""
    found = (entry / ".digest").stat()
    return max(found.st_atime, found.st_mtime)


def compile_once(folder: Path, command: Sequence[str], made: str) -> None:
    """As `compile_in`, but not again for the same sources and command."""
    sources = sorted(path for path in folder.rglob("*") if path.suffix in (".h", ".cpp"))
    texts = files_digest({path.relative_to(folder).as_posix(): file_digest(path).encode() for path in sources})
    key = digest("\0".join((*command, made, texts)))
    entry = build_once("tests", key, lambda work, final: compile_in(folder, command, work / made))
    shutil.copy2(entry / made, folder / made)


def compile_in(folder: Path, command: Sequence[str], made: Path) -> None:
    """Run g++ in a folder, to make a file.

    Raises:
        RuntimeError: what g++ said when it failed.
    """
    whole = ["g++", *command, "-o", str(made)]
    done = subprocess.run(whole, cwd=folder, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[:3000])
