"""Tables and plots of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def console_table(results: dict[str, Any]) -> None:
    """Print rows."""
    table = Table("model", "victim", "bits", "attack", "knowledge", "eps", "acc", "n", "source", "flags")
    for r in results["rows"]:
        table.add_row(
            *[str(r[k]) for k in ("model", "victim", "bits", "attack", "knowledge", "epsilon_lsb")],
            f"{r['accuracy']:.3f}",
            str(r["n"]),
            r["source"],
            ",".join(r["flags"]),
        )
    Console().print(table)
    Console().print(results["exactness"])


def html_report(results: list[dict[str, Any]], folder: Path) -> str:
    """HTML."""
    return "<html></html>"


def report_runs(runs: list[Path], output: Path | None) -> None:
    """Report."""
