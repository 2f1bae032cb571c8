"""The vendors' tools, driven: what they are called with, what is kept when they fail or are stopped, what they tell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Cli

from hw.experiment.config import RunConfig, dump_config
from hw.experiment.folder import RunFolder
from hw.generate.hardware import HardwareConfig
from hw.report import load_run
from hw.synth import import_reports, synthesize
from hw.synth.stages import plan_stages
from qmodels.errors import ExactnessError, ToolMissing, UserError

DATA = Path(__file__).parents[1] / "data"
RESULTS = '{"schema": 1, "run": "r", "rows": []}'
VITIS = ("vitis_hls", "2023.2")
VIVADO = ("vivado", "v2023.2")
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts stand-ins for vendor tools on PATH, and hides real ones; returns the log of their calls."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")

    def installed(*tools: tuple[str, str], mode: str = "") -> Path:
        source = (DATA / "vendor_tool.py").read_text()
        for name, version in tools:
            text = source.replace("FAKE_MODE", mode, 2).replace('"FAKE_LOG"', repr(str(tmp_path / "calls.log")))
            text = text.replace('"FAKE_REPORTS"', repr(str(DATA / "reports"))).replace('"FAKE_VERSION"', repr(version))
            (place / name).write_text(f"#!{sys.executable} -IS\n{text}")
            (place / name).chmod(0o755)
        return tmp_path / "calls.log"

    return installed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose HLS project is there: as small as the driver's view of it allows."""
    return make_run(tmp_path / "run")


def make_run(path: Path, **hardware: Any) -> Path:
    files = {
        "build_prj.tcl": "source build_opt.tcl\n",
        "build_opt.tcl": "array set opt {\n    csim 1\n}\n",
        "vivado_synth.tcl": "report_utilization -file vivado_synth.rpt\n",
        "firmware/accelerator.cpp": "int x;\n",
    }
    data = {"tb_data/tb_index.json": json.dumps({"lines": [{"kind": "clean"}] * 2 + [{"kind": "adversarial"}] * 4})}
    for name, text in (files | data).items():
        (path / "hls" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "hls" / name).write_text(text)
    (path / "config.yaml").write_text(dump_config(RunConfig(hardware=HardwareConfig(**hardware))))
    folder = RunFolder(path)
    folder.mark_done("project", "key", tuple(f"hls/{name}" for name in files), 1.0)
    folder.mark_done("testbench", "key", tuple(f"hls/{name}" for name in data), 1.0)
    return path


def calls(log: Path) -> list[tuple[str, str]]:
    return [tuple(json.loads(line)[:2]) for line in log.read_text().splitlines()] if log.exists() else []


def results(run: Path) -> dict[str, Any]:
    """The stages that a report tells of."""
    found: dict[str, Any] = load_run(run).results.plain["synthesis"]["stages"]
    return found


def test_every_stage_is_one_call_and_the_report_tells_what_it_left(run: Path, install: Install) -> None:
    log = install(VITIS, VIVADO)
    (run / "results.json").write_text(RESULTS)
    RunFolder(run).mark_done("evaluate", "key", ("results.json",), 1.0)
    said: list[str] = []
    synthesize(run, ["csim", "cosim", "export", "vsynth"], said.append)
    assert calls(log) == [*(("vitis_hls", name) for name in ("csim", "synth", "cosim", "export")), ("vivado", "vsynth")]
    arguments = [json.loads(line)[2:] for line in log.read_text().splitlines()]
    assert arguments[0] == [["-f", "build_prj.tcl"], str(run / "synthesis")]
    assert arguments[4][0] == ["-mode", "batch", "-nojournal", "-nolog", "-source", "vivado_synth.tcl"]
    stages = results(run)
    assert {key: stages["synth"][key] for key in ("luts", "dsps", "ffs", "bram_18k", "luts_available")} == {
        "luts": 18234,
        "dsps": 3,
        "ffs": 4521,
        "bram_18k": 12,
        "luts_available": 1728000,
    }
    assert (stages["synth"]["latency_cycles_max"], stages["synth"]["ii_cycles_max"]) == (79, 66)
    assert (stages["synth"]["clock_ns_target"], stages["synth"]["clock_ns_estimated"]) == (5.0, 3.614)
    assert (stages["vsynth"]["luts"], stages["vsynth"]["bram_18k"], stages["vsynth"]["wns_ns"]) == (9127, 7, 1.274)
    assert stages["vsynth"]["whs_ns"] == -0.031
    assert (stages["cosim"]["status"], stages["cosim"]["ii_cycles_avg"]) == ("Pass", 65)
    assert (stages["cosim"]["inputs"], stages["cosim"]["adversarial_inputs"]) == (6, 4)
    assert (run / "results.json").read_text() == RESULTS
    assert RunFolder(run).is_done("evaluate", "key")
    assert "  ***** COSIM *****" in said and not [line for line in said if "nobody needs" in line]
    assert "nobody needs" in (run / "synthesis" / "cosim.log").read_text()
    assert "report_timing_summary" in (run / "synthesis" / "vivado_synth.tcl").read_text()
    assert "report_timing_summary" not in (run / "hls" / "vivado_synth.tcl").read_text()


