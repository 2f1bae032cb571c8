"""What a command prints when it is done."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table

from hw.experiment.run import Run
from hw.experiment.stored import (
    AdoptedPart,
    CostPart,
    ExportPart,
    LayerwisePart,
    ProjectPart,
    RepairPart,
    SimulationPart,
)
from hw.generate.contract import OutputChange
from hw.report import console_table
from hw.report.headline import exactness_text
from hw.report.overflow import overflow_rows, overflow_text
from hw.report.schema import ResultsPart
from qmodels.shapes import read_stored

#: What each last step leaves for you to look at.
_PRODUCTS = {
    "aware": ("model.keras", "latent.keras"),
    "project": ("hls",),
    "simulate": ("simulation.json", "hls"),
    "attack": ("attacks",),
    "evaluate": ("results.json",),
    "report": ("hls", "results.json", "report.html"),
}


def show_summary(run: Run, until: str) -> None:
    """The table, where there is one, and the paths."""
    if until in ("evaluate", "report"):
        console_table(read_stored(run.folder / "results.json", ResultsPart))
    _show_repairs(run)
    if until == "simulate":
        typer.echo(exactness_text(read_stored(run.folder / "simulation.json", SimulationPart)))
    _show_choice(run)
    project = run.folder / "project.json"
    made = read_stored(project, ProjectPart) if project.exists() else {}
    if "scale" in made:
        typer.echo(f"data.input.scale: {made['scale']}")
    if until == "project":
        show_cost(read_stored(run.folder / "cost.json", CostPart))
        for warning in made.get("warnings", []):
            typer.echo(f"warning: {warning}")
    for product in _PRODUCTS[until]:
        path = run.folder / product
        if path.exists():
            typer.echo(f"{product:16s}{path}")


def show_exports(run: Run) -> None:
    """The `.tflite` files that were made, and how accurate they are."""
    for item in read_stored(run.folder / "tflite.json", list[ExportPart]):
        accuracy = f"{100 * item['test_accuracy']:.1f} % of {item['test_samples']:,} test samples"
        typer.echo(f"{item['precision']:10s}{accuracy}; {item['inputs']}; {run.folder / item['file']}")


def show_cost(cost: dict[str, Any]) -> None:
    """The cost of every layer that has one, and the totals."""
    table = Table(
        *(Column(name, justify="left" if name == "layer" else "right") for name in ("layer", *_COLUMNS.values())),
        title="Cost without synthesis (~: estimates; their errors are in docs/cost.md)",
    )
    for layer in cost["layers"]:
        if any(layer[key] for key in _COLUMNS if key not in ("interval_cycles", "latency_cycles")):
            table.add_row(layer["layer"], *(f"{layer[key]:,}" for key in _COLUMNS))
    paces = {"interval_cycles": "ii_cycles_estimated", "latency_cycles": "latency_cycles_estimated"}
    table.add_section()
    table.add_row("total", *(f"{cost[paces.get(key, key)]:,}" for key in _COLUMNS))
    Console().print(table)


def show_overflow(record: dict[str, Any]) -> None:
    """How many sums and results of every layer did not fit their types."""
    rows = overflow_rows(record, every=True)
    if rows:
        words = ("layer", "numbers")
        table = Table(
            *(Column(key.replace("_", " "), justify="left" if key in words else "right") for key in rows[0]),
            title="Numbers that do not fit their types",
        )
        for row in rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else value for value in row.values()))
        Console().print(table)
    typer.echo(overflow_text(record))


#: Keys of a layer's cost, and their heads.
_COLUMNS = {
    "multipliers": "multipliers",
    "ebops": "EBOPs",
    "weight_bits": "weight bits",
    "fifo_bits": "FIFO bits",
    "bram_18k": "BRAM18",
    "luts_estimated": "~LUTs",
    "dsps_estimated": "~DSPs",
    "interval_cycles": "~II",
    "latency_cycles": "~latency",
}


def _show_repairs(run: Run) -> None:
    """What was taken off your model, what --repair did to it, and what that did to its outputs."""
    adopted = run.folder / "adopted.json"
    for change in read_stored(adopted, AdoptedPart)["changes"] if adopted.exists() else ():
        typer.echo(f"adopted: {change}")
    path = run.folder / "repair.json"
    if not path.exists():
        return
    record = read_stored(path, RepairPart)
    for repair in record["repairs"]:
        typer.echo(f"repaired: {repair}")
    if not record["repairs"]:
        typer.echo("repaired: nothing had to be")
        return
    rounded = "" if record.get("exact", True) else "weights were rounded again; "
    change = OutputChange(**{field.name: record["change"][field.name] for field in fields(OutputChange)})
    typer.echo(f"repaired: {rounded}{change}")


def _show_choice(run: Run) -> None:
    """What the layer-wise choice has chosen, and what it is better than."""
    path = run.folder / "layerwise.json"
    if not path.exists():
        return
    record = read_stored(path, LayerwisePart)
    chosen, common = record["candidates"][record["chosen"]], record["common"]
    keys = ("layer", "method", "bits", "granularity", "clip", "delta_w_2", "stored_bits", "hardware_type")
    columns = (Column(key.replace("_", " "), overflow="fold") for key in keys)  # a type cut off would say nothing
    table = Table(*columns, title="Layer-wise choice of weights")
    for layer in record["layers"]:
        table.add_row(*(f"{layer[key]:.3g}" if isinstance(layer[key], float) else str(layer[key]) for key in keys))
    Console().print(table)
    for label, one in (("chosen", chosen), ("the same for all", common)):
        typer.echo(
            f"{label}: mean ||ΔW||₂ {one['mean_delta_w']:.3g}, {one['stored_bits']:,} stored bits; validation "
            f"{100 * one['clean']:.1f} % clean, {100 * one['attacked']:.1f} % attacked"
        )
