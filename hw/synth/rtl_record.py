"""What is known of a run's RTL: `rtl.json`, its finished steps with the digests of what they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hw.experiment.folder import RunFolder
from hw.synth.record import sources_of
from qmodels.digest import digest_of, file_digest
from qmodels.errors import UserError

RTL_RECORD = "rtl.json"
#: In a run's folder: the Verilog.
RTL_FOLDER = "rtl"
PROVES = (
    "alkaid's RTL of the same arithmetic, unrolled and pipelined; it does not show what the vendor's compiler makes of "
    "the C++ project"
)


Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Step(BaseModel):
    """A finished step, as it must be to be told: somebody may have edited the file."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    key: str


class _Generated(_Step):
    operations: Count
    latency_cycles: Count
    inputs: Count
    mismatched_outputs: Count
    digest: str


class _OfVerilog(_Step):
    verilog: str  # digest of the folder that was simulated or synthesized


class _Simulated(_OfVerilog):
    inputs: Count
    adversarial_inputs: Count
    mismatched_outputs: Count
    inputs_per_second: Count


class _Synthesized(_OfVerilog):
    family: str
    luts: Count
    flip_flops: Count
    carries: Count
    dsps: Count
    brams: Count
    levels: Count
    luts_estimated: Count
    luts_estimated_error: float
    rtl_luts_estimated: Count | None
    rtl_luts_estimated_error: float | None


_SHAPES: dict[str, type[_Step]] = {"generate": _Generated, "simulate": _Simulated, "synthesize": _Synthesized}


def project_digest(folder: RunFolder) -> str:
    """Digest of the HLS project, which must be the generated one; its test bench's data do not count."""
    return digest_of({name: value for name, value in sources_of(folder).items() if not name.startswith("tb_data/")})


def verilog_digest(folder: RunFolder) -> str:
    """Digest of the run's Verilog as it lies there; empty without one."""
    path = folder / RTL_FOLDER
    return file_digest(path) if path.is_dir() else ""


def load_rtl(folder: RunFolder, digest: str) -> dict[str, Any]:
    """The record of this project, without steps that are damaged or of other Verilog; a new one for another project."""
    try:
        found = json.loads((folder / RTL_RECORD).read_text())
    except (OSError, ValueError):
        found = None
    if isinstance(found, dict) and found.get("project_digest") == digest and isinstance(found.get("steps"), dict):
        whole = {name: step for name, step in found["steps"].items() if name in _SHAPES and _is_whole(name, step)}
        now = verilog_digest(folder)
        steps = {name: step for name, step in whole.items() if step.get("verilog", now) == now}
        return {**found, "proves": PROVES, "steps": steps}
    return {"schema": 1, "project_digest": digest, "proves": PROVES, "steps": {}}


def _is_whole(name: str, step: Any) -> bool:
    try:
        _SHAPES[name].model_validate(step)
    except ValidationError:
        return False
    return True


def stored_rtl(path: Path) -> dict[str, Any] | None:
    """The record of a run whose HLS project is still that of the RTL; None where there is nothing to tell."""
    folder = RunFolder(path)
    if not (folder / RTL_RECORD).is_file():
        return None
    try:
        record = load_rtl(folder, project_digest(folder))
    except UserError:  # changed by hand or not finished: the RTL is that of another one
        return None
    return record if record["steps"] else None


def _own_estimate(made: dict[str, Any]) -> str:
    if made["rtl_luts_estimated"] is None:
        return ""
    return f", that for this RTL {made['rtl_luts_estimated']:,} LUT ({made['rtl_luts_estimated_error']:+.0%})"


def cost_with_rtl(cost: Any, record: dict[str, Any]) -> Any:
    """The cost of results.json with what Yosys counted beside the estimates."""
    made = record["steps"].get("synthesize")
    if made is None or not isinstance(cost, dict):
        return cost
    keys = ("luts", "flip_flops", "carries", "dsps", "brams", "levels")
    return {**{f"rtl_{key}": made.get(key) for key in keys}, **cost}


def rtl_text(record: dict[str, Any] | None) -> list[str]:
    """What the steps found, a sentence each; nothing without a record."""
    if record is None:
        return []
    lines: list[str] = []
    steps = record["steps"]
    if (made := steps.get("generate")) is not None:
        lines.append(
            f"RTL: {made['operations']:,} operations, {made['latency_cycles']} cycles, a new input every cycle; "
            f"{made['mismatched_outputs']} outputs of alkaid's interpreter differ from bitsim's on "
            f"{made['inputs']:,} inputs"
        )
    if (seen := steps.get("simulate")) is not None:
        lines.append(
            f"RTL in Verilator: {seen['mismatched_outputs']} outputs differ from bitsim's and csim's on "
            f"{seen['inputs']:,} inputs, {seen['adversarial_inputs']:,} of them adversarial; "
            f"{seen['inputs_per_second']:,} inputs a second"
        )
    if (made := steps.get("synthesize")) is not None:
        lines.append(
            f"RTL in Yosys ({made['family']}): {made['luts']:,} LUT, {made['flip_flops']:,} FF, "
            f"{made['carries']:,} CARRY, {made['dsps']:,} DSP, {made['brams']:,} BRAM, {made['levels']} levels; "
            f"the estimate for the vendor's project is {made['luts_estimated']:,} LUT "
            f"({made['luts_estimated_error']:+.0%}){_own_estimate(made)}"
        )
    return [*lines, f"RTL: this is {record['proves']}"] if lines else []
