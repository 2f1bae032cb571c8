"""The report as JSON, CSV, Markdown and plain text."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from hw.sizing.points import AXIS_NAMES, Point
from hw.sizing.report.content import Content

SCHEMA = 1


def json_text(content: Content) -> str:
    """Everything known, machine-readable; accuracies are fractions, radii LSBs of 1/256."""
    plain = {
        "schema": SCHEMA,
        "name": content.config.name,
        "config": content.config.model_dump(mode="json"),
        "selection": "validation images",
        "final_scores": "test images",
        "recommended": [
            {"why": list(item.why), "design": content.name_of(item.point), "command": item.command}
            for item in content.named
        ],
        "fronts": {axis: [content.name_of(point) for point in members] for axis, members in content.fronts.items()},
        "stages": [
            {"stage": item.stage, "designs": item.designs, "failed": item.failed, "processor_seconds": item.seconds}
            for item in content.stages
        ],
        "designs": [_design(content, point) for point in content.points],
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _design(content: Content, point: Point) -> dict[str, Any]:
    parts = {stage: getattr(point, stage) for stage in ("measure", "screen", "worst", "final")}
    return {
        "design": content.name_of(point),
        "key": point.design.key,
        "training": point.design.training_key,
        "settings": dict(point.design.settings),
        "set_aside": point.set_aside,
        "error": point.error,
        **parts,
    }


def csv_text(content: Content) -> str:
    """One design a line; accuracies are fractions, what was not asked is empty."""
    records = content.table()
    heads = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def markdown_text(content: Content) -> str:
    """Recommended designs with their commands, then every design near a front."""
    lines = [f"# {_plain(content.config.name)}: which bit-width is robust enough", "", *map(_plain, summary(content))]
    lines += ["", "## Recommended", ""]
    for item in content.named:
        lines += [f"**{', '.join(item.why)}**: {_plain(describe(content, item.point))}", "", f"    {item.command}", ""]
    lines += ["## Designs with a worst case, best first", "", *_table(content)]
    return "\n".join(lines) + "\n"


def _table(content: Content) -> list[str]:
    heads = ["design", "settings", *(AXIS_NAMES[axis] for axis in content.config.costs), "clean", "worst case",
             "test clean", "test worst case"]  # fmt: skip
    rows = [["---"] * 2 + ["---:"] * (len(heads) - 2)]
    for point in sorted((p for p in content.points if p.worst), key=lambda p: -(p.worst_accuracy or 0)):
        tested = point.final["clean"]["accuracy"] if point.final else None
        rows.append(
            [content.name_of(point), _plain(point.design.title())]
            + [f"{point.cost(axis):,}" for axis in content.config.costs]
            + [percent(value) for value in (point.clean, point.worst_accuracy, tested, point.test_accuracy)]
        )
    return ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]


def console_text(content: Content) -> str:
    """What the command prints at the end."""
    lines = list(summary(content))
    for item in content.named:
        lines += ["", f"{', '.join(item.why)}:", f"  {describe(content, item.point)}", f"  {item.command}"]
    return "\n".join(lines)


def summary(content: Content) -> list[str]:
    """What was done and what it means, in a few sentences."""
    worst = content.config.worst_case
    known = {stage: content.count(stage) for stage in ("measure", "screen", "worst", "final")}
    said = [
        f"{len(content.points)} designs: {known['measure']} built and costed, {known['screen']} attacked cheaply, "
        f"{known['worst']} put to the worst case, {known['final']} scored again on test images and gated.",
        f"Worst case: {len(worst.attack.attacks)} attacks in turn, ε = {worst.epsilon_lsb} LSB of 1/256, on the "
        "accelerator's exact bits. Designs are chosen on validation images; test images see only the chosen ones.",
    ]
    saving = content.saving()
    if saving is not None and known["worst"] < known["measure"]:
        said.append(
            f"Screening: {saving[0]:,.0f} s of processor time; the worst case on every design would have taken about "
            f"{saving[1]:,.0f} s (from the mean of those that had it), {saving[1] / max(saving[0], 1e-9):.1f} times as "
            "long."
        )
    if content.failed:
        said.append(f"{len(content.failed)} designs failed; run again with --retry-failed to try them anew.")
    return said


def describe(content: Content, point: Point) -> str:
    """One design in one line, validation and test told apart."""
    costs = ", ".join(f"{point.cost(axis):,} {AXIS_NAMES[axis]}" for axis in content.config.costs)
    said = f"{content.name_of(point)} ({point.design.title()}): {costs}; validation {percent(point.worst_accuracy)} %"
    if point.final:
        low, high = point.final["worst"]["ci95"]
        said += f", test {percent(point.test_accuracy)} % ({percent(low)} to {percent(high)}) worst case"
        said += f", {percent(point.final['clean']['accuracy'])} % clean"
    return said


def percent(value: float | None) -> str:
    """A fraction as per cent; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
