"""The report as the last step of a run, and with it the whole flow."""

from __future__ import annotations

from hw.experiment.pipeline import FlowStep
from hw.experiment.run import Run
from hw.experiment.steps import STEPS
from hw.experiment.tflite import STEPS as TFLITE_STEPS
from hw.report.html import html_report
from hw.report.source import load_run
from qmodels.storage import write_bytes


def report_step(run: Run) -> tuple[str, ...]:
    """The self-contained HTML report."""
    write_bytes(run.folder / "report.html", html_report([load_run(run.folder.path)]).encode())
    return ("report.html",)


#: train, aware, map, quantize, project, simulate, attack, testbench, evaluate, report
FLOW = (*STEPS, FlowStep("report", ("name",), ("evaluate",), report_step))
#: adopt, attack, evaluate, report
TFLITE_FLOW = (*TFLITE_STEPS, FLOW[-1])
