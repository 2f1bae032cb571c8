"""`robust-hls synth RUN`: the stages one by one, each recorded when it is finished; results go into results.json.

The tools work in `RUN/synthesis`, a copy of the HLS project at a place that stays (they write absolute paths). What we
record holds finished stages only: a stopped one is run again, the others are not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hw.flow.config import load_config
from hw.flow.folder import RunFolder
from hw.hardware import HardwareConfig
from hw.synth.process import run_tool
from hw.synth.reports import read_stage
from hw.synth.stages import BENCHED, STAGES, Stage, by_hand, plan_stages
from hw.toolchain import require_tool, tool_version
from qmodels.errors import ExactnessError, ToolMissing, UserError
from qmodels.storage import atomic_folder, digest_of, file_digest, write_json

RECORD = "synthesis.json"
WORK = "synthesis"
Say = Callable[[str], None]


def synthesize(path: Path, wanted: Sequence[str], say: Say) -> dict[str, Any]:
    """Run the wanted stages that are not done yet; the whole record.

    Args:
        path: a run's folder.
        wanted: of `STAGES`; C synthesis is added where another one needs it.
        say: told one line per stage, and the tool's telling lines.

    Raises:
        UserError: no run with an HLS project, or one whose files were changed.
        ToolMissing: a tool is missing, too old, or failed; says how to run the stages elsewhere.
        ExactnessError: the test bench found a difference.
    """
    folder, config = _open(path)
    stages = plan_stages(config, wanted)
    sources = _sources(folder)
    _require_tools(_todo(folder, stages, _load(folder, sources), sources), folder)  # before anything is written
    with folder.lock():
        record = _load(folder, sources)
        todo = _todo(folder, stages, record, sources)
        if todo:
            _prepare(folder, record, sources)
        for number, stage in enumerate(stages, start=1):
            if stage not in todo:
                say(f"[{number}/{len(stages)}] {stage.name}: done before, nothing changed")
                continue
            tool = stage.tool()
            say(f"[{number}/{len(stages)}] {stage.name} ({tool_version(tool) or tool.command})")
            record["stages"].pop(stage.name, None)
            record["stages"][stage.name] = _run(folder, stage, config, sources, say)
            _store(folder, record)
    return record


def import_reports(path: Path, reports: Path, say: Say) -> dict[str, Any]:
    """Read the reports of an HLS folder that was synthesized elsewhere; every stage that left its reports.

    Raises:
        UserError: its sources are not this run's, or it has no report.
    """
    folder, config = _open(path)
    sources = _sources(folder)
    for name, digest in sources.items():
        if not name.startswith("tb_data/") and name not in _REWRITTEN:
            file = reports / name
            if not file.is_file() or file_digest(file) != digest:
                raise UserError(f"{file}: not the file of {folder / 'hls'}: the reports are of another design")
    with folder.lock():
        record = _load(folder, sources)
        found = False
        for stage in plan_stages(config, _all_stages(config)):
            if not stage.reports or not all((reports / name).is_file() for name in stage.reports):
                continue
            numbers = read_stage(stage, reports, None, config)
            record["stages"][stage.name] = {"key": None, "from": str(reports), **numbers}
            say(f"{stage.name}: read from {reports}")
            found = True
        if not found:
            raise UserError(f"{reports}: no report of any stage in it (was the tool run there?)")
        _store(folder, record)
    return record


def stored_synthesis(folder: Path) -> dict[str, Any]:
    """`{"synthesis": ...}` of a run whose HLS project is still the synthesized one, else empty."""
    run = RunFolder(folder)
    record = _read(run)
    return {"synthesis": record} if record and record.get("project_digest") == _digest(_sources(run), False) else {}


#: Scripts that a stage writes or adds to.
_REWRITTEN = ("build_opt.tcl", "vivado_synth.tcl")


def _all_stages(config: HardwareConfig) -> tuple[str, ...]:
    return ("synth", "vsynth") if config.backend == "Quartus" else STAGES


def _open(path: Path) -> tuple[RunFolder, HardwareConfig]:
    if not (path / "config.yaml").is_file():
        raise UserError(f"{path}: no run in this folder (config.yaml is missing)")
    if not (path / "hls").is_dir():
        raise UserError(f"{path / 'hls'}: no HLS project yet; make it: robust-hls generate {path}")
    return RunFolder(path), load_config(path / "config.yaml").hardware


def _sources(folder: RunFolder) -> dict[str, str]:
    """Digests of the HLS project's files as they are, by name; they must be those that were generated."""
    made = folder.outputs("project") | folder.outputs("testbench")
    known = {name.removeprefix("hls/"): digest for name, digest in made.items() if name.startswith("hls/")}
    for name, digest in known.items():
        file = folder / "hls" / name
        if not file.is_file() or file_digest(file) != digest:
            raise UserError(f"{file}: changed since it was generated; make it anew: robust-hls run {folder.path}")
    if not known:
        raise UserError(f"{folder / 'hls'}: its step is not finished; robust-hls generate {folder.path}")
    return known


