"""Reports of an HLS folder that was synthesized on another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hw.generate.hardware import HardwareConfig
from hw.synth.record import bench_inputs, is_file_of, key_of, load_record, open_project, sources_of, store_record
from hw.synth.reports import has_left, read_stage
from hw.synth.stages import BENCHED, STAGES, plan_stages
from qmodels.errors import ExactnessError, ToolMissing, UserError

#: Scripts that a stage writes or adds to.
_REWRITTEN = ("build_opt.tcl", "vivado_synth.tcl")


def import_reports(path: Path, reports: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Read the reports of an HLS folder that was synthesized elsewhere; every stage that left its reports.

    Simulations count only with this run's test bench data. What one stage left unreadable or failed ends the command,
    after the others are recorded.

    Raises:
        UserError: its sources are not this run's, or it has no report.
        ExactnessError: the test bench found a difference there.
        ToolMissing: a report is not what the tool writes.
    """
    folder, config = open_project(path)
    sources = sources_of(folder)
    for name, digest in sources.items():
        if not name.startswith("tb_data/") and name not in _REWRITTEN:
            file = reports / name
            if not is_file_of(file, digest):
                raise UserError(f"{file}: not the file of {folder / 'hls'}: the reports are of another design")
    stages = [stage for stage in plan_stages(config, _all_stages(config)) if has_left(stage, reports)]
    stale = _other_data(reports, sources)
    if stale is not None:
        for stage in [stage for stage in stages if stage.name in BENCHED]:
            say(f"{stage.name}: not read, {reports / stale} is not this run's: simulate {folder / 'hls'} there again")
            stages.remove(stage)
    if not stages:
        raise UserError(f"{reports}: no report in it that is of this run (was the tool run there, on this test bench?)")
    failures: list[ExactnessError | ToolMissing] = []
    with folder.lock():
        record = load_record(folder, sources)
        for stage in stages:
            record["stages"].pop(stage.name, None)
            try:
                numbers = read_stage(stage, reports, None, config)
            except (ExactnessError, ToolMissing) as failure:
                failures.append(failure)
                continue
            data = bench_inputs(folder) if stage.name in BENCHED else {}
            record["stages"][stage.name] = {"key": key_of(stage.name, sources), "from": str(reports), **numbers, **data}
            say(f"{stage.name}: read from {reports}")
        store_record(folder, record)
    if failures:
        raise min(failures, key=lambda failure: isinstance(failure, ToolMissing))  # a difference weighs more
    return record


def _other_data(reports: Path, sources: dict[str, str]) -> str | None:
    """The first file of the test bench's data in `reports` that is not this run's."""
    data = {name: digest for name, digest in sources.items() if name.startswith("tb_data/")}
    same = (name for name, digest in data.items() if not is_file_of(reports / name, digest))
    return next(same, None)


def _all_stages(config: HardwareConfig) -> tuple[str, ...]:
    return ("synth", "vsynth") if config.backend == "Quartus" else STAGES
