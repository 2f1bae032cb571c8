"""From what you typed to a run that can start: which config, which folder, new or resumed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hw.experiment.config import OwnModelConfig, load_config
from hw.experiment.folder import RunFolder
from hw.experiment.run import Run
from hw.experiment.settings import Settings
from qmodels.data import DATASETS
from qmodels.errors import UserError
from qmodels.storage import usable_path

OUTPUT_ROOT = Path("hls_projects")


def open_run(
    target: Path | None,
    settings: Settings | None = None,
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
        settings: dotted keys of the config and their values; they win over the options below.
        out: run folder; default `hls_projects/<name>`.
        resume: go on with what is in the folder.
        data_dir: where data sets are looked for.
        model: your own model.
        data: data set name or .npz path.
        engine: which simulator stands for the accelerator.

    Raises:
        UserError: something is wrong with any of these.
    """
    is_run = target is not None and target.is_dir()
    if target is not None and is_run:
        if not (target / "config.yaml").is_file():
            raise UserError(f"{target}: no run in this folder (config.yaml is missing)")
        RunFolder(target).require()
    source = target / "config.yaml" if target is not None and is_run else target
    config = load_config(source, _shortcuts(model, data, engine) | dict(settings or {}))
    _check_model(config.model)
    folder = RunFolder(out or (target if is_run and target else OUTPUT_ROOT / config.name))
    own_data = Path(config.data.name) if _is_file_name(config.data.name) else None
    folder.check([config.model.file, config.model.weights, own_data])
    if folder.exists() and not resume and not (is_run and target and folder.path.resolve() == target.resolve()):
        raise UserError(f"{folder.path}: holds a run already; add --resume to go on with it, or choose another --out")
    return Run(config, folder, data_dir)


def _is_file_name(data: str) -> bool:
    return data not in DATASETS and Path(data).suffix.lower() in (".npz", ".npy")


def _check_model(model: OwnModelConfig) -> None:
    for key, path in (("model.file", model.file), ("model.weights", model.weights)):
        if path is not None and not usable_path(path).is_file():
            raise UserError(f"{key}: {path}: {'is no file' if path.exists() else 'no such file'}")
    needs = {"model.weights (--weights)": model.weights is not None, "model.repair (--repair)": model.repair}
    for key, asked in needs.items():
        if asked and model.file is None:
            raise UserError(f"{key}: belongs to a model of your own; name it with --model, or model.file")


def _shortcuts(model: Path | None, data: str | None, engine: str | None) -> dict[str, Any]:
    """--model, --data and --engine as settings; the run is then named after the model."""
    settings: dict[str, Any] = {}
    if model is not None:
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", model.stem).strip("_-")[:63] or "model"
        settings |= {"model.file": str(model.resolve()), "name": stem}
    if data is not None:
        settings["data.name"] = str(usable_path(Path(data)).resolve()) if _is_file_name(data) else data
    if engine is not None:
        settings["simulation.engine"] = engine
    return settings
