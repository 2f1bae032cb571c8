"""The report as one HTML file: styles, drawings and the sorting script are inside."""

from __future__ import annotations

from typing import Any

from hw.report.html import page_environment
from hw.report.table import Column, Table, column_of
from hw.sizing.points import AXIS_NAMES, Point
from hw.sizing.report.content import DELTA_W, Content, flags
from hw.sizing.report.exports import percent, summary
from hw.sizing.report.figures import bits_plots, front_plots, heat_map, layer_plots
from hw.sizing.space import short_key, short_value

MOST_ROWS = 2000


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
            designs=_designs(content),
            stages=_stages(content),
            flagged=sorted({flag for point in content.points for flag in flags(point)}),
            gates=_gates(content),
            decided=_decided(content),
            bought=_bought(content),
            shown=MOST_ROWS,
        )
    )


def _card(content: Content, item: Any) -> dict[str, Any]:
    point: Point = item.point
    final = point.final or {}
    worst = final.get("worst")
    interval = f"{percent(worst['ci95'][0])} to {percent(worst['ci95'][1])}" if worst else ""
    return {
        "why": item.why,
        "name": content.name_of(point),
        "settings": {short_key(key): short_value(value) for key, value in point.design.settings},
        "costs": {AXIS_NAMES[axis]: f"{point.cost(axis):,}" for axis in content.config.costs},
        "validation": percent(point.worst_accuracy),
        "test": percent(point.test_accuracy),
        "interval": interval,
        "clean": percent(final["clean"]["accuracy"]) if final else "",
        "seeds": _over_seeds(point),
        "digest": final.get("project_digest", "")[:16],
        "command": item.command,
    }


def _over_seeds(point: Point) -> str:
    if point.over_seeds is None:
        return ""
    mean, low, high = map(percent, point.over_seeds)
    return f"{1 + len(point.replicates)} seeds: {mean} % on the mean (95 % interval of the mean {low} to {high})"


def _designs(content: Content) -> Table:
    """Of many designs those that were attacked: a page of ten thousand rows opens too slowly."""
    records = content.table()
    if len(records) > MOST_ROWS:
        records = [record for record, point in zip(records, content.points, strict=True) if point.steps or point.error]
    records = records[:MOST_ROWS]
    known = list(dict.fromkeys(key for record in records for key in record))
    first = ["design", *_SCORES, *content.config.costs, DELTA_W]
    settings = [key for key in known if key not in first and key not in _REMARKS]
    heads = _SCORES | {key: AXIS_NAMES.get(key, short_key(key)) for key in [*first, *settings] if key not in _SCORES}
    columns = [
        Column(heads[key], tuple(_cell(key, record.get(key)) for record in records), number=key != "design")
        for key in [*first, *settings]
    ]
    told = [column for column in columns if set(column.cells) != {"–"}]
    return Table((*told, Column("remarks", tuple(map(_remarks, records)), number=False)))


#: Keys of a design's record and their heads: what is asked first comes first.
_SCORES = {
    "worst case": "worst case, %",
    "lower bound": "lower bound (proved), %",
    "upper bound": "upper bound, %",
    "clean": "clean, %",
    "test worst case": "worst case on test, %",
    "test clean": "clean on test, %",
}
#: Keys of what is said in words, in one column.
_REMARKS = {"fronts": "front of ", "set aside": "", "flags": "flags: ", "error": "failed: "}


def _remarks(record: dict[str, Any]) -> str:
    axes = [AXIS_NAMES.get(axis, axis) for axis in str(record.get("fronts") or "").split()]
    said = record | {"fronts": ", ".join(axes)}
    return "; ".join(f"{begin}{said[key]}" for key, begin in _REMARKS.items() if said.get(key)) or "–"


def _cell(key: str, value: Any) -> str:
    """Fractions as per cent, a dash for nothing."""
    if isinstance(value, float):
        return f"{value:.3f}" if key == DELTA_W else percent(value)
    return "–" if value in (None, "") else f"{value:,}" if isinstance(value, int) else str(value)


def _stages(content: Content) -> Table:
    stages = content.stages
    return Table(
        (
            column_of(stages, "stage", lambda item: item.stage, number=False),
            column_of(stages, "designs", lambda item: f"{item.designs}"),
            column_of(stages, "failed", lambda item: f"{item.failed}"),
            column_of(stages, "processor seconds", lambda item: f"{item.seconds:.0f}"),
            column_of(stages, "each", lambda item: f"{item.each:.2f}"),
        )
    )


def _decided(content: Content) -> Table:
    found = content.decided()
    return Table(
        (
            column_of(found, "decided after", lambda item: item.by, number=False),
            column_of(found, "designs", lambda item: f"{item.designs:,}"),
            column_of(found, "processor seconds of their attacks", lambda item: f"{item.seconds:,.0f}"),
        )
    )


def _bought(content: Content) -> Table:
    found = content.bought()
    return Table(
        (
            column_of(found, "from", lambda item: content.name_of(item.before), number=False),
            column_of(found, "to", lambda item: content.name_of(item.after), number=False),
            column_of(found, AXIS_NAMES["weight_bits"], lambda item: f"{item.after.cost('weight_bits'):,}"),
            column_of(found, AXIS_NAMES["luts"], lambda item: f"{item.after.cost('luts'):,}"),
            column_of(found, "worst case, %", lambda item: percent(item.after.worst_accuracy)),
            column_of(found, "points gained", lambda item: f"{item.points:.1f}"),
            column_of(found, "points per 1,000 bits", lambda item: _rate(item.per_thousand("weight_bits"))),
            column_of(found, "points per 1,000 LUTs", lambda item: _rate(item.per_thousand("luts"))),
        )
    )


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _gates(content: Content) -> dict[str, int]:
    """Inputs on which simulators were compared, over all designs."""
    gates = [gate for point in content.points if point.final for gate in point.final["gate"]]
    measured = [point.measure["exact_inputs"] for point in content.points if point.measure]
    return {
        "measured": sum(measured),
        "converted": sum(point.measure["converted"] for point in content.points if point.measure),
        "designs": sum(point.final is not None for point in content.points),
        "inputs": sum(gate["inputs"] for gate in gates),
        "adversarial": sum(gate["adversarial_inputs"] for gate in gates),
        "csim": sum(gate["csim_inputs"] for gate in gates),
        "mismatched": sum(gate["mismatched_outputs"] for gate in gates),
    }
