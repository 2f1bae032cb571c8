"""What a command prints when it is done."""

from __future__ import annotations

import json

import typer

from hw.contract import OutputChange
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
    _show_repairs(run)
    if until == "project":
        for warning in json.loads((run.folder / "project.json").read_text()).get("warnings", []):
            typer.echo(f"warning: {warning}")
    for product in _PRODUCTS[until]:
        path = run.folder / product
        if path.exists():
            typer.echo(f"{product:16s}{path}")


def _show_repairs(run: Run) -> None:
    """What --repair did to the user's model, and what that did to its outputs."""
    path = run.folder / "repair.json"
    if not path.exists():
        return
    record = json.loads(path.read_text())
    for repair in record["repairs"]:
        typer.echo(f"repaired: {repair}")
    typer.echo(f"repaired: {OutputChange(**record['change'])}")
