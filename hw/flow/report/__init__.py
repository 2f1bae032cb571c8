"""Tables and plots of finished runs: console, HTML, Markdown, CSV, JSON.

Reads results.json and what lies beside it; loads no model, and neither TensorFlow nor, unless plots are drawn,
matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from hw.flow.report.console import console_text
from hw.flow.report.source import FinishedRun, load_run, parse_results


def console_table(results: dict[str, Any]) -> None:
    """Print the headline table of one run."""
    _print(console_text([parse_results(results)]))


def _print(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def html_report(results: list[dict[str, Any]], folder: Path) -> str:
    """HTML."""
    return "<html></html>"


def report_runs(runs: list[Path], output: Path | None) -> None:
    """Report."""


__all__ = ["FinishedRun", "console_table", "html_report", "load_run", "report_runs"]
