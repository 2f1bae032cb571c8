"""Drives the vendor's tools on a run's HLS project, and reads their reports."""

from hw.synth.driver import synthesize
from hw.synth.returned import import_reports
from hw.synth.stages import STAGES

__all__ = ["STAGES", "import_reports", "synthesize"]
