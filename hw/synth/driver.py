"""`robust-hls synth RUN`: the stages one by one, each recorded in synthesis.json when it is finished.

The tools work in `RUN/synthesis`, a copy of the HLS project at a place that stays (they write absolute paths). What we
record holds finished stages only: a stopped one is run again, the others are not.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hw.experiment.folder import RunFolder
from hw.generate.hardware import HardwareConfig
from hw.synth.process import run_tool
from hw.synth.record import bench_inputs, key_of, load_record, open_project, sources_of, store_record
from hw.synth.reports import read_stage, verdict
from hw.synth.stages import BENCHED, Stage, by_hand, plan_stages
from hw.tools.toolchain import require_tool, tool_version
from qmodels.errors import ToolMissing

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
    folder, config = open_project(path)
    stages = plan_stages(config, wanted)
    sources = sources_of(folder)
    _require_tools(_todo(folder, stages, load_record(folder, sources), sources), folder)  # before anything is written
    with folder.lock():
        record = load_record(folder, sources)
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
            store_record(folder, record)  # an earlier figure must not outlive a failure
            record["stages"][stage.name] = _run(folder, stage, config, sources, say)
            store_record(folder, record)
    return record


def _todo(folder: RunFolder, stages: Sequence[Stage], record: dict[str, Any], sources: dict[str, str]) -> list[Stage]:
    return [stage for stage in stages if not _is_done(folder, record, stage, sources)]


def _is_done(folder: RunFolder, record: dict[str, Any], stage: Stage, sources: dict[str, str]) -> bool:
    entry = record["stages"].get(stage.name, {})
    left = all((folder / WORK / report).is_file() for report in stage.reports)
    return entry.get("key") == key_of(stage.name, sources) and left and (folder / WORK).is_dir()


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
    stamp = folder / WORK / ".project"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != record["project_digest"]:
        record["stages"] = {name: entry for name, entry in record["stages"].items() if "from" in entry}
        with folder.replacing(WORK) as fresh:
            shutil.copytree(folder / "hls", fresh, dirs_exist_ok=True)
            (fresh / ".project").write_text(record["project_digest"])
        return
    with folder.replacing(f"{WORK}/tb_data") as fresh:
        shutil.copytree(folder / "hls" / "tb_data", fresh, dirs_exist_ok=True)


def _run(folder: RunFolder, stage: Stage, config: HardwareConfig, sources: dict[str, str], say: Say) -> dict[str, Any]:
    work, log = folder / WORK, folder / WORK / f"{stage.name}.log"
    made = folder.made()
    made.begin(WORK)
    for name in stage.reports:  # of an earlier, unfinished call
        (work / name).unlink(missing_ok=True)
    for name, text in stage.writes.items():
        (work / name).write_text(text, encoding="utf-8")
    tool = stage.tool()
    try:
        seconds = run_tool(stage.command(tool, require_tool(tool)), work, log, say)
        if stage.then:
            log.replace(log.with_suffix(".build.log"))
            seconds += run_tool([str(work / stage.then)], work, log, say)
    except ToolMissing:
        _tell_difference(log)
        raise
    finally:
        made.end(WORK)
    numbers = read_stage(stage, work, log, config)
    data = bench_inputs(folder) if stage.name in BENCHED else {}
    return {
        "key": key_of(stage.name, sources),
        "tool": tool_version(tool),
        "seconds": round(seconds, 1),
        **numbers,
        **data,
    }


def _tell_difference(log: Path) -> None:
    """A test bench that fails ends the tool with an error; the difference is what is to be told."""
    with contextlib.suppress(OSError):
        text = log.read_text(errors="replace")
        if re.search(r"^FAIL: ", text, re.MULTILINE):
            verdict(text, log.stem)
