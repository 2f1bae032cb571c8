"""Checkpoints that a kill at any moment cannot spoil: written beside, then moved into place.

Files are uncompressed .npz archives without pickles: arrays, plus one JSON text in `meta`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data import Split
from qmodels.digest import digest
from qmodels.errors import ARCHIVE_ERRORS
from qmodels.training.config import TrainingConfig
from qmodels.training.report import ClassMargin, EpochRecord, RoundRecord

FORMAT = 1  # goes into the digest: a checkpoint of another format is not ours
GROUPS = ("weights", "optimizer", "best")  # the lists of arrays in a state
Arrays = list[NDArray[Any]]


@dataclass
class State:
    """Everything that training needs to go on. Random numbers are functions of (seed, phase, epoch, batch)."""

    weights: Arrays
    optimizer: Arrays
    best: Arrays
    phase: int = 0
    epoch: int = 0  # epochs finished in this phase
    history: list[EpochRecord] = field(default_factory=list)
    rounds: list[RoundRecord] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False


def training_digest(
    model: Any, config: TrainingConfig, train: Split, validation: Split, seed: int, static: Sequence[Any] = ()
) -> str:
    """Identifies a training: same digest, same result. The quantization-aware phase is a training of its own."""
    config = config.model_copy(update={"quantization_aware": None})
    layers = [f"{type(layer).__name__} {layer.name}" for layer in model.layers]
    still = [array for other in static for array in other.get_weights()]
    arrays = [*model.get_weights(), *train, *validation, *still]
    described = (part for array in arrays for part in (f"{array.shape} {array.dtype}", array))
    return digest(f"{FORMAT} {seed} {config.model_dump_json()}", *layers, *described)


def save_state(path: Path, digest: str, state: State) -> None:
    """Write `state` atomically."""
    groups = {name: getattr(state, name) for name in GROUPS}
    arrays = {f"{name}_{index}": array for name, group in groups.items() for index, array in enumerate(group)}
    meta = {
        "phase": state.phase,
        "epoch": state.epoch,
        "history": [asdict(record) for record in state.history],
        "rounds": [asdict(record) for record in state.rounds],
        "seconds": state.seconds,
        "finished": state.finished,
        "counts": {name: len(group) for name, group in groups.items()},
    }
    save_arrays(path, digest, arrays, meta)


def load_state(path: Path, digest: str) -> State | None:
    """The state in `path`, or None if there is none of that digest."""
    found = load_arrays(path, digest)
    if found is None:
        return None
    arrays, meta = found
    weights, optimizer, best = ([arrays[f"{name}_{i}"] for i in range(meta["counts"][name])] for name in GROUPS)
    return State(
        weights,
        optimizer,
        best,
        meta["phase"],
        meta["epoch"],
        [EpochRecord(**record) for record in meta["history"]],
        [round_from_json(record) for record in meta["rounds"]],
        meta["seconds"],
        meta["finished"],
    )


def round_from_json(record: dict[str, Any]) -> RoundRecord:
    """The reverse of `dataclasses.asdict`."""
    before, after = (tuple(ClassMargin(**item) for item in record[key]) for key in ("before", "after"))
    return RoundRecord(record["round"], tuple(record["levels"]), tuple(record["examples"]), before, after)


def save_arrays(path: Path, digest: str, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    """Write arrays and JSON values to `path`: all or nothing, also on power loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"digest": digest, **meta}).encode()
    partial = path.with_name(path.name + ".partial")  # one fixed name: a killed run's leftover is overwritten
    try:
        with partial.open("wb") as file:
            np.savez(file, meta=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def load_arrays(path: Path, digest: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Arrays and values of `path`; None if it is missing, unreadable or of another digest."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            meta: dict[str, Any] = json.loads(archive["meta"].tobytes())
            if meta.pop("digest", None) != digest:
                return None
            return {key: archive[key] for key in archive.files if key != "meta"}, meta
    except (OSError, ValueError, KeyError, *ARCHIVE_ERRORS):
        return None
