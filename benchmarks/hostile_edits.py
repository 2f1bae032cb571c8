"""Checks of `benchmarks/hostile.py`: results that somebody edited."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.hostile_check import Check, Prepare, write

_EDITS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "results": (("rows",), ("rows", 0), ("rows", 1, "accuracy"), ("rows", 1, "n"), ("rows", 1, "ci95"), ("rows", 1, "flags"),  # noqa: E501
                ("rows", 1, "epsilon_lsb"), ("worst_case", 0, "accuracy"), ("attacks", 0, "epsilons_lsb"), ("cost",), ("cost", "bram_18k"), ("exactness", "inputs"), ("run",)),  # noqa: E501
    "training": ((), ("history",), ("history", 0, "loss"), ("epochs",)),
    "quantization": ((), (0,)),
    "examples": ((), ("samples",), ("samples", 0, "clean"), ("shape",), ("victims",), ("samples", 0, "answers")),
    "overflow": ((), ("layers",), ("images",)),
    "mapping": ((),),
}  # fmt: skip


#: Files that some runs have, and what they must be.
_READ_AT_THE_END = {
    "repair": ('{"repairs": "all"}', "repairs must be a list"),
    "adopted": ('{"changes": [3]}', "changes[0] must be a text"),
    "layerwise": ('{"chosen": 7, "candidates": [], "layers": []}', "common is missing"),
}


def edit(name: str, place: tuple[Any, ...], value: Any) -> Prepare:
    """Puts a value into one of the run's files."""

    def prepare(folder: Path) -> None:
        path = folder / "run" / f"{name}.json"
        plain = json.loads(path.read_text())
        node = plain
        for part in place[:-1]:
            node = node[part]
        if place:
            node[place[-1]] = value
        path.write_text(json.dumps(plain if place else value))

    return prepare


def edited() -> Iterator[Check]:
    """Results that somebody edited: named by file and key."""
    for name, places in _EDITS.items():
        for place in places:
            for value in ("text", -1, float("nan")):
                if (place[-1:], value) in ((("run",), "text"), (("loss",), -1)):  # as good as any other
                    continue
                told = f"run/{name}.json: " + (
                    ""
                    if value != value
                    else "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")
                )
                yield Check(
                    "edited",
                    ("report", "run", "-o", "new.html"),
                    told,
                    prepare=edit(name, place, value),
                    note=f"{name} {place} {value}",
                )
        yield Check(
            "edited",
            ("report", "run"),
            f"run/{name}.json: not readable as JSON",
            prepare=write(f"run/{name}.json", "{half"),
            note=name,
        )
    for name, (text, told) in _READ_AT_THE_END.items():
        yield Check("edited", ("run", "run"), f"run/{name}.json: {told}", prepare=write(f"run/{name}.json", text))
    for record in ("{half", "[]", '{"key": 1}', '{"key": "k", "outputs": {"../notes.txt": "x"}}'):
        prepare = write("run/.steps/report.json", record)
        yield Check("edited", ("run", "run"), "report.html", (0,), prepare=prepare, note=record, edits="run/")
