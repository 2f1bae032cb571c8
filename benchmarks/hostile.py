"""Hostile use of the command: wrong, damaged and misplaced input, and what must come of it.

    python benchmarks/hostile.py [--quick] [--json OUT] [--only config paths ...] [--limit 60]

Every check runs `robust-hls` in a folder of its own and knows the exit status and a part of the message that are due.
A check is wrong when either is another one, when a traceback shows, when it takes longer than a minute (`--limit`, for
a busy machine), or when a command that fails changed one file of its folder. Keys: `checks`, `wrong`, `tracebacks`,
`files_lost`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import Report, parser
from benchmarks.forked import FORKING, be_command, load_modules
from benchmarks.hostile_check import Check
from benchmarks.hostile_checks import KINDS, cache_of, fixtures
from qmodels.processors import processors

LIMIT_SECONDS = 60.0
_QUICK_SHARE = 3  # every so many checks


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    check: Check
    status: int | None  # None: it took too long
    words: str
    lost: tuple[str, ...]  # files that were changed or are gone
    new: tuple[str, ...]

    @property
    def before_us(self) -> bool:
        """Whether Ctrl-C ended Python's own start: none of our modules beyond the package itself was being read."""
        ours = ("/hw/cli", "/hw/experiment", "/hw/sizing", "/hw/tables", "/qmodels/", "in main", "in _stop")
        return self.status == -signal.SIGINT and not any(place in self.words for place in ours)

    @property
    def traceback(self) -> bool:
        """Whether Python's own words show."""
        return "Traceback (most recent call last)" in self.words and not self.before_us

    @property
    def problem(self) -> str:
        """What is wrong; empty when all is as it must be."""
        if self.status is None:
            return "still ran after the time limit"
        if self.status not in self.check.statuses and not self.before_us:
            return f"status {self.status} instead of {self.check.statuses}"
        if self.traceback:
            return "a traceback"
        if self.check.told not in self.words and not self.before_us:
            return f"does not say {self.check.told!r}"
        if self.lost:
            return f"lost {', '.join(self.lost)}"
        return f"left {', '.join(self.new)}" if self.new and self.status in (2, 3) and not self.check.writes else ""


def run(check: Check, stock: Path, limit: float = LIMIT_SECONDS) -> Outcome:
    """Run a check in a copy of the stock of files."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name) / "work"
        shutil.copytree(stock, folder, symlinks=True)
        cache = Path(name) / "cache" if check.kind == "machine" else cache_of(stock)  # compiling takes a minute
        cache.mkdir(mode=0o700, exist_ok=True)
        check.prepare(folder)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ROBUST_HLS_")},
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "ROBUST_HLS_CACHE": str(cache),
            "COLUMNS": "300",
            **{key: value.replace("@", str(folder)) for key, value in check.environment.items()},
        }
        for key in [key for key, value in environment.items() if value == "-"]:
            del environment[key]
        before = _digests(folder)
        status, words = _run(check, folder, environment, limit)
        after = _digests(folder)
        _restore_modes(folder)
    lost = tuple(
        path
        for path, digest in before.items()
        if after.get(path) != digest and (path in check.kept or not path.startswith(check.edits))
    )
    return Outcome(check, status, words, lost, tuple(sorted(set(after) - set(before)))[:5])


def _run(check: Check, folder: Path, environment: dict[str, str], limit: float) -> tuple[int | None, str]:
    status: int | None
    with tempfile.TemporaryFile() as words:
        if check.kind not in ("machine", "signals") and not check.shell:
            status = _forked(check, folder, environment, words.fileno(), limit)
            words.seek(0)
            return status, words.read().decode("utf-8", "replace")
        before = f'{check.shell}\nexec "$0" -m hw.start "$@"'
        child = subprocess.Popen(
            ["/bin/sh", "-c", before, sys.executable, *check.arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if check.interrupt_after is not None:
                time.sleep(check.interrupt_after)
                child.send_signal(signal.SIGINT)
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = None
        words.seek(0)
        return status, words.read().decode("utf-8", "replace")


def _forked(check: Check, folder: Path, environment: dict[str, str], words: int, limit: float) -> int | None:
    """In a process that has loaded all modules already."""
    child = FORKING.Process(target=_command, args=(check.arguments, str(folder), environment, DupFd(words)))
    child.start()
    child.join(limit)
    if child.exitcode is None:
        child.kill()
        child.join()
        return None
    return child.exitcode


def _command(arguments: tuple[str, ...], folder: str, environment: dict[str, str], words: Any) -> None:
    """What the `robust-hls` command does, in this process."""
    from hw.cli import main

    handle = words.detach()
    be_command(main, arguments, folder, environment, {1: handle, 2: handle})


def _digests(folder: Path) -> dict[str, str]:
    """Every path that is there, with what is in it."""
    from qmodels.digest import file_digest

    found = {}
    for path in folder.rglob("*"):
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "replace")
        found[name] = file_digest(path) if path.is_file() and not path.is_symlink() else str(path.is_symlink())
    return found


def _restore_modes(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def _chosen(names: list[str], quick: bool) -> list[Check]:
    checks = [check for name in names for check in KINDS[name]()]
    return checks[:: _QUICK_SHARE * 3] if quick else checks


def main() -> int:
    """0 when nothing is wrong."""
    arguments = parser(__doc__, KINDS)
    arguments.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds that a check may take")
    options = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and so would its own
    load_modules()
    report, start = Report(), time.perf_counter()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="hostile-stock-") as name:
        stock = fixtures(Path(name) / "stock")
        with ThreadPoolExecutor(processors()) as pool:
            started = [pool.submit(run, check, stock, options.limit) for check in _chosen(options.only, options.quick)]
            for future in as_completed(started):
                outcome = future.result()
                outcomes.append(outcome)
                if outcome.problem:
                    last = outcome.words.strip().splitlines()[-1:] or [""]
                    print(f"{outcome.check}: {outcome.problem}\n    {last[0][:300]}", flush=True)
    wrong = [outcome for outcome in outcomes if outcome.problem]
    report.figure("checks", len(outcomes), f"{time.perf_counter() - start:.0f} s")
    report.figure("wrong", len(wrong))
    report.figure("tracebacks", sum(outcome.traceback for outcome in outcomes))
    report.figure("files_lost", sum(len(outcome.lost) for outcome in outcomes))
    details: dict[str, Any] = {str(outcome.check): outcome.problem for outcome in wrong}
    report.details = {"wrong": details, "seconds": time.perf_counter() - start}
    report.write(options.json)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
