"""From what the user typed to finished tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from hw.experiment.environment import environment
from hw.experiment.folder import RunFolder
from hw.experiment.open import OUTPUT_ROOT
from hw.experiment.preflight import check_machine, check_run
from hw.experiment.run import Run
from hw.experiment.settings import Settings
from hw.report import load_run
from hw.report.step import FLOW
from hw.tables.account import WallClock
from hw.tables.config import (
    EXPERIMENT_FILE,
    TABLES_FILE,
    TablesConfig,
    base_experiment,
    dump_tables,
    load_tables,
    row_configs,
)
from hw.tables.content import Tables, tables_of
from hw.tables.export import files_of
from hw.tables.published import published_tables
from hw.tables.rows import finish_row, is_finished, row_folder, row_runs
from hw.tables.studies import Studies
from qmodels.storage import write_bytes

Say = Callable[[str], None]


@dataclass(frozen=True)
class TablesOptions:
    """How to run it."""

    out: Path | None = None
    data_dir: Path | None = None
    settings: Settings = field(default_factory=dict)  # dotted keys of every row's experiment and their values
    attacks: tuple[str, ...] = ()  # kinds of attack; empty: all
    images: int | None = None  # most test images of any attack


def make_tables(target: str, options: TablesOptions, say: Say) -> tuple[Tables, Path]:
    """Run, or go on with, every row and study; the tables are in the folder afterwards.

    Args:
        target: as for `load_tables`.
        options: where, and how much of it.
        say: told one line per row and step.

    Returns:
        The tables and their folder.

    Raises:
        UserError: a config is wrong, the machine will not do, or the folder is in use; then nothing was written.
        ToolMissing: g++ is missing, or fails on a line of C++; nothing was written.
        ExactnessError: an accelerator differs from its model in one bit.
    """
    config = load_tables(target, options.settings, options.attacks, options.images)
    earlier = (Path(target) / TABLES_FILE).is_file()
    folder = RunFolder(options.out or (Path(target) if earlier else OUTPUT_ROOT / config.name), "tables")
    folder.check()
    experiment, configs = base_experiment(config), row_configs(config)
    check_machine(folder.path, needs_gxx=not all(row_folder(config, folder.path).exists() for config in configs))
    runs = row_runs(configs, folder.path, options.data_dir)
    for run in runs:
        check_run(run, FLOW, machine=False)
    with folder.lock():
        write_bytes(folder / EXPERIMENT_FILE, experiment.encode())
        write_bytes(folder / TABLES_FILE, dump_tables(config).encode())
        clock = WallClock(folder.path, environment(configs[0].seed)["commit"])
        with clock.running():
            for number, (row, run) in enumerate(zip(config.rows, runs, strict=True), start=1):
                finish_row(run, runs, _teller(f"row {number}/{len(runs)} {row.label}: ", say))
                finished = [is_finished(other) for other in runs]
                if not all(finished):  # stopped later, the tables have the rows so far
                    _write(_assemble(config, runs, finished, {}, clock), folder.path)
            studies = _studies(config, runs, folder, say)
            tables = _assemble(config, runs, [True] * len(runs), studies, clock)
            _write(tables, folder.path)
    return tables, folder.path


def _teller(prefix: str, say: Say) -> Say:
    return lambda line: say(prefix + line)


def _studies(config: TablesConfig, runs: Sequence[Run], folder: RunFolder, say: Say) -> dict[str, list[dict[str, Any]]]:
    studies = Studies(folder / "studies", config.samples)
    by_label = {row.label: run for row, run in zip(config.rows, runs, strict=True)}
    found = {}
    if config.bits_study is not None:
        say("study: accuracy over bits")
        found["bits"] = studies.bits(config.bits_study, by_label)
    if config.mapping_study is not None:
        say("study: µ-law mapping")
        found["mapping"] = studies.mapping(config.mapping_study, by_label)
    if config.transfer_study is not None:
        say("study: transfer")
        found["transfer"] = studies.transfer(config.transfer_study, by_label)
    return found


def _seconds(run: Run) -> dict[str, float]:
    """How long each step took when it last ran; a training that was taken over counts in every row that has it."""
    return {step.name: run.folder.seconds(step.name) for step in FLOW}


def _assemble(
    config: TablesConfig,
    all_runs: Sequence[Run],
    finished: Sequence[bool],
    studies: dict[str, list[dict[str, Any]]],
    clock: WallClock,
) -> Tables:
    """The tables of those rows that are finished."""
    rows = tuple(compress(config.rows, finished))
    runs = list(compress(all_runs, finished))
    account = {
        "rows_missing": [row.label for row in config.rows if row not in rows],
        "wall_seconds": round(clock.seconds, 1),
        "starts": clock.starts,
        "step_seconds": {row.label: _seconds(run) for row, run in zip(rows, runs, strict=True)},
        "environment": environment(runs[0].config.seed),
    }
    loaded = [load_run(run.folder.path) for run in runs]
    models = [run.config.table_label for run in runs]
    config = config.model_copy(update={"rows": rows})
    return tables_of(config, loaded, models, published_tables(config.published), studies, account)


def _write(tables: Tables, folder: Path) -> None:
    for name, text in files_of(tables).items():
        write_bytes(folder / name, text.encode())
