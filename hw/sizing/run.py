"""From what the user typed to a finished sizing: its folder, its crew, its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from hw.experiment.config import dump_config
from hw.experiment.folder import RunFolder
from hw.experiment.preflight import check_machine
from hw.experiment.run import load_run_data
from hw.experiment.settings import Settings
from hw.sizing.conductor import EXPERIMENT, Conductor
from hw.sizing.config import SizingConfig, dump_sizing, in_steps, load_experiment, load_sizing
from hw.sizing.crew import Crew, SoloCrew
from hw.sizing.points import Point
from hw.sizing.space import check_space
from hw.sizing.store import Store
from qmodels.errors import ExactnessError, UserError
from qmodels.interrupts import stoppable
from qmodels.processors import processors
from qmodels.storage import write_bytes

#: Bits of every layer of a model of your own, post training.
OWN_MODEL = Path(str(files("hw.sizing").joinpath("own_model.yaml")))
OUTPUT_ROOT = Path("hls_projects")
SIZING, STORE, LOG = "sizing.yaml", "store.sqlite", "workers.log"


@dataclass(frozen=True)
class SizingOptions:
    """How to run it; nothing here changes a result."""

    out: Path | None = None
    workers: int | None = None  # None: one a processor; 0: in this process
    scheduler: str | None = None  # address of a dask scheduler
    data_dir: Path | None = None
    retry_failed: bool = False
    report_only: bool = False


def size(source: Path, settings: Settings | None = None, options: SizingOptions | None = None) -> Conductor:
    """Run, or go on with, a sizing; the report is in its folder afterwards.

    Args:
        source: a sizing config, or the folder of an earlier sizing.
        settings: dotted keys of the sizing config and their values.
        options: where and with whom.

    Raises:
        UserError: the config or the experiment is wrong, the machine will not do, or the folder is in use.
        ToolMissing: g++ is missing, or fails on a line of C++.
        ExactnessError: the simulator of some design differed from its model; the report was written and names it.
    """
    options = options or SizingOptions()
    config, experiment, folder = _open(source, settings, options)
    if not options.report_only:
        check_machine(folder.path)
    with folder.lock(), stoppable():
        if options.report_only:
            return _conducted(config, folder.path, None, options)
        crew = _crew(options, folder.path)  # before anything is written: there may be none
        try:
            write_bytes(folder / SIZING, dump_sizing(config).encode())
            write_bytes(folder / EXPERIMENT, experiment.encode())
            return _conducted(config, folder.path, crew, options)
        finally:
            crew.close()


def own_model_settings(model: Path | None, data: str | None) -> dict[str, Any]:
    """`--model` and `--data` as settings of the sizing's config."""
    found: dict[str, Any] = {}
    if model is not None:
        found |= {"experiment.model.file": str(model.resolve()), "experiment.model.prepare": True}
    if data is not None:
        found["experiment.data.name"] = data if not Path(data).exists() else str(Path(data).resolve())
    return found


def show(conductor: Conductor, say: Callable[[str], None]) -> None:
    """What came out, and where it is."""
    from hw.sizing.report import FILES, console_text, content_of

    say(console_text(content_of(conductor)))
    say("")
    for name in FILES:
        say(f"{name:16s}{conductor.folder / name}")


def _conducted(config: SizingConfig, folder: Path, crew: Crew | None, options: SizingOptions) -> Conductor:
    from hw.sizing.report import write_reports

    store = Store(folder / STORE)
    try:
        if options.retry_failed:
            store.forget_failed()
        conductor = Conductor(config, folder, store, crew, options.data_dir)
        points = conductor.run()
        write_reports(conductor)
    finally:
        store.close()
    _refuse_differing_bits(points)
    return conductor


def _open(source: Path, settings: Settings | None, options: SizingOptions) -> tuple[SizingConfig, str, RunFolder]:
    """Config, experiment as YAML, folder. Nothing is written yet."""
    earlier = source.is_dir()
    if earlier and not (source / SIZING).is_file():
        raise UserError(f"{source}: no sizing in this folder ({SIZING} is missing)")
    if earlier:
        RunFolder(source, "sizing").require()
    where = source / SIZING if earlier else source
    config = load_sizing(where, settings)
    loaded = load_experiment(config, str(where))
    experiment = dump_config(loaded)
    named = config.experiment if isinstance(config.experiment, Path) else None
    check_space(experiment, str(named or f"{where}: experiment"), config.space)
    if config.worst_case.epsilon is not None:
        config = in_steps(config, load_run_data(loaded, options.data_dir))
    config = config.model_copy(update={"experiment": Path(EXPERIMENT), "fixed": {}})
    folder = RunFolder(options.out or (source if earlier else OUTPUT_ROOT / config.name), "sizing")
    folder.check([None if earlier else source])
    if options.report_only and not (folder / STORE).exists():
        raise UserError(f"{folder.path}: no results to report yet")
    return config, experiment, folder


def _crew(options: SizingOptions, folder: Path) -> Crew:
    if options.workers == 0 and options.scheduler is None:
        return SoloCrew()
    from hw.sizing.cluster import local_crew, remote_crew

    if options.scheduler is not None:
        return remote_crew(options.scheduler)
    return local_crew(options.workers or processors(), folder / LOG)


def _refuse_differing_bits(points: Sequence[Point]) -> None:
    wrong = [point for point in points if "ExactnessError" in point.error]
    if wrong:
        raise ExactnessError(f"{wrong[0].design.title()}: {wrong[0].error} ({len(wrong)} such designs)")
