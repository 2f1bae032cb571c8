"""What each stage of synthesis runs, for each backend: one call of one tool, in the project's folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hw.generate.hardware import HardwareConfig
from hw.tools.toolchain import IPP, VITIS_HLS, VITIS_RUN, VIVADO, VIVADO_HLS, Tool, find_tool, require_version
from qmodels.errors import ToolMissing, UserError

STAGES = ("csim", "synth", "cosim", "export", "vsynth")
#: Replay the test bench, so they depend on its data.
BENCHED = ("csim", "cosim")
#: hls4ml's vivado_synth.tcl with the top that VivadoAccelerator's wrapper has, and with timing: without a clock there
#: is no constraint.
_VSYNTH = """\
set tcldir [file dirname [info script]]
source [file join $tcldir project.tcl]

add_files ${project_name}_prj/solution1/syn/verilog
synth_design -top TOP -part $part
opt_design -retarget -propconst -sweep -bram_power_opt -shift_register_opt
report_utilization -file vivado_synth.rpt
create_clock -period $clock_period -name ap_clk [get_ports ap_clk]
report_timing_summary -file vivado_timing.rpt
"""
_OPTIONS = ("reset", *STAGES, "validation", "fifo_opt")


@dataclass(frozen=True)
class Stage:
    """One call of a tool."""

    name: str
    tools: tuple[Tool, ...]  # any of these, in order of preference
    arguments: Mapping[str, tuple[str, ...]]  # by the tool's command
    writes: Mapping[str, str] = field(default_factory=dict)  # files put into the folder before, by name
    then: str | None = None  # a program that the tool makes in the folder, to be run there
    reports: tuple[str, ...] = ()  # what it must leave, below the project's folder

    def tool(self) -> Tool:
        """The tool that is there, of a version that can do it.

        Raises:
            ToolMissing: there is none.
        """
        found = next((tool for tool in self.tools if find_tool(tool) is not None), self.tools[0])
        require_version(found)
        return found

    def command(self, tool: Tool, path: Path | str) -> list[str]:
        """What to run."""
        return [str(path), *self.arguments[tool.command]]


def plan_stages(config: HardwareConfig, wanted: Sequence[str]) -> list[Stage]:
    """The stages in order; C synthesis comes before what builds on it.

    Raises:
        UserError: the backend's tool has no such stage, or no such part.
        ToolMissing: we do not drive the backend's tool.
    """
    if config.backend == "Catapult":
        raise ToolMissing(
            "Catapult projects are not run from here; in the run's hls folder: "
            "catapult -product ultra -shell -f build_prj.tcl -eval 'set ::argv \"csim=1 synth=1 cosim=1 export=0\"'"
        )
    make = _quartus if config.backend == "Quartus" else _amd
    stages = {stage.name: stage for stage in make(config)}
    for name in wanted:
        if name not in stages:
            raise UserError(f"--{name}: the backend {config.backend} has none (allowed: --{', --'.join(stages)})")
    chosen = {*wanted, *({"synth"} if set(wanted) & {"cosim", "export", "vsynth"} else ())}
    return [stages[name] for name in STAGES if name in chosen]


def _amd(config: HardwareConfig) -> list[Stage]:
    name = config.project_name
    top = f"{name}_axi" if config.backend == "VivadoAccelerator" else name
    solution = f"{name}_prj/solution1"
    reports = {
        "csim": (),
        "synth": (f"{solution}/syn/report/{top}_csynth.xml",),
        "cosim": (f"{solution}/sim/report/{top}_cosim.rpt",),
        "export": (f"{solution}/impl/ip/component.xml",),
    }
    stages = [_hls_stage(stage, config.backend == "Vitis", left) for stage, left in reports.items()]
    call = ("-mode", "batch", "-nojournal", "-nolog", "-source", "vivado_synth.tcl")
    vsynth = Stage(
        "vsynth",
        (VIVADO,),
        {VIVADO.command: call},
        writes={"vivado_synth.tcl": _VSYNTH.replace("TOP", top)},
        reports=("vivado_synth.rpt", "vivado_timing.rpt"),
    )
    return [*stages, vsynth]


def _hls_stage(stage: str, is_vitis: bool, reports: tuple[str, ...]) -> Stage:
    """hls4ml's build script with only this stage: an unfinished one is then the only one to repeat."""
    chosen = {option: int(option == stage) for option in _OPTIONS}
    if is_vitis:
        lines = "".join(f"    {option:10} {value}\n" for option, value in chosen.items())
        calls = {
            VITIS_RUN.command: ("--mode", "hls", "--tcl", "build_prj.tcl"),
            VITIS_HLS.command: ("-f", "build_prj.tcl"),
        }
        options = {"build_opt.tcl": "array set opt {\n" + lines + "}\n"}
        return Stage(stage, (VITIS_RUN, VITIS_HLS), calls, options, reports=reports)
    told = " ".join(f"{option}={value}" for option, value in chosen.items())
    return Stage(stage, (VIVADO_HLS,), {VIVADO_HLS.command: ("-f", "build_prj.tcl", told)}, reports=reports)


def _quartus(config: HardwareConfig) -> list[Stage]:
    """i++ makes a program that simulates the RTL; hls4ml's Makefile calls it."""
    target = f"{config.project_name}-fpga"
    sources = (f"{config.project_name}_test.cpp", f"firmware/{config.project_name}.cpp")
    report = f"{target}.prj/reports/lib/report_data.js"
    if config.part.lower().startswith("xc"):
        raise UserError(
            f"hardware.part: {config.part} is AMD's, not one of i++; leave it out for Arria10, or set another"
        )
    x86 = f"{config.project_name}-x86"
    call = (f"-march={config.part}", *sources, "-o", target)
    return [
        Stage("csim", (IPP,), {IPP.command: ("-march=x86-64", *sources, "-o", x86)}, then=x86),
        Stage("synth", (IPP,), {IPP.command: call}, reports=(report,)),
        Stage(
            "vsynth",
            (IPP,),
            {IPP.command: (*call, "--quartus-compile")},
            reports=(f"{target}.prj/reports/lib/quartus_data.js",),
        ),
    ]


def by_hand(stages: Sequence[Stage], folder: Path) -> str:
    """How to run the stages on a machine that has the tools, as shell commands."""
    lines = [f"cd {shlex.quote(folder.name)}"]
    for stage in stages:
        tool = stage.tools[0]
        for name, text in stage.writes.items():
            lines.append(f"printf %s {shlex.quote(text)} > {name}")
        lines.append(shlex.join(stage.command(tool, tool.command)))
        lines += [f"./{stage.then}"] if stage.then else []
    return "\n".join(f"  {line}" for line in lines)