def test_what_is_done_is_not_run_again(run: Path, install: Install) -> None:
    log = install(VITIS)
    synthesize(run, ["csim", "synth"], lambda line: None)
    said: list[str] = []
    synthesize(run, ["csim", "synth", "export"], said.append)
    assert calls(log)[2:] == [("vitis_hls", "export")]
    assert said[0] == "[1/3] csim: done before, nothing changed"


def test_other_inputs_repeat_the_simulations_and_another_project_everything(run: Path, install: Install) -> None:
    log = install(VITIS)
    synthesize(run, ["csim", "synth"], lambda line: None)
    (run / "hls" / "tb_data" / "tb_index.json").write_text('{"lines": []}')
    RunFolder(run).mark_done("testbench", "key", ("hls/tb_data/tb_index.json",), 1.0)
    synthesize(run, ["csim", "synth"], lambda line: None)
    assert calls(log)[2:] == [("vitis_hls", "csim")]
    assert (run / "synthesis" / "tb_data" / "tb_index.json").read_text() == '{"lines": []}'
    make_run(run, clock_period_ns=4.0)
    (run / "hls" / "firmware" / "accelerator.cpp").write_text("int y;\n")
    names = [f"hls/{path.relative_to(run / 'hls')}" for path in (run / "hls").rglob("*.*") if path.is_file()]
    RunFolder(run).mark_done("project", "other", tuple(name for name in names if "tb_data" not in name), 1.0)
    synthesize(run, ["synth"], lambda line: None)
    assert calls(log)[3:] == [("vitis_hls", "synth")]
    assert (run / "synthesis" / "firmware" / "accelerator.cpp").read_text() == "int y;\n"
    assert list(json.loads((run / "synthesis.json").read_text())["stages"]) == ["synth"]


def test_a_newer_vitis_is_called_its_way(run: Path, install: Install) -> None:
    log = install(("vitis-run", "v2024.2"), VITIS)
    synthesize(run, ["csim"], lambda line: None)
    assert json.loads(log.read_text())[:3] == ["vitis-run", "csim", ["--mode", "hls", "--tcl", "build_prj.tcl"]]


def test_vivado_hls_takes_its_options_as_an_argument(tmp_path: Path, install: Install) -> None:
    log = install(("vivado_hls", "v2020.1"))
    run = make_run(tmp_path / "vivado", backend="Vivado")
    (run / "hls" / "build_opt.tcl").unlink()
    RunFolder(run).mark_done("project", "key", ("hls/build_prj.tcl", "hls/vivado_synth.tcl"), 1.0)
    synthesize(run, ["synth"], lambda line: None)
    told = "reset=0 csim=0 synth=1 cosim=0 export=0 vsynth=0 validation=0 fifo_opt=0"
    assert json.loads(log.read_text())[2] == ["-f", "build_prj.tcl", told]


