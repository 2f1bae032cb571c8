"""The report as one HTML file that needs nothing else: styles, plots, images and the sorting script are inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hw.report.answer import Fact, answer
from hw.report.certificates import certificate_rows
from hw.report.errors import error_records, error_title
from hw.report.headline import (
    MARKS,
    Headline,
    exactness_text,
    explanation,
    headline,
    marks_of,
    metric_of,
    percent,
    task_texts,
    unbounded_checks,
    worst_curve,
)
from hw.report.images import example_cards
from hw.report.measures import measure_figures, measure_plots, measure_tables
from hw.report.overflow import overflow_rows, overflow_text
from hw.report.page_tables import named_table, rows_table
from hw.report.plots import Plot, accuracy_plots, error_plot, lipschitz_plot, margin_plot, training_plots
from hw.report.source import NORMS, FinishedRun
from hw.report.strength import strength, strength_of, with_unit
from hw.report.table import Column, Table, shown
from hw.report.words import GLOSSARY, in_words
from hw.synth.rtl_record import rtl_text


@dataclass(frozen=True)
class RunSection:
    """What the page says about one run."""

    run: FinishedRun
    answer: list[Fact]  # the first screen
    checks: list[str]
    exactness: str
    rtl: list[str]
    task: list[str]
    accuracy: list[Plot]
    error_title: str
    errors: Table | None
    worst: Table | None  # worst case of every victim, a column per ε
    cards: list[dict[str, Any]]
    example_strength: str  # ε of the cards
    training: list[Plot]
    measures: list[Plot]
    overflow: str  # a sentence; its table is among the records
    rows: Table  # every row of results.json
    certificates: Table | None
    records: dict[str, Table]  # tables that are shown as they are
    figures: dict[str, dict[str, Any]]  # key and value lists that are shown as they are


def html_report(runs: Sequence[FinishedRun]) -> str:
    """The page for one or several runs."""
    page = page_environment().get_template("report.html.j2")
    return page.render(table=headline([run.results for run in runs]), sections=[_section(run) for run in runs])


def _section(run: FinishedRun) -> RunSection:
    margins = margin_plot(run.training)
    table, errors = headline([run.results]), error_plot(run.results)
    return RunSection(
        run=run,
        answer=answer(run.results, table),
        checks=unbounded_checks(run.results),
        exactness=exactness_text(run.results.exactness),
        rtl=rtl_text(run.results.plain.get("rtl")),
        task=task_texts(run.results),
        accuracy=[*accuracy_plots(run.results), *([errors] if errors else [])],
        error_title=error_title(run.results),
        errors=_table(error_records(run.results)),
        worst=_worst_table(run, table),
        cards=example_cards(run.examples),
        example_strength=_example_strength(run.examples),
        training=[*training_plots(run.training), *([margins] if margins else [])],
        measures=_measures(run),
        overflow=overflow_text(run.overflow),
        rows=rows_table(run.results, metric_of(run.results.rows)),
        certificates=_table(certificate_rows(run.results.plain)),
        records=_records(run),
        figures=_figures(run),
    )


def _table(records: list[dict[str, Any]]) -> Table | None:
    return named_table(records) if records else None


def _example_strength(examples: Any) -> str:
    if not examples:
        return ""
    return with_unit(strength(examples["epsilon_lsb"], examples.get("epsilon"), examples.get("epsilon_unit", "lsb")))


def _measures(run: FinishedRun) -> list[Plot]:
    plain = run.results.plain
    weights = lipschitz_plot({run.results.rows[0].model if run.results.rows else "": plain.get("lipschitz_by_bits")})
    return [*measure_plots(plain.get("measures"), metric_of(run.results.rows)), *([weights] if weights else [])]


def _worst_table(run: FinishedRun, table: Headline) -> Table | None:
    curves = [worst_curve(run.results, line.model, line.victim) for line in table.lines]
    columns = [
        Column(f"ε = {e}", tuple(percent(curve[e][1]) if e in curve else "–" for curve in curves))
        for e in dict.fromkeys(e for curve in curves for e in curve)
    ]
    return Table((table.column("victim", lambda line: line.name, number=False), *columns)) if columns else None


def _records(run: FinishedRun) -> dict[str, Table]:
    """Layer by layer tables: quantization always, others where results.json has them."""
    cost = run.results.plain.get("cost")
    found = {
        "Hardware cost by layer": _costly(cost.get("layers")) if isinstance(cost, dict) else None,
        "Overflow by layer": overflow_rows(run.overflow),
        "Quantization by layer": run.quantization,
        "Lipschitz constants": run.results.plain.get("lipschitz"),
    }
    found |= measure_tables(run.results.plain.get("measures"))
    return {title: named_table(rows) for title, rows in found.items() if isinstance(rows, list) and rows}


def _costly(layers: Any) -> list[dict[str, Any]]:
    """Layers that cost something, without the columns in which none does."""
    kept = [layer for layer in layers or [] if any(layer.get(key) for key in _COSTS)]
    empty = {key for key in (kept[0] if kept else {}) if not any(layer.get(key) for layer in kept)}
    return [{key: value for key, value in layer.items() if key not in empty} for layer in kept]


#: Of a layer; a layer without any of these is left out of the table.
_COSTS = ("multipliers", "weight_bits", "table_bits", "fifo_bits", "bram_18k", "luts_estimated", "dsps_estimated")


def _figures(run: FinishedRun) -> dict[str, dict[str, Any]]:
    environment = run.environment if isinstance(run.environment, dict) else {}
    cost = run.results.plain.get("cost")
    found: dict[str, Any] = {
        "µ-law mapping": run.mapping,
        "Hardware cost": {k: v for k, v in cost.items() if k != "layers" and v is not None}
        if isinstance(cost, dict)
        else None,
        "HLS project": run.project,
        "Environment": {key: value for key, value in environment.items() if key != "packages"},
        "Packages": environment.get("packages"),
    }
    found |= measure_figures(run.results.plain.get("measures"))
    return {title: values for title, values in found.items() if isinstance(values, dict) and values}


def page_environment() -> Environment:
    """Templates that escape every value; only our own SVG, escaped by matplotlib, is marked safe."""
    environment = Environment(
        loader=PackageLoader("hw.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "marks": marks_of,
        "explain": explanation,
        "value": shown,
        "strength": strength_of,
        "words": in_words,
    }
    environment.globals |= {"MARKS": MARKS, "NORMS": NORMS, "GLOSSARY": GLOSSARY}
    return environment
