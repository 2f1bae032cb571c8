"""What is known of a run's synthesis: `synthesis.json`, its finished stages with the digests of what they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hw.experiment.config import load_config
from hw.experiment.folder import RunFolder
from hw.generate.hardware import HardwareConfig
from hw.synth.stages import BENCHED
from qmodels.digest import digest_of, file_digest
from qmodels.errors import UserError
from qmodels.shapes import Part, read_stored
from qmodels.storage import write_json

RECORD = "synthesis.json"


class StagePart(Part):
    """A finished stage: plain figures."""

    key: str
    __pydantic_extra__: dict[str, int | float | str | bool | None]


class SynthesisPart(Part):
    """synthesis.json."""

    project_digest: str
    stages: dict[str, StagePart]


def open_project(path: Path) -> tuple[RunFolder, HardwareConfig]:
    """A run's folder and its hardware; UserError where there is no HLS project."""
    if not (path / "config.yaml").is_file():
        raise UserError(f"{path}: no run in this folder (config.yaml is missing)")
    if not (path / "hls").is_dir():
        raise UserError(f"{path / 'hls'}: no HLS project yet; make it: robust-hls generate {path}")
    folder = RunFolder(path)
    folder.require()
    return folder, load_config(path / "config.yaml").hardware


def sources_of(folder: RunFolder) -> dict[str, str]:
    """Digests of the HLS project's files as they are, by name; they must be those that were generated."""
    made = folder.outputs("project") | folder.outputs("testbench")
    known = {name.removeprefix("hls/"): digest for name, digest in made.items() if name.startswith("hls/")}
    for name, digest in known.items():
        file = folder / "hls" / name
        if not is_file_of(file, digest):
            raise UserError(f"{file}: changed since it was generated; make it again: robust-hls run {folder.path}")
    if not known:
        raise UserError(f"{folder / 'hls'}: its step is not finished; robust-hls generate {folder.path}")
    return known


def _digest(sources: dict[str, str], with_data: bool) -> str:
    return digest_of({name: value for name, value in sources.items() if with_data or not name.startswith("tb_data/")})


def _read(folder: RunFolder) -> dict[str, Any]:
    """The record; UserError where somebody edited it."""
    if not (folder / RECORD).is_file():
        return {}
    found: dict[str, Any] = read_stored(folder / RECORD, SynthesisPart)
    return found


def load_record(folder: RunFolder, sources: dict[str, str]) -> dict[str, Any]:
    """The record of this project, without simulations of other data; a new one when the project is another."""
    record, digest = _read(folder), _digest(sources, False)
    if record.get("project_digest") != digest:
        return {"schema": 1, "project_digest": digest, "stages": {}}
    for name in BENCHED:
        if name in record["stages"] and record["stages"][name].get("key") != key_of(name, sources):
            del record["stages"][name]
    return record


def key_of(stage: str, sources: dict[str, str]) -> str:
    """The digest of all that a stage's result depends on."""
    return digest_of([stage, _digest(sources, stage in BENCHED)])


def stored_synthesis(path: Path) -> dict[str, Any] | None:
    """The record of a run whose HLS project is still the synthesized one; None where there is nothing to tell.

    Simulations of other test bench data than today's are left out.

    Raises:
        UserError: somebody edited the record.
    """
    folder = RunFolder(path)
    if not (folder / RECORD).is_file():
        return None
    _read(folder)  # what somebody edited is told
    try:
        record = load_record(folder, sources_of(folder))
    except UserError:  # the project was changed by hand or is not finished: what was synthesized is another one
        return None
    return record if record["stages"] else None


def bench_inputs(folder: RunFolder) -> dict[str, int]:
    """How many of the replayed inputs are adversarial."""
    try:
        lines = json.loads((folder / "hls" / "tb_data" / "tb_index.json").read_text(encoding="utf-8"))["lines"]
        return {"adversarial_inputs": sum(line["kind"] == "adversarial" for line in lines)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def store_record(folder: RunFolder, record: dict[str, Any]) -> None:
    """Keep the record."""
    write_json(folder / RECORD, record)


def is_file_of(path: Path, digest: str) -> bool:
    """Whether a file is there and has that digest."""
    return path.is_file() and file_digest(path) == digest