@pytest.mark.parametrize(
    ("mode", "error", "said"),
    [
        ("crash synth", ToolMissing, r"vitis_hls ended with status 9.*synth.log\n  ERROR: \[HLS 200-70\] no licence"),
        ("silent synth", ToolMissing, r"accelerator_csynth.xml is missing, so the tool did not finish; .*synth.log"),
        (
            "differ csim",
            ExactnessError,
            r"csim: differs .* in 1 of 60 outputs.*\n  MISMATCH line 3, output 1: expected",
        ),
        ("differ cosim", ExactnessError, r"cosim: differs .* in 1 of 6 inputs"),
        (
            "cut csim",
            ToolMissing,
            r"csim: the test bench was not replayed as a whole.*FAIL: 640 outputs wanted",
        ),
    ],
)
def test_a_failure_is_told_and_only_finished_stages_are_kept(
    run: Path, install: Install, mode: str, error: type[Exception], said: str
) -> None:
    install(VITIS, mode=mode)
    with pytest.raises(error, match=f"(?s){said}"):
        synthesize(run, ["csim", "synth", "cosim"], lambda line: None)
    record = run / "synthesis.json"
    kept = list(json.loads(record.read_text())["stages"]) if record.exists() else []
    assert kept == ["csim", "synth", "cosim"][: ["csim", "synth", "cosim"].index(mode.split()[1])]
    log = install(VITIS)
    log.unlink()
    synthesize(run, ["csim", "synth", "cosim"], lambda line: None)
    assert [name for _, name in calls(log)] == ["csim", "synth", "cosim"][len(kept) :]


def new_bench(run: Path, text: str = '{"lines": []}') -> None:
    (run / "hls" / "tb_data" / "tb_index.json").write_text(text)
    RunFolder(run).mark_done("testbench", "key", ("hls/tb_data/tb_index.json",), 1.0)


def test_an_earlier_pass_does_not_outlive_a_failure_or_its_inputs(run: Path, install: Install) -> None:
    install(VITIS)
    (run / "results.json").write_text(RESULTS)
    synthesize(run, ["csim", "synth", "cosim"], lambda line: None)
    new_bench(run)
    assert list(results(run)) == ["synth"]
    install(VITIS, mode="differ csim")
    with pytest.raises(ExactnessError):
        synthesize(run, ["csim"], lambda line: None)
    assert list(results(run)) == ["synth"]
    assert list(json.loads((run / "synthesis.json").read_text())["stages"]) == ["synth"]


def test_a_report_does_not_tell_what_was_synthesized_of_another_project(run: Path, install: Install) -> None:
    install(VITIS)
    (run / "results.json").write_text(RESULTS)
    assert "synthesis" not in load_run(run).results.plain
    synthesize(run, ["synth"], lambda line: None)
    assert list(results(run)) == ["synth"]
    source = run / "hls" / "firmware" / "accelerator.cpp"
    source.write_text("int z;\n")  # by hand
    assert "synthesis" not in load_run(run).results.plain
    RunFolder(run).mark_done("project", "key", ("hls/firmware/accelerator.cpp",), 1.0)  # generated anew
    assert "synthesis" not in load_run(run).results.plain


@pytest.fixture
def returned(tmp_path: Path, run: Path, install: Install) -> Path:
    """The hls folder after C simulation, synthesis and cosimulation on another machine."""
    install(VITIS)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    synthesize(other, ["csim", "synth", "cosim"], lambda line: None)
    return other / "synthesis"


def test_a_simulation_that_failed_elsewhere_ends_with_status_4(cli: Cli, run: Path, returned: Path) -> None:
    synthesize(run, ["csim"], lambda line: None)
    log = next(returned.glob("*_prj/solution1/csim/report/*_csim.log"))
    log.write_text("MISMATCH line 3\nFAIL: 1 of 60 outputs differ, in 1 of 6 inputs\n")
    outcome = cli("synth", run, "--reports", returned)
    assert outcome.status == 4
    assert "C simulation: differs from the QKeras model in 1 of 60 outputs" in outcome.err
    assert "MISMATCH line 3" in outcome.err
    stages = json.loads((run / "synthesis.json").read_text())["stages"]
    assert sorted(stages) == ["cosim", "synth"]  # what was fine is kept, our own earlier pass is not


def test_simulations_of_other_inputs_are_not_read(cli: Cli, run: Path, returned: Path) -> None:
    new_bench(run)
    outcome = cli("synth", run, "--reports", returned)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("tb_index.json is not this run's") == 2
    assert list(json.loads((run / "synthesis.json").read_text())["stages"]) == ["synth"]
    for path in returned.rglob("*_csynth.xml"):
        path.unlink()
    assert "no report in it that is of this run" in cli.refuses("synth", run, "--reports", returned)


