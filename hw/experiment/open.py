"""From what you typed to a run that can start: which config, which folder, new or resumed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hw.experiment.config import OwnModelConfig, RunConfig, load_config
from hw.experiment.config_text import check_config, parse_mapping, read_text
from hw.experiment.folder import RunFolder
from hw.experiment.run import Run
from hw.experiment.settings import Settings, merge
from qmodels.data import is_path
from qmodels.errors import UserError
from qmodels.storage import usable_path
from qmodels.tflite import is_tflite

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
    plan: Path | None = None,
) -> Run:
    """A checked run.

    Your own model without a config gets the default settings and a plan of attacks made for its data.

    Args:
        target: a YAML config, the folder of an earlier run (its config is used, and it is resumed), or None.
        settings: dotted keys of the config and their values; they win over the options below.
        out: run folder; default `hls_projects/<name>`.
        resume: go on with what is in the folder.
        data_dir: where data sets are looked for.
        model: your own model.
        data: data set name, or the path of your own.
        engine: which simulator stands for the accelerator.
        plan: a YAML config whose evaluation section is used.

    Raises:
        UserError: something is wrong with any of these.
    """
    is_run = target is not None and target.is_dir()
    if target is not None and is_run:
        if not (target / "config.yaml").is_file():
            raise UserError(f"{target}: no run in this folder (config.yaml is missing)")
        RunFolder(target).require()
    source = target / "config.yaml" if target is not None and is_run else target
    asked = _shortcuts(model, data, engine) | _planned(plan) | dict(settings or {})
    mine = source is None and "model.file" in asked  # no demo: its attacks and settings are made for the digits
    config = (
        check_config(RunConfig, merge({}, asked, "--set:"), lambda key: "--set") if mine else load_config(source, asked)
    )
    _check_model(config.model)
    folder = RunFolder(out or (target if is_run and target else OUTPUT_ROOT / config.name))
    own_data = Path(config.data.name) if is_path(config.data.name) else None
    folder.check([config.model.file, config.model.weights, own_data])
    if folder.exists() and not resume and not (is_run and target and folder.path.resolve() == target.resolve()):
        raise UserError(f"{folder.path}: already contains a run; add --resume to continue it, or choose another --out")
    run = Run(config, folder, data_dir)
    run.unplanned = mine and not {"evaluation", "evaluation.attacks"} & set(asked)
    return run


def _planned(plan: Path | None) -> dict[str, Any]:
    """--plan as a setting: the evaluation section of a config.

    Raises:
        UserError: there is none in the file.
    """
    if plan is None:
        return {}
    section = parse_mapping(RunConfig, read_text(plan), str(plan)).get("evaluation")
    if not isinstance(section, dict):
        raise UserError(f"{plan}: no evaluation section; --plan takes a config with evaluation: {{attacks: [...]}}")
    return {"evaluation": section}


def _check_model(model: OwnModelConfig) -> None:
    for key, path, folders in (
        ("model.file", model.file, True),
        ("model.weights", model.weights, False),
        ("model.surrogate", model.surrogate, True),
    ):
        if path is None or usable_path(path).is_file() or (folders and path.is_dir()):  # a SavedModel is a folder
            continue
        raise UserError(f"{key}: {path}: {'is no file' if path.exists() else 'no such file'}")
    tflite = {"model.surrogate (--surrogate)": model.surrogate is not None, "model.pixels": model.pixels != "grid"}
    for key, asked in tflite.items():
        if asked and not is_tflite(model.file):
            raise UserError(f"{key}: belongs to a .tflite file; name that with --model, or model.file")
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
        settings["data.name"] = str(usable_path(Path(data)).resolve()) if is_path(data) else data
    if engine is not None:
        settings["simulation.engine"] = engine
    return settings
