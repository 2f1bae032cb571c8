"""From what the user typed to a run that can start: which config, which folder, new or resumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hw.experiment.config import load_config
from hw.experiment.folder import RunFolder
from hw.experiment.run import Run
from qmodels.data import DATASETS
from qmodels.errors import UserError

OUTPUT_ROOT = Path("hls_projects")


def open_run(
    target: Path | None,
    settings: Sequence[str] = (),
    *,
    out: Path | None = None,
    resume: bool = False,
    data_dir: Path | None = None,
    model: Path | None = None,
    data: str | None = None,
    engine: str | None = None,
) -> Run:
    """A checked run.

    Args:
        target: a YAML config, the folder of an earlier run (its config is used, and it is resumed), or None.
        settings: `key=value` overrides.
        out: run folder; default `hls_projects/<name>`.
        resume: go on with what is in the folder.
        data_dir: where data sets are looked for.
        model: the user's own model.
        data: data set name or .npz path.
        engine: which simulator stands for the accelerator.

    Raises:
        UserError: something is wrong with any of these.
    """
    is_run = target is not None and target.is_dir()
    if target is not None and is_run and not (target / "config.yaml").exists():
        raise UserError(f"{target}: no run in this folder (config.yaml is missing)")
    source = target / "config.yaml" if target is not None and is_run else target
    config = load_config(source, [*_shortcuts(model, data, engine), *settings])
    if config.model.file is not None and not config.model.file.is_file():
        raise UserError(f"model.file: {config.model.file}: no such file")
    folder = RunFolder(out or (target if is_run and target else OUTPUT_ROOT / config.name))
    if folder.exists() and not resume and not (is_run and target and folder.path.resolve() == target.resolve()):
        raise UserError(f"{folder.path}: holds a run already; add --resume to go on with it, or choose another --out")
    return Run(config, folder, data_dir)


def _shortcuts(model: Path | None, data: str | None, engine: str | None) -> list[str]:
    """--model and --data as overrides; the run is then named after the model."""
    overrides = []
    if model is not None:
        overrides.append(f"model.file={_quoted(str(model.resolve()))}")
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", model.stem).strip("_-")[:63] or "model"
        overrides.append(f"name={_quoted(stem)}")
    if data is not None:
        path = data if data in DATASETS else str(Path(data).resolve()) if data.endswith(".npz") else data
        overrides.append(f"data.name={_quoted(path)}")
    if engine is not None:
        overrides.append(f"simulation.engine={_quoted(engine)}")
    return overrides


def _quoted(text: str) -> str:
    """A YAML single-quoted scalar."""
    return "'" + text.replace("'", "''") + "'"