def test_what_was_read_stays_when_stages_run_here(run: Path, returned: Path, install: Install) -> None:
    import_reports(run, returned, lambda line: None)
    log = install(VITIS)
    log.unlink()
    synthesize(run, ["csim", "export"], lambda line: None)
    assert [name for _, name in calls(log)] == ["csim", "synth", "export"]
    assert sorted(json.loads((run / "synthesis.json").read_text())["stages"]) == ["cosim", "csim", "export", "synth"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_ends_the_tool_and_goes_on_later(run: Path, install: Install, sign: signal.Signals) -> None:
    log = install(VITIS, mode="hang synth")
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
    code += f"sys.argv = ['robust-hls', 'synth', {str(run)!r}]; from hw.cli import main; main()"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=DATA.parents[2], stderr=subprocess.PIPE, text=True)
    waited = time.monotonic() + 120
    while not (run / "synthesis" / "half").exists() and time.monotonic() < waited:
        time.sleep(0.05)
    child.send_signal(sign)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err.strip().splitlines()[-1][:41]) == (130, "robust-hls: stopped, and the tool with it")
    assert not _running(str(run.parent / "bin"))
    assert list(json.loads((run / "synthesis.json").read_text())["stages"]) == ["csim"]
    install(VITIS)
    synthesize(run, ["csim", "synth"], lambda line: None)
    assert [name for _, name in calls(log)] == ["csim", "synth", "synth"]


