"""Tables and plots of finished runs: console, HTML, Markdown, CSV, JSON.

Reads results.json and what lies beside it. No model is loaded: TensorFlow is never imported, and matplotlib only
when plots are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from hw.experiment.folder import check_output
from hw.report.console import console_text
from hw.report.export import csv_text, json_text, markdown_text
from hw.report.html import html_report
from hw.report.plots import accuracy_plots, standalone
from hw.report.source import FinishedRun, Results, load_run, parse_results
from qmodels.errors import UserError
from qmodels.storage import write_bytes

_WRITERS: dict[str, Callable[[Sequence[FinishedRun]], str]] = {
    ".html": html_report,
    ".md": lambda runs: markdown_text([run.results for run in runs]),
    ".csv": lambda runs: csv_text([run.results for run in runs]),
    ".json": lambda runs: json_text([run.results for run in runs]),
    ".svg": lambda runs: _worst_case_svg(runs[0].results),
}


def console_table(results: dict[str, Any]) -> None:
    """Print the headline table of one run.

    Args:
        results: what results.json holds.
    """
    _print(console_text([parse_results(results)]))


def report_runs(runs: Sequence[Path], output: Path | None) -> None:
    """Show finished runs side by side.

    Args:
        runs: run folders.
        output: file to write, HTML, Markdown, CSV, JSON or SVG (the first run) by its suffix; None: the console.

    Raises:
        UserError: an unknown suffix, a folder without results, or a file that cannot be written.
    """
    if output is not None and output.suffix.lower() not in _WRITERS:
        raise UserError(f"{output}: unknown format {output.suffix!r}; allowed: {', '.join(_WRITERS)}")
    if output is not None:
        check_output(output)
    finished = _told_apart([load_run(folder) for folder in runs], runs)
    if output is None:
        _print(console_text([run.results for run in finished]))
    else:
        write_bytes(output, _WRITERS[output.suffix.lower()](finished).encode())
        _print(f"written: {output}")


def _worst_case_svg(results: Results) -> str:
    """Accuracy over ε, worst case of all attacks, one line per victim."""
    plots = accuracy_plots(results)
    if not plots:
        raise UserError(f"run {results.run}: no attack was run at several ε, so there is no curve to draw")
    return standalone(plots[-1])


def _told_apart(finished: list[FinishedRun], folders: Sequence[Path]) -> list[FinishedRun]:
    """Runs of one name (the same config run twice) are called by their folders."""
    names = [run.results.run for run in finished]
    return [
        replace(run, results=replace(run.results, run=str(folder))) if names.count(run.results.run) > 1 else run
        for run, folder in zip(finished, folders, strict=True)
    ]


def _print(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


__all__ = ["FinishedRun", "console_table", "html_report", "load_run", "report_runs"]
