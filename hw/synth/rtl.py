"""`robust-hls rtl RUN`: Verilog of a run's accelerator, simulated and synthesized with open tools, a step at a time.

Finished steps are recorded in rtl.json. The Verilog in `RUN/rtl` is simulated and synthesized as it lies there: a bit
that was changed in it is found by the gate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from hw.experiment.config import RunConfig
from hw.experiment.folder import RunFolder
from hw.experiment.open import open_run
from hw.experiment.run import Run
from hw.rtl import Rtl
from hw.rtl.synthesis import family_of
from hw.rtl.verilog import Design
from hw.simulate.exactness import Known, require_exact
from hw.synth.record import open_project
from hw.synth.rtl_inputs import gate_inputs
from hw.synth.rtl_record import PROVES, RTL_FOLDER, RTL_RECORD, cost_with_rtl, load_rtl, project_digest, verilog_digest
from hw.tools.toolchain import GXX, VERILATOR, YOSYS, require_tool, require_version
from qmodels.digest import digest_of, file_digest
from qmodels.errors import ExactnessError, UserError
from qmodels.grid import Codes
from qmodels.storage import read_json, write_json

RTL_STEPS = ("generate", "simulate", "synthesize")
Say = Callable[[str], None]
Record = dict[str, Any]


def make_rtl(
    path: Path, wanted: Sequence[str], say: Say, *, settings: Record | None = None, force: bool = False
) -> Record:
    """Run the wanted steps that are not done yet; the whole record.

    Args:
        path: a run's folder.
        wanted: of `RTL_STEPS`; the Verilog is made where another one needs it.
        say: told one line per step.
        settings: of the config's `rtl` section, by dotted keys.
        force: go on with a network that is too large for Verilator and Yosys.

    Raises:
        UserError: no run with an HLS project, a layer without RTL (it names it), or a network that is too large.
        ToolMissing: a tool is missing (with the pip line), or failed.
        ExactnessError: one bit differs.
    """
    open_project(path)
    wrong = [key for key in settings or {} if not key.startswith("rtl.")]
    if wrong:
        raise UserError(
            f"--set {wrong[0]}: this command takes keys of the section rtl, such as rtl.latency_cutoff_ns=3"
        )
    run = open_run(path, settings)
    digest = project_digest(run.folder)
    _require_tools(wanted, run.config)
    steps = [step for step in RTL_STEPS if step == "generate" or step in wanted]
    if force:
        limits = run.config.rtl.model_copy(update={"max_adders": sys.maxsize})
        run.config = run.config.model_copy(update={"rtl": limits})
    maker = _Maker(run, digest, say)
    say(f"{path}: about {maker.rtl.adders:,} adders when unrolled ({PROVES})")
    if set(steps) != {"generate"}:
        maker.rtl.check_size()
    with run.folder.lock():
        maker.record = load_rtl(run.folder, digest)
        for number, step in enumerate(steps, start=1):
            maker.do(step, f"[{number}/{len(steps)}] {step}")
        _into_results(run.folder, maker.record)
    return maker.record


def _into_results(folder: RunFolder, record: Record) -> None:
    """The record as `rtl` in results.json, and its counts beside the estimates of `cost`, where that file is there."""
    path = folder / "results.json"
    if folder.outputs("evaluate").get(path.name) != (file_digest(path) if path.is_file() else ""):
        return  # not finished, or edited: `robust-hls report` reads the record itself
    results = read_json(path)
    cost = cost_with_rtl(results.get("cost"), record)
    if (results.get("rtl"), results.get("cost")) != (record, cost):
        folder.amend("evaluate", path.name, results | {"rtl": record, "cost": cost})


def _require_tools(wanted: Sequence[str], config: RunConfig) -> None:
    """Before anything is written."""
    if "simulate" in wanted:
        require_version(VERILATOR)
        require_tool(GXX)
    if "synthesize" in wanted:
        require_tool(YOSYS)
        family_of(config.hardware.part)


class _Maker:
    """The steps of one run's RTL, and what they share."""

    def __init__(self, run: Run, digest: str, say: Say) -> None:
        self.run, self.say = run, say
        self.record: Record = {"project_digest": digest, "steps": {}}
        self.rtl: Rtl = run.accelerator.rtl(run.config.rtl)
        self.actions: dict[str, Callable[[], Record]] = {
            "generate": self.generate,
            "simulate": self.simulate,
            "synthesize": self.synthesize,
        }
        self._inputs: tuple[Codes, int] | None = None

    def do(self, step: str, title: str) -> None:
        """Run one step, unless it is done."""
        key, folder = self._key(step), self.run.folder
        there = (folder / RTL_FOLDER / "design.json").is_file()
        if self.record["steps"].get(step, {}).get("key") == key and there:
            self.say(f"{title}: done before, nothing changed")
            return
        self.say(title)
        for stale in RTL_STEPS if step == "generate" else (step,):
            self.record["steps"].pop(stale, None)
        write_json(folder / RTL_RECORD, self.record)  # an earlier figure must not outlive a failure
        seen = verilog_digest(folder)
        started = perf_counter()
        found = self.actions[step]()
        entry = {"key": key, "seconds": round(perf_counter() - started, 1), **found}
        self.record["steps"][step] = entry if step == "generate" else {**entry, "verilog": seen}
        write_json(folder / RTL_RECORD, self.record)

    def _key(self, step: str) -> str:
        """The digest of all that a step's result depends on."""
        config, folder = self.run.config, self.run.folder
        stage = config.rtl.latency_cutoff_ns or config.hardware.clock_period_ns
        parts: list[Any] = [step, self.record["project_digest"], stage]
        if step != "generate":
            parts.append(verilog_digest(folder))
        if step != "synthesize":
            parts += [config.rtl.inputs, config.seed, folder.outputs("attack"), self.run.data.digest]
        else:
            parts.append(config.hardware.part)
        return digest_of(parts)

    @property
    def inputs(self) -> tuple[Codes, int]:
        """What the gates see."""
        if self._inputs is None:
            self._inputs = gate_inputs(self.run)
        return self._inputs

    def generate(self) -> Record:
        """The Verilog, and alkaid's interpreter held against bitsim."""
        x, adversarial = self.inputs
        bitsim = self.run.accelerator.bitsim
        checked = require_exact(bitsim, self.rtl.interpreted, x)
        design = self.rtl.design
        with self.run.folder.replacing(RTL_FOLDER) as fresh:
            design.write(fresh)
        return {
            "operations": design.operations,
            "adders_estimated": self.rtl.adders,
            "alkaid_cost": round(design.alkaid_cost),
            "latency_cycles": design.latency,
            "register_bits": design.register_bits,
            "stage_ns": self.rtl.stage_ns,
            "digest": design.digest,
            "inputs": len(x),
            "adversarial_inputs": adversarial,
            "mismatched_outputs": checked.mismatched_outputs,
        }

    def simulate(self) -> Record:
        """The Verilog of the folder in Verilator, held against bitsim, and csim against both."""
        x, adversarial = self.inputs
        accelerator, rtl = self.run.accelerator, self.rtl
        rtl.use(Design.load(self.run.folder / RTL_FOLDER))
        _ = rtl.verilated  # compiled before the clock starts
        started = perf_counter()
        answers = Known(rtl.name, rtl.logits(x))
        seconds = perf_counter() - started
        expected = Known("bitsim", accelerator.bitsim.logits(x))
        against_csim = require_exact(accelerator.csim_for(len(x)), expected, x, formats=accelerator.formats)
        traces = (lambda codes: accelerator.trace(codes, "bitsim"), rtl.trace)
        try:
            found = require_exact(expected, answers, x, traces=traces, formats=accelerator.formats)
        except ExactnessError as error:
            raise ExactnessError(f"{error}{self._edited()}") from None
        return {
            "inputs": len(x),
            "adversarial_inputs": adversarial,
            "csim_inputs": len(x),
            "mismatched_outputs": found.mismatched_outputs + against_csim.mismatched_outputs,
            "inputs_per_second": round(len(x) / seconds),
        }

    def _edited(self) -> str:
        made = self.record["steps"].get("generate", {}).get("digest")
        if Design.load(self.run.folder / RTL_FOLDER).digest == made:
            return ""
        where = self.run.folder / RTL_FOLDER
        return f"\n{where}: changed since it was generated; make it again: remove {where}, then the same command"

    def synthesize(self) -> Record:
        """Gates, beside what we estimate for the vendor's project."""
        self.rtl.use(Design.load(self.run.folder / RTL_FOLDER))
        gates = {key: value for key, value in asdict(self.rtl.gates).items() if key != "netlist"}
        cost, counted = self.run.accelerator.cost, max(gates["luts"], 1)
        found = gates | {"luts_estimated": cost.total("luts_estimated"), "rtl_luts_estimated": cost.rtl_luts}
        for name in ("luts_estimated", "rtl_luts_estimated"):
            found[f"{name}_error"] = None if found[name] is None else round(found[name] / counted - 1, 4)
        return found