def _running(text: str) -> list[str]:
    """Processes whose command line names `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in words and path.parent.name != str(os.getpid()):
            found.append(words)
    return found


def test_without_the_tool_the_way_to_run_it_elsewhere_is_told(cli: Cli, run: Path, install: Install) -> None:
    message = cli.refuses("synth", run, "--csim", "--vsynth", status=3)
    assert "vitis-run not found" in message and "ROBUST_HLS_VITIS_RUN" in message
    assert f"copy {run / 'hls'} to a machine" in message
    assert message.count("vitis-run --mode hls --tcl build_prj.tcl") == 2  # csim and synth, which vsynth needs
    assert "vivado -mode batch" in message and f"robust-hls synth {run} --reports FOLDER" in message


def test_the_told_commands_are_what_we_would_run(tmp_path: Path, run: Path, cli: Cli, install: Install) -> None:
    """Run as they are printed, on the other machine, they leave the reports that come back with --reports."""
    message = cli.refuses("synth", run, "--csim", "--synth", "--cosim", "--vsynth", status=3)
    script = message.partition("and there:\n")[2].partition("\nthen bring")[0]
    log = install(("vitis-run", "2024.1"), VIVADO)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run / "hls", elsewhere / "hls")
    subprocess.run(["sh", "-e", "-c", script], cwd=elsewhere, check=True, timeout=60)
    assert [name for _, name in calls(log)] == ["csim", "synth", "cosim", "vsynth"]
    outcome = cli("synth", run, "--reports", elsewhere / "hls")
    assert outcome.status == 0, outcome.err
    assert "csim: inputs 6, outputs_compared 60, outputs_different 0, adversarial_inputs 4" in outcome.out
    assert "synth: latency_cycles_min 77" in outcome.out and "vsynth: luts 9,127" in outcome.out
    (elsewhere / "hls" / "firmware" / "accelerator.cpp").write_text("int other;\n")
    assert "the reports are of another design" in cli.refuses("synth", run, "--reports", elsewhere / "hls")


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (("vitis_hls", "v2021.1"), "vitis_hls is too old (vitis_hls v2021.1)"),
        (("vitis-run", "v2023.2"), "needed: 2024.1 or later"),
    ],
)
def test_an_old_tool_is_not_used(cli: Cli, run: Path, install: Install, tool: tuple[str, str], said: str) -> None:
    log = install(tool)
    assert said in cli.refuses("synth", run, status=3)
    assert calls(log) == []


def test_a_tool_that_hides_its_version_is_used(run: Path, install: Install) -> None:
    log = install(("vitis_hls", "(c) AMD"))
    synthesize(run, ["csim"], lambda line: None)
    assert calls(log) == [("vitis_hls", "csim")]


def test_what_is_no_run_or_was_changed_is_refused(cli: Cli, run: Path, install: Install, tmp_path: Path) -> None:
    install(VITIS)
    assert "no run in this folder" in cli.refuses("synth", tmp_path)
    (run / "hls" / "firmware" / "accelerator.cpp").write_text("int changed;\n")
    assert "accelerator.cpp: changed since it was generated" in cli.refuses("synth", run)


def test_backends_have_the_stages_of_their_tools() -> None:
    with pytest.raises(
        UserError, match=r"--export: the backend Quartus has none \(allowed: --csim, --synth, --vsynth\)"
    ):
        plan_stages(HardwareConfig(backend="Quartus"), ["export"])
    with pytest.raises(ToolMissing, match=r"catapult -product ultra -shell -f build_prj\.tcl"):
        plan_stages(HardwareConfig(backend="Catapult"), ["synth"])
    (stage,) = plan_stages(HardwareConfig(backend="VivadoAccelerator"), ["synth"])
    assert stage.reports == ("accelerator_prj/solution1/syn/report/accelerator_axi_csynth.xml",)
    for backend, top in (("Vitis", "accelerator"), ("VivadoAccelerator", "accelerator_axi")):
        stage = plan_stages(HardwareConfig(backend=backend), ["vsynth"])[-1]
        assert f"synth_design -top {top} -part $part\n" in stage.writes["vivado_synth.tcl"]


def test_quartus_gets_a_part_of_its_own() -> None:
    (stage,) = plan_stages(HardwareConfig(backend="Quartus"), ["synth"])
    assert stage.arguments["i++"][0] == "-march=Arria10"
    with pytest.raises(UserError, match=r"hardware\.part: xcu250-figd2104-2L-e is AMD's"):
        plan_stages(HardwareConfig(backend="Quartus", part="xcu250-figd2104-2L-e"), ["synth"])
    parts = {name: HardwareConfig(backend=name).part for name in ("Vitis", "Vivado", "VivadoAccelerator", "Catapult")}
    amd = dict.fromkeys(("Vitis", "Vivado", "VivadoAccelerator"), "xcu250-figd2104-2L-e")
    assert parts == {**amd, "Catapult": "xcvu13p-flga2577-2-e"}
    assert HardwareConfig(backend="Catapult", part="xcku5p").part == "xcku5p"


@pytest.mark.parametrize(
    "words", ["PASS: 0 of 60 outputs differ, in 0 of 6 inputs", "FAIL: 1 of 60 outputs differ, in 1 of 6 inputs"]
)
def test_quartus_simulation_is_run_and_not_only_compiled(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """i++ here is a stand-in that leaves a program which says `words`, as the compiled test bench would."""
    program = f"#!/bin/sh\necho '{words}'\nexit {int(words.startswith('FAIL'))}\n"
    compiler = tmp_path / "bin" / "i++"
    compiler.parent.mkdir()
    compiler.write_text(
        f"#!{sys.executable} -IS\nimport os, sys\n"
        "if '--version' in sys.argv:\n    sys.exit(print('i++ Version 21.1.0'))\n"
        f"open(sys.argv[-1], 'w').write({program!r})\nos.chmod(sys.argv[-1], 0o755)\nprint('compiled')\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:/usr/bin:/bin")
    run = make_run(tmp_path / "quartus", backend="Quartus")
    if words.startswith("FAIL"):
        with pytest.raises(ExactnessError, match="differs from the QKeras model in 1 of 60 outputs"):
            synthesize(run, ["csim"], lambda line: None)
        return
    told = synthesize(run, ["csim"], lambda line: None)["stages"]["csim"]
    assert (told["inputs"], told["outputs_compared"], told["adversarial_inputs"]) == (6, 60, 4)
    assert "compiled" in (run / "synthesis" / "csim.build.log").read_text()


def test_our_script_of_logic_synthesis_is_hls4mls_with_top_and_timing() -> None:
    script = resources.files("hls4ml").joinpath("templates/vivado/vivado_synth.tcl").read_text()
    ours = plan_stages(HardwareConfig(), ["vsynth"])[-1].writes["vivado_synth.tcl"]
    assert ours.startswith(script.rstrip().replace("-top ${project_name} ", "-top accelerator "))
