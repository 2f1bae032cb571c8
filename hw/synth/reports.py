"""Vendor reports as plain numbers under self-describing keys.

hls4ml's own `parse_vivado_report` stops with an IndexError where a report is missing, prints, and keeps every number as
text; Quartus' reports are JavaScript, which hls4ml's parser reads well.
"""

from __future__ import annotations

import contextlib
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hw.generate.hardware import HardwareConfig
from hw.synth.stages import Stage
from qmodels.errors import ExactnessError, ToolMissing

Numbers = dict[str, Any]
_VERDICT = re.compile(r"^(PASS|FAIL): (\d+) of (\d+) outputs differ, in (\d+) of (\d+) inputs", re.MULTILINE)
#: What the test bench adds when inputs or predictions are missing, empty or cut.
_INCOMPLETE = re.compile(r"^FAIL: (?!\d+ of ).*$", re.MULTILINE)
_RESOURCES = {"LUT": "luts", "FF": "ffs", "DSP": "dsps", "DSP48E": "dsps", "BRAM_18K": "bram_18k", "URAM": "urams"}
_CYCLES = {
    "Best-caseLatency": "latency_cycles_min",
    "Worst-caseLatency": "latency_cycles_max",
    "Interval-min": "ii_cycles_min",
    "Interval-max": "ii_cycles_max",
}


def read_stage(stage: Stage, folder: Path, log: Path | None, config: HardwareConfig) -> Numbers:
    """What a finished stage tells.

    Args:
        stage: of `plan_stages`.
        folder: where the tool ran.
        log: what the tool said, with our test bench's verdict; None: reports from elsewhere.
        config: of the accelerator.

    Raises:
        ToolMissing: a report is missing, or is not what this tool writes.
        ExactnessError: the test bench found a difference.
    """
    for report in stage.reports:
        if not (folder / report).is_file():
            where = f"; what it said is in {log}" if log else ""
            raise ToolMissing(f"{stage.name}: {folder / report} is missing, so the tool did not finish{where}")
    if config.backend == "Quartus":
        return _READERS_QUARTUS[stage.name](stage, folder, log)
    return _READERS[stage.name](stage, folder, log)


def has_left(stage: Stage, folder: Path) -> bool:
    """Whether a stage was run in a folder: its reports are there, or the log that the tool itself writes."""
    return all((folder / name).is_file() for name in stage.reports) if stage.reports else bool(_csim_logs(folder))


def verdict(text: str, where: str) -> Numbers:
    """Our test bench's verdict in a tool's output; the last one, since cosimulation runs it twice.

    Raises:
        ExactnessError: outputs differ.
        ToolMissing: there is no verdict, or not all inputs were replayed.
    """
    incomplete = _INCOMPLETE.search(text)
    found = list(_VERDICT.finditer(text))
    if incomplete and not any(int(match[2]) for match in found):
        raise ToolMissing(f"{where}: the test bench was not replayed as a whole, nothing is shown: {incomplete[0]}")
    if not found:
        raise ToolMissing(f"{where}: no verdict of the test bench in what the tool said: it was not run to its end")
    result, different, outputs, inputs_different, inputs = found[-1].groups()
    if result == "FAIL":
        cases = re.findall(r"^MISMATCH .*$", text, re.MULTILINE)[:5]
        counts = f"{different} of {outputs} outputs, in {inputs_different} of {inputs} inputs"
        raise ExactnessError(
            f"{where}: differs from the QKeras model in {counts}:\n" + "\n".join(f"  {case}" for case in cases)
        )
    return {"inputs": int(inputs), "outputs_compared": int(outputs), "outputs_different": int(different)}


def read_csynth(path: Path) -> Numbers:
    """The HLS compiler's own estimates: `*_csynth.xml` of Vivado HLS and Vitis HLS."""
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ToolMissing(f"{path}: not a report of the HLS compiler ({error})") from None
    found: Numbers = {}
    for tag, key in _CYCLES.items():
        found[key] = _whole(root.findtext(f".//SummaryOfOverallLatency/{tag}"))
    found["clock_ns_target"] = _number(root.findtext(".//UserAssignments/TargetClockPeriod"))
    found["clock_ns_estimated"] = _number(root.findtext(".//SummaryOfTimingAnalysis/EstimatedClockPeriod"))
    for tag, key in _RESOURCES.items():
        for place, name in (("Resources", key), ("AvailableResources", f"{key}_available")):
            text = root.findtext(f".//AreaEstimates/{place}/{tag}")
            if text is not None:
                found[name] = _whole(text)
    if found.get("luts") is None:
        raise ToolMissing(f"{path}: has no AreaEstimates/Resources/LUT: not a report of the HLS compiler")
    return found