def _digest(sources: dict[str, str], with_data: bool) -> str:
    return digest_of({name: value for name, value in sources.items() if with_data or not name.startswith("tb_data/")})


def _read(folder: RunFolder) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("stages"), dict) else {}


def _load(folder: RunFolder, sources: dict[str, str]) -> dict[str, Any]:
    """The record of this project; a new one when the project is another."""
    record, digest = _read(folder), _digest(sources, False)
    if record.get("project_digest") == digest:
        return record
    return {"schema": 1, "project_digest": digest, "stages": {}}


def _key(stage: Stage, sources: dict[str, str]) -> str:
    return digest_of([stage.name, _digest(sources, stage.name in BENCHED)])


def _todo(folder: RunFolder, stages: Sequence[Stage], record: dict[str, Any], sources: dict[str, str]) -> list[Stage]:
    return [stage for stage in stages if not _is_done(folder, record, stage, sources)]


def _is_done(folder: RunFolder, record: dict[str, Any], stage: Stage, sources: dict[str, str]) -> bool:
    entry = record["stages"].get(stage.name, {})
    left = all((folder / WORK / report).is_file() for report in stage.reports)
    return entry.get("key") == _key(stage, sources) and left and (folder / WORK).is_dir()


def _require_tools(stages: Sequence[Stage], folder: RunFolder) -> None:
    try:
        for stage in stages:
            stage.tool()
    except ToolMissing as missing:
        hls = folder / "hls"
        raise ToolMissing(
            f"{missing}\nTo run it elsewhere, copy {hls} to a machine that has the tools, and there:\n"
            f"{by_hand(stages, hls)}\nthen bring the folder back: robust-hls synth {folder.path} --reports FOLDER"
        ) from None


def _prepare(folder: RunFolder, record: dict[str, Any], sources: dict[str, str]) -> None:
    """A work folder of this project; with the test bench's data of today."""
    work, stamp = folder / WORK, folder / WORK / ".project"
    if not stamp.is_file() or stamp.read_text() != record["project_digest"]:
        record["stages"].clear()
        with atomic_folder(work) as fresh:
            shutil.copytree(folder / "hls", fresh, dirs_exist_ok=True)
            (fresh / ".project").write_text(record["project_digest"])
        return
    with atomic_folder(work / "tb_data") as fresh:
        shutil.copytree(folder / "hls" / "tb_data", fresh, dirs_exist_ok=True)


def _run(folder: RunFolder, stage: Stage, config: HardwareConfig, sources: dict[str, str], say: Say) -> dict[str, Any]:
    work, log = folder / WORK, folder / WORK / f"{stage.name}.log"
    for name in stage.reports:  # of an earlier, unfinished call
        (work / name).unlink(missing_ok=True)
    for name, text in stage.writes.items():
        (work / name).write_text(text)
    for name, text in stage.appends.items():
        (work / name).write_text((folder / "hls" / name).read_text() + text)
    tool = stage.tool()
    try:
        seconds = run_tool(stage.command(tool, require_tool(tool)), work, log, say)
    except ToolMissing:
        _tell_difference(log)
        raise
    numbers = read_stage(stage, work, log, config)
    data = _bench_inputs(folder) if stage.name in BENCHED else {}
    return {
        "key": _key(stage, sources),
        "tool": tool_version(tool),
        "seconds": round(seconds, 1),
        **numbers,
        **data,
    }


def _tell_difference(log: Path) -> None:
    """A test bench that fails ends the tool with an error; the difference is what is to be told."""
    from hw.synth.reports import verdict

    try:
        verdict(log.read_text(errors="replace"), log.stem)
    except ExactnessError:
        raise
    except (ToolMissing, OSError):
        return


def _bench_inputs(folder: RunFolder) -> dict[str, int]:
    """How many of the replayed inputs are adversarial."""
    try:
        lines = json.loads((folder / "hls" / "tb_data" / "tb_index.json").read_text())["lines"]
        return {"adversarial_inputs": sum(line["kind"] == "adversarial" for line in lines)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _store(folder: RunFolder, record: dict[str, Any]) -> None:
    """The record, and the same under `synthesis` in results.json when there is one."""
    write_json(folder / RECORD, record)
    results = folder / "results.json"
    if results.is_file():
        content = json.loads(results.read_text())
        write_json(results, content | {"synthesis": record})
        folder.remark("evaluate", "results.json")
