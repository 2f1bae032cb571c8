"""Commands that are killed at random moments: the same numbers after all, and nothing left running.

    python benchmarks/kills.py [--quick] [--json OUT] [--only run size tables] [--kills 30] [--seed 0]

A command is started, ended by SIGKILL, SIGTERM or SIGINT at a random moment, started again in the same folder, ended
again, five times, and then left alone. Two starts of five are of Python itself; the others are forked from a process
that has loaded the modules, so that more of the moments are those of work. Its numbers must be those of a folder that
was never disturbed; seconds, dates and the folder's name are no numbers. Five seconds after each kill no process that
it started may be left. Keys, for each command: `<command>_kills` (30), `<command>_differing` (0),
`<command>_left_over` (0), `<command>_failed` (0).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import Report, parser
from benchmarks.forked import FORKING, be_command, load_modules
from benchmarks.hostile_checks import SET

ROOT = Path(__file__).resolve().parent.parent
KILLS, IN_A_ROW = 30, 5
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
AFTER_SECONDS = 5.0
STUCK = -1000  # the status of a command that did not end
MARK, WORDS = "ROBUST_HLS_KILLS_MARK", "words.txt"
#: Statuses of a command that was ended, or had finished before the signal came.
_ENDED = (0, 130, 143, *(-number for number in SIGNALS))
#: Keys that tell of time, place and machine.
_NO_NUMBERS = frozenset(
    "seconds started finished wall_seconds step_seconds starts environment commit out folder path worker "
    "computed elapsed processor_seconds command".split()
)

_EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "limit_train": 200, "limit_test": 40},
    "model": {"architecture": "mlp", "hidden": [4]},
    "training": {"method": "standard", "epochs": 2},
    "quantization": {"calibration_samples": 50},
    "simulation": {"verify_samples": 2, "verify_random": 1},
    "evaluation": {"check_convergence": False},
    "testbench": {"clean": 2, "adversarial": 2},
}
_FGSM: dict[str, Any] = {"kind": "fgsm"}
_SIZING: dict[str, Any] = {
    "name": "tiny_sizing",
    "experiment": "experiment.yaml",
    "space": {"quantization.weight_bits": [2, 4]},
    "screening": {"off": True},
    "worst_case": {
        "epsilon_lsb": 16,
        "images": 12,
        "attack": {"kind": "worst-case", "attacks": [{"kind": "square", "queries": 5}]},
    },
    "final": {"images": 12, "designs": 1},
}
_TABLES: dict[str, Any] = {
    "name": "tiny_tables",
    "experiment": "experiment.yaml",
    "published": "mnist",
    "samples": 12,
    "rows": [{"label": "Orig."}],
    "columns": [{"title": "FGSM (w)", "table": "white-box", "attack": _FGSM, "epsilon_lsb": 8, "samples": 12}],
    "bits_study": {"rows": ["Orig."], "bits": [2], "attacks": []},
}


@dataclass(frozen=True)
class Command:
    """One of the three, with what tells its numbers."""

    name: str
    arguments: tuple[str, ...]  # `@` is the output folder
    again: tuple[str, ...]
    numbers: str


COMMANDS = {
    "run": Command("run", ("run", *SET, "--out", "@"), ("run", *SET, "--out", "@", "--resume"), "results.json"),
    "size": Command(
        "size",
        ("size", "sizing.yaml", "--out", "@", "--workers", "1"),
        ("size", "sizing.yaml", "--out", "@", "--workers", "1"),
        "sizing.json",
    ),
    "tables": Command(
        "tables", ("tables", "tables.yaml", "--out", "@"), ("tables", "tables.yaml", "--out", "@"), "results.json"
    ),
}


class Warm:
    """A command in a forked process, with the methods of `Popen` that are used here."""

    def __init__(self, words: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        with (folder / WORDS).open("wb") as said:
            self._process = FORKING.Process(
                target=_command, args=(words, str(folder), environment, DupFd(said.fileno()))
            )
            self._process.start()
        self.pid = int(self._process.pid or 0)

    def wait(self, timeout: float | None = None) -> int:
        """Its status; TimeoutExpired as subprocess has it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("robust-hls", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """To it alone."""
        os.kill(self.pid, number)


def _command(words: Sequence[str], folder: str, environment: dict[str, str], said: Any) -> None:
    """What `robust-hls` does, in this process."""
    from hw.start import main as start

    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    be_command(start, words, folder, environment, {0: null, 1: null, 2: said.detach()})


class Trial:
    """A folder in which a command is started again and again."""

    def __init__(self, command: Command, folder: Path, cache: Path, out: str) -> None:
        self.command, self.folder, self.cache, self.out = command, folder, cache, folder / out
        self._mark = f"{os.getpid()}-{out}-{time.monotonic_ns()}"
        self._sessions: set[int] = set()

    def start(self, cold: bool = False) -> Warm | subprocess.Popen[bytes]:
        """The command, or the one that goes on with it; cold: Python itself starts too."""
        words = self.command.again if (self.out / ".robust-hls.json").exists() else self.command.arguments
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ROBUST_HLS_")}
        environment |= {"PYTHONPATH": str(ROOT), "ROBUST_HLS_CACHE": str(self.cache), MARK: self._mark}
        words = tuple(str(self.out) if word == "@" else word for word in words)
        child: Warm | subprocess.Popen[bytes]
        if cold:
            with (self.folder / WORDS).open("wb") as said:
                child = subprocess.Popen(
                    [sys.executable, "-m", "hw.start", *words],
                    cwd=self.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
        else:
            child = Warm(words, self.folder, environment)
        self._sessions.add(child.pid)
        return child

    def finish(self, cold: bool = False) -> float:
        """To the end; seconds. RuntimeError when it fails."""
        start = time.perf_counter()
        if status := self.start(cold).wait():
            raise RuntimeError(f"status {status}: {self.words()}")
        return time.perf_counter() - start

    def kill(self, number: signal.Signals, after: float, cold: bool) -> tuple[int, bool]:
        """Start it, and end it after so many seconds; its status, and whether it still ran."""
        child = self.start(cold)
        try:
            return child.wait(after), False
        except subprocess.TimeoutExpired:
            child.send_signal(number)
        try:
            return child.wait(120), True
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            return STUCK, True

    def left_over(self) -> list[str]:
        """Processes that it started and that are there after five seconds."""
        deadline = time.monotonic() + AFTER_SECONDS
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process, _ in left:
            os.kill(process, signal.SIGKILL)
        return [command for _, command in left]

    def numbers(self) -> Any:
        """What it computed."""
        return _numbers(json.loads((self.out / self.command.numbers).read_text()))

    def words(self) -> str:
        """The end of what it said."""
        return (self.folder / WORDS).read_text(errors="replace")[-1500:]

    def _processes(self) -> list[tuple[int, str]]:
        wanted, found = f"{MARK}={self._mark}".encode(), []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    session = int((path / "stat").read_text().rpartition(")")[2].split()[3])
                    if session in self._sessions or wanted in (path / "environ").read_bytes().split(b"\0"):
                        command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                        found.append((int(path.name), command[:200]))
                except OSError:  # it has ended since, or is another user's
                    continue
        return found


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(child) for key, child in value.items() if key not in _NO_NUMBERS}
    return [_numbers(child) for child in value] if isinstance(value, list) else value


class Moments:
    """Random moments of a command, whose length follows how busy the machine is."""

    def __init__(self, rng: random.Random, seconds: float) -> None:
        self.rng, self.seconds = rng, seconds

    def draw(self, cold: bool) -> float:
        """Seconds after its start."""
        return self.rng.uniform(0.05, self.seconds * (2.0 if cold else 1.0))

    def learn(self, ran: bool) -> None:
        """Whether the command still ran at the moment that was drawn."""
        self.seconds *= 1.03 if ran else 0.8


def _disturb(trial: Trial, times: int, moments: Moments, counts: dict[str, int], tell: Callable[[str], None]) -> str:
    """Start it and end it so many times, unless it is over before; the last moment, in words."""
    told = ""
    for row in range(times):
        cold = row % 3 == 0
        sign, after = moments.rng.choice(SIGNALS), moments.draw(cold)
        status, ran = trial.kill(sign, after, cold)
        moments.learn(ran)
        counts["kills"] += ran  # not what was over before
        told = f"{trial.command.name}, {sign.name} after {after:.1f} of {moments.seconds:.1f} s, cold: {cold}"
        if status not in _ENDED:
            counts["failed"] += 1
            tell(f"{told}: status {status}: {trial.words()}")
        if left := trial.left_over():
            counts["left_over"] += len(left)
            tell(f"{told}: left {left}")
        if not ran:
            break
    return told


def measure(command: Command, cache: Path, kills: int, rng: random.Random) -> tuple[dict[str, int], list[str]]:
    """Counts, and what went wrong."""
    counts, wrong = dict.fromkeys(("kills", "differing", "left_over", "failed"), 0), list[str]()

    def tell(line: str) -> None:
        wrong.append(line)
        print(line, flush=True)

    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        for file, content in (("experiment", _EXPERIMENT), ("sizing", _SIZING), ("tables", _TABLES)):
            (folder / f"{file}.yaml").write_text(yaml.safe_dump(content))
        calm = Trial(command, folder, cache, "calm")
        calm.finish(cold=True)  # and fills the cache
        expected = calm.numbers()
        calm = Trial(command, folder, cache, "again")
        moments = Moments(rng, calm.finish())
        if calm.numbers() != expected:
            raise RuntimeError(f"not even two calm runs agree: {_difference(expected, calm.numbers())}")
        number = 0
        while counts["kills"] < kills:
            trial = Trial(command, folder, cache, f"out{number}")
            number += 1
            told = _disturb(trial, min(IN_A_ROW, kills - counts["kills"]), moments, counts, tell)
            try:
                trial.finish()
                if trial.numbers() != expected:
                    counts["differing"] += 1
                    tell(f"{told}: {_difference(expected, trial.numbers())}")
            except RuntimeError as error:
                counts["failed"] += 1
                tell(f"{told}, then: {error}")
            print(f"{command.name}: {counts}", flush=True)
    return counts, wrong


def _difference(one: Any, other: Any, where: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return "; ".join(_difference(one[key], other[key], f"{where}.{key}") for key in one if one[key] != other[key])
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return "; ".join(_difference(a, b, f"{where}[{number}]") for number, (a, b) in pairs if a != b)
    return f"{where}: {str(one)[:80]} became {str(other)[:80]}"


def main() -> int:
    """0 when nothing is wrong."""
    arguments = parser(__doc__, COMMANDS)
    arguments.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    arguments.add_argument("--kills", type=int, default=KILLS, help="of each command")
    arguments.add_argument("--cache", type=Path, help="an earlier one, which saves the compilers' time")
    options = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and so would its own
    load_modules()
    report, rng, wrong = Report(), random.Random(options.seed), []
    with tempfile.TemporaryDirectory(prefix="kills-cache-") as new:
        for name in options.only:
            kills = IN_A_ROW if options.quick else options.kills
            counts, found = measure(COMMANDS[name], options.cache or Path(new), kills, rng)
            for key, value in counts.items():
                report.figure(f"{name}_{key}", value)
            wrong += found
    report.details = {"wrong": wrong}
    report.write(options.json)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
