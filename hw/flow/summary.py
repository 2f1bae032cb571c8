"""What a command prints when it is done."""

from __future__ import annotations

import json

import typer

from hw.flow.run import Run

#: What each last step leaves for the user to look at.
_PRODUCTS = {
    "train": ("model.keras",),
    "project": ("hls",),
    "simulate": ("simulation.json", "hls"),
    "attack": ("attacks",),
    "evaluate": ("results.json",),
    "report": ("hls", "results.json", "report.html"),
}


def show_summary(run: Run, until: str) -> None:
    """The table, where there is one, and the paths."""
    if until in ("evaluate", "report"):
        from hw.flow.report import console_table

        console_table(json.loads((run.folder / "results.json").read_text()))
    for product in _PRODUCTS[until]:
        path = run.folder / product
        if path.exists():
            typer.echo(f"{product:16s}{path}")
