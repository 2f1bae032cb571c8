"""What every benchmark shares: the machine, timing peers in turn, the table and the JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from qmodels.processors import processors

_SAME = ("cpu", "cpus", "vector_extensions")  # machines that differ in none of these count as one


def machine() -> dict[str, Any]:
    """The machine a figure was measured on."""
    model = platform.processor() or platform.machine()
    flags: list[str] = []
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            if key.strip() == "flags":
                wanted = ("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni")
                flags = [flag for flag in value.split() if flag in wanted]
    return {
        "cpu": model,
        "cpus": processors(),
        "vector_extensions": flags,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def parser(description: str | None, parts: Iterable[str] = ()) -> argparse.ArgumentParser:
    """`--quick` and `--json OUT`, which every benchmark takes; `--only PART ...` for those that have parts."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--quick", action="store_true", help="fewer samples and repetitions")
    arguments.add_argument("--json", type=Path, metavar="OUT", help="write the figures here")
    if names := list(parts):
        arguments.add_argument("--only", nargs="+", default=names, choices=names, help="default: all")
    return arguments


@dataclass
class Timings:
    """Rates of peers that were timed in turn: A B A B, so that a busy moment hits both."""

    rates: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median rate, in items a second."""
        return statistics.median(self.rates[name])

    def best(self, name: str) -> float:
        """Highest rate seen."""
        return max(self.rates[name])

    def ratio(self, name: str, peer: str) -> float:
        """Median over the rounds of the rate of `name` over the rate of `peer` in the same round."""
        pairs = zip(self.rates[name], self.rates[peer], strict=True)
        return statistics.median(a / b for a, b in pairs)


def interleave(peers: Mapping[str, tuple[Callable[[], object], int]], rounds: int) -> Timings:
    """Time every peer `rounds` times, in turn, after one untimed call each.

    Args:
        peers: name -> (what to call, how many items one call handles).
        rounds: how often.
    """
    for call, _ in peers.values():
        call()
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, (call, items) in peers.items():
            start = time.perf_counter()
            call()
            rates[name].append(items / (time.perf_counter() - start))
    return Timings(rates)


@dataclass
class Report:
    """Figures by key, what was left out, and free-form details."""

    figures: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, Any] = field(default_factory=dict)  # of figures that are of another machine: that machine

    @classmethod
    def resumed(cls, path: Path | None) -> Report:
        """What a file of figures holds already; nothing where there is none."""
        if path is None or not path.exists():
            return cls()
        before = json.loads(path.read_text(encoding="utf-8"))
        here, there = machine(), dict.fromkeys(before["figures"], before["machine"])
        for group in before.get("elsewhere", []):
            there |= dict.fromkeys(group["figures"], group["machine"])
        elsewhere = {key: of for key, of in there.items() if any(of[what] != here[what] for what in _SAME)}
        return cls(before["figures"], before["notes"], before["left_out"], before["details"], elsewhere)

    def figure(self, key: str, value: float, note: str = "") -> None:
        """Record and show one figure."""
        self.figures[key] = float(value)
        self.notes.pop(key, None)
        self.elsewhere.pop(key, None)
        for names in [names for names in self.left_out if any(fnmatch(key, name) for name in names.split(", "))]:
            del self.left_out[names]
        if note:
            self.notes[key] = note
        print(f"{key:28s} {value:14.4g}  {note}", flush=True)

    def leave_out(self, key: str, why: str) -> None:
        """Figures that could not be measured here: a key, or patterns of keys with ", " between them."""
        for part in (self.figures, self.notes, self.elsewhere):
            part.pop(key, None)
        self.left_out[key] = why
        print(f"{key:28s} {'left out':>14s}  {why}", flush=True)

    def write(self, path: Path | None) -> None:
        """The JSON every benchmark writes."""
        content = {
            "schema": 1,
            "machine": machine(),
            "figures": self.figures,
            "notes": self.notes,
            "left_out": self.left_out,
            "details": self.details,
            "elsewhere": self._groups(),
        }
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _groups(self) -> list[dict[str, Any]]:
        """The figures of other machines, by machine."""
        groups: list[dict[str, Any]] = []
        for key, of in self.elsewhere.items():
            group = next((group for group in groups if group["machine"] == of), None)
            if group is None:
                groups.append(group := {"machine": of, "figures": []})
            group["figures"].append(key)
        return groups
