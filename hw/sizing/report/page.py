"""The report as one HTML file: styles, drawings and the sorting script are inside."""

from __future__ import annotations

from typing import Any

from hw.report.html import page_environment
from hw.sizing.points import AXIS_NAMES, Point
from hw.sizing.report.content import DELTA_W, Content, flags
from hw.sizing.report.exports import percent, summary
from hw.sizing.report.figures import bits_plots, front_plots, heat_map, layer_plots
from hw.sizing.space import short_key


def html_page(content: Content) -> str:
    """The page."""
    heat = heat_map(content)
    return (
        page_environment()
        .get_template("sizing.html.j2")
        .render(
            content=content,
            summary=summary(content),
            named=[_card(content, item) for item in content.named],
            fronts=front_plots(content),
            bits=bits_plots(content),
            heat=[heat] if heat else [],
            layers=layer_plots(content),
            heads={key: AXIS_NAMES.get(key, short_key(key)) for record in content.table() for key in record},
            rows=[_cells(record) for record in content.table()],
            flagged=sorted({flag for point in content.points for flag in flags(point)}),
            gates=_gates(content),
        )
    )


def _card(content: Content, item: Any) -> dict[str, Any]:
    point: Point = item.point
    final = point.final or {}
    worst = final.get("worst")
    interval = f"{percent(worst['ci95'][0])} to {percent(worst['ci95'][1])}" if worst else "–"
    return {
        "why": item.why,
        "name": content.name_of(point),
        "title": point.design.title(),
        "costs": {AXIS_NAMES[axis]: f"{point.cost(axis):,}" for axis in content.config.costs},
        "validation": percent(point.worst_accuracy),
        "test": percent(point.test_accuracy),
        "interval": interval,
        "clean": percent(final["clean"]["accuracy"]) if final else "–",
        "digest": final.get("project_digest", "")[:16],
        "command": item.command,
    }


def _cells(record: dict[str, Any]) -> dict[str, str]:
    """A table's row as text: fractions as per cent, counts with separators."""
    shown = {}
    for key, value in record.items():
        if isinstance(value, float) and key != DELTA_W:
            shown[key] = percent(value)
        elif isinstance(value, float):
            shown[key] = f"{value:.3f}"
        elif isinstance(value, int):
            shown[key] = str(value)
        else:
            shown[key] = "–" if value in (None, "") else str(value)
    return shown


def _gates(content: Content) -> dict[str, int]:
    """Inputs on which simulators were compared, over all designs."""
    gates = [gate for point in content.points if point.final for gate in point.final["gate"]]
    measured = [point.measure["exact_inputs"] for point in content.points if point.measure]
    return {
        "measured": sum(measured),
        "designs": sum(point.final is not None for point in content.points),
        "inputs": sum(gate["inputs"] for gate in gates),
        "adversarial": sum(gate["adversarial_inputs"] for gate in gates),
        "csim": sum(gate["csim_inputs"] for gate in gates),
        "mismatched": sum(gate["mismatched_outputs"] for gate in gates),
    }