def read_cosim(path: Path) -> Numbers:
    """The table of `*_cosim.rpt`: status, latency and interval in cycles, measured in the RTL simulation."""
    for line in path.read_text(errors="replace").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] in ("VHDL", "Verilog") and len(cells) >= 8 and cells[1] != "NA":
            keys = [f"{what}_cycles_{which}" for what in ("latency", "ii") for which in ("min", "avg", "max")]
            numbers = {key: _number(cell) for key, cell in zip(keys, cells[2:8], strict=True)}
            return {"rtl": cells[0], "status": cells[1], **numbers}
    raise ToolMissing(f"{path}: has no row of a simulated RTL: cosimulation did not finish")


def read_utilization(path: Path) -> Numbers:
    """Vivado's `report_utilization` after synthesis. Block RAM is counted in halves of a 36-kilobit tile."""
    rows: dict[str, float | None] = {}
    for line in path.read_text(errors="replace").splitlines():
        cells = [cell.strip().rstrip("*") for cell in line.strip().strip("|").split("|")]
        if line.lstrip().startswith("|") and len(cells) >= 2:
            rows.setdefault(cells[0], _number(cells[1]))
    names = {
        "luts": ("CLB LUTs", "Slice LUTs"),
        "ffs": ("CLB Registers", "Slice Registers"),
        "dsps": ("DSPs",),
        "urams": ("URAM",),
    }
    found: Numbers = {}
    for key, labels in names.items():
        value = next((rows[label] for label in labels if rows.get(label) is not None), None)
        if value is not None:
            found[key] = int(value)
    tiles = rows.get("Block RAM Tile")
    if tiles is not None:
        found["bram_18k"] = round(2 * tiles)
    if "luts" not in found:
        raise ToolMissing(f"{path}: has no row of LUTs: not Vivado's utilization report")
    return found


def read_timing(path: Path) -> Numbers:
    """Vivado's `report_timing_summary`: slacks in ns; after synthesis, so before routing."""
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines):
        if "WNS(ns)" in line and "TNS(ns)" in line:
            heads = re.split(r"\s{2,}", line.strip())
            cells = lines[number + 2].split() if number + 2 < len(lines) else []
            values = dict(zip(heads, cells, strict=False))
            keys = {"WNS(ns)": "wns_ns", "TNS(ns)": "tns_ns", "WHS(ns)": "whs_ns", "THS(ns)": "ths_ns"}
            return {key: _number(values.get(head)) for head, key in keys.items()}
    raise ToolMissing(f"{path}: has no Design Timing Summary: not Vivado's timing report")


def _csim_logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*_prj/solution1/csim/report/*_csim.log"))


def _csim(stage: Stage, folder: Path, log: Path | None) -> Numbers:
    if log is None:
        log = _csim_logs(folder)[0]
    return verdict(log.read_text(errors="replace"), "C simulation")


def _cosim(stage: Stage, folder: Path, log: Path | None) -> Numbers:
    numbers = read_cosim(folder / stage.reports[0])
    checked = verdict(log.read_text(errors="replace"), "RTL cosimulation") if log else {}
    if numbers["status"].lower() != "pass":
        raise ExactnessError(f"RTL cosimulation: the tool says {numbers['status']!r} ({folder / stage.reports[0]})")
    return numbers | checked


def _vsynth(stage: Stage, folder: Path, log: Path | None) -> Numbers:
    utilization, timing = stage.reports
    return read_utilization(folder / utilization) | read_timing(folder / timing)


def _nothing(stage: Stage, folder: Path, log: Path | None) -> Numbers:
    return {}


def _quartus(stage: Stage, folder: Path, log: Path | None) -> Numbers:
    if find_spec("calmjs") is None:  # hls4ml's parser needs it
        raise ToolMissing("reading Quartus' reports needs calmjs.parse: pip install 'hls4ml[quartus-report]'")
    from hls4ml.report.quartus_report import parse_quartus_report

    with contextlib.redirect_stdout(io.StringIO()):
        found: Numbers = parse_quartus_report(str(folder), write_to_file=False)
    return {str(key): value for key, value in found.items()}


Reader = Callable[[Stage, Path, "Path | None"], Numbers]
_READERS: dict[str, Reader] = {
    "csim": _csim,
    "synth": lambda stage, folder, log: read_csynth(folder / stage.reports[0]),
    "cosim": _cosim,
    "export": _nothing,
    "vsynth": _vsynth,
}
_READERS_QUARTUS: dict[str, Reader] = {"csim": _csim, "synth": _quartus, "vsynth": _quartus}


def _number(text: str | None) -> float | None:
    """A number, or None for `undef`, `x`, `?` and the like."""
    try:
        return float(text.split()[0]) if text and text.split() else None
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)
