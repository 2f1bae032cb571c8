"""The report as JSON, CSV, Markdown and plain text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hw.report.table import Column, Table, column_of, markdown_lines, plain_markdown, records_csv
from hw.sizing.points import AXIS_NAMES, Point
from hw.sizing.report.content import Content

SCHEMA = 2


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
        "decided": [asdict(item) for item in content.decided()],
        "designs": [_design(content, point) for point in content.points],
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _design(content: Content, point: Point) -> dict[str, Any]:
    parts = {stage: getattr(point, stage) for stage in ("measure", "worst", "final")}
    return {
        "design": content.name_of(point),
        "key": point.design.key,
        "training": point.design.training_key,
        "settings": dict(point.design.settings),
        "lower_bound": point.lower_bound,
        "upper_bound": point.bound,
        "steps": point.steps,
        "test_worst_case_of_other_seeds": point.replicates,
        "set_aside": point.set_aside,
        "error": point.error,
        **parts,
    }


def csv_text(content: Content) -> str:
    """One design a line; accuracies are fractions, what was not asked is empty."""
    return records_csv(content.table())


def markdown_text(content: Content) -> str:
    """Recommended designs with their commands, then every design near a front."""
    title = f"{content.config.name}: which bit-width is robust enough"
    lines = [f"# {plain_markdown(title)}", "", *map(plain_markdown, summary(content)), "", "## Recommended", ""]
    for item in content.named:
        said = plain_markdown(describe(content, item.point))
        lines += [f"**{', '.join(item.why)}**: {said}", "", f"    {item.command}", ""]
    lines += ["## Designs with a worst case, best first", "", *markdown_lines(_table(content))]
    return "\n".join(lines) + "\n"


def _table(content: Content) -> Table:
    points = sorted(content.scored, key=lambda p: -(p.worst_accuracy or 0))
    scores: dict[str, Callable[[Point], float | None]] = {
        "clean": lambda point: point.clean,
        "worst case": lambda point: point.worst_accuracy,
        "test clean": lambda point: point.final["clean"]["accuracy"] if point.final else None,
        "test worst case": lambda point: point.test_accuracy,
    }
    return Table(
        (
            column_of(points, "design", content.name_of, number=False),
            column_of(points, "settings", lambda point: point.design.title(), number=False),
            *(
                Column(AXIS_NAMES[axis], tuple(f"{point.cost(axis):,}" for point in points))
                for axis in content.config.costs
            ),
            *(Column(head, tuple(percent(score(point)) for point in points)) for head, score in scores.items()),
        )
    )


def console_text(content: Content) -> str:
    """What the command prints at the end."""
    lines = list(summary(content))
    for item in content.named:
        lines += ["", f"{', '.join(item.why)}:", f"  {describe(content, item.point)}", f"  {item.command}"]
    return "\n".join(lines)


def summary(content: Content) -> list[str]:
    """What was done and what it means, in a few sentences."""
    worst = content.config.worst_case
    measured, scored = len(content.measured), len(content.scored)
    said = [
        f"{len(content.points):,} designs: {measured:,} built and costed, {len(content.attacked):,} attacked, "
        f"{scored:,} with the whole worst case. {len(content.tested):,} were scored again on test images and checked "
        "by the gate. The others were not attacked: by the pool's bound another design is as good and costs no more.",
        f"Worst case: {len(worst.attack.attacks)} attacks in turn, ε = {worst.epsilon_lsb} LSB, on the "
        "accelerator's exact bits. Designs are chosen on validation images; test images see only the chosen ones.",
    ]
    if content.bracketed:
        said.append(
            f"Of {len(content.bracketed):,} designs a part is certified: their worst case, and that under any other "
            "attack in this ball, lies between the lower bound and the upper one."
        )
    saving = content.saving()
    if saving is not None and scored < measured:
        said.append(
            f"Building and attacking took {saving[0]:,.0f} s of processor time; the worst case on every design would "
            f"have taken about {saving[1]:,.0f} s (from the mean of those that had it), "
            f"{saving[1] / max(saving[0], 1e-9):.1f} times as long."
        )
    if content.failed:
        said.append(f"{len(content.failed)} designs failed; use --retry-failed to try them again.")
    return said


def describe(content: Content, point: Point) -> str:
    """One design in one line, validation and test told apart."""
    costs = ", ".join(f"{point.cost(axis):,} {AXIS_NAMES[axis]}" for axis in content.config.costs)
    said = f"{content.name_of(point)} ({point.design.title()}): {costs}; validation {percent(point.worst_accuracy)} %"
    if point.final:
        low, high = point.final["worst"]["ci95"]
        said += f", test {percent(point.test_accuracy)} % ({percent(low)} to {percent(high)}) worst case"
        said += f", {percent(point.final['clean']['accuracy'])} % clean"
    if point.over_seeds:
        mean, low, high = map(percent, point.over_seeds)
        said += f"; over {1 + len(point.replicates)} seeds {mean} % ({low} to {high}) worst case"
    return said


def percent(value: float | None) -> str:
    """A fraction as per cent; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f}"
