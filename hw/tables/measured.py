"""What lies behind a table's accuracies: distances, quantization shift, gradients, defences and cost, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw.report.measures import measure_tables
from hw.report.table import Column, Table, markdown_lines, plain_markdown, records_csv, records_table
from hw.tables.content import Tables

Record = dict[str, Any]
_KINDS = ("boundary_distance", "example_changes", "quantization_shift", "quantization_shift_by_size",
          "error_amplification", "defence")  # fmt: skip
_COST = ("luts_estimated", "dsps_estimated", "bram_18k", "ebops", "weight_bits", "latency_cycles_estimated")


def measures_csv(tables: Tables) -> str:
    """One figure a line: row, model, victim, what it is, its value."""
    found: list[Record] = []
    for label, run in tables.runs.items():
        measures, cost = run.results.plain.get("measures") or {}, run.results.plain.get("cost") or {}
        for kind in _KINDS:
            for record in measures.get(kind) or []:
                found += _figures(label, kind, record)
        found += _figures(label, "gradients", measures.get("gradients") or {})
        found += _figures(label, "cost", {key: cost[key] for key in _COST if key in cost})
    for record in tables.studies.get("transfer", ()):
        found += _figures("", "transfer", record)
    return records_csv(found)


def _figures(row: str, kind: str, record: Record) -> list[Record]:
    """Every number of a record, beside the words that say what it is of."""
    words = " ".join(f"{key}={value}" for key, value in record.items() if isinstance(value, str) and value)
    numbers = {key: value for key, value in record.items() if isinstance(value, (int, float))}
    return [{"row": row, "kind": kind, "of": words, "figure": key, "value": value} for key, value in numbers.items()]


def measures_markdown(tables: Tables) -> list[str]:
    """A section of its own below the tables."""
    parts = {
        "Gradients, shift and cost": _overview(tables),
        "Distance to the boundary: the shortest change of any attack, medians, LSB": _distances(tables),
        "Defences: what each attacker leaves": _defences(tables),
        "Changes of successful examples, medians": _changes(tables),
    }
    lines: list[str] = []
    for title, records in parts.items():
        if records:
            lines += [f"## {title}", "", *markdown_lines(records_table(records)), ""]
    return lines + _transfer(tables.studies.get("transfer", ()))


def _overview(tables: Tables) -> list[Record]:
    """One line a row: the float network's gradients against the straight-through ones, shift and cost."""
    found = []
    for label, run in tables.runs.items():
        plain = run.results.plain
        measures, cost = plain.get("measures") or {}, plain.get("cost") or {}
        gradients = measures.get("gradients") or {}
        shifts = [s["mean_ratio"] for s in measures.get("quantization_shift") or [] if s["mean_ratio"] is not None]
        found.append(
            {
                "row": label,
                "gradient cosine": gradients.get("mean_cosine"),
                "sign agreement": gradients.get("mean_sign_agreement"),
                "zero gradients, float": gradients.get("float_zero_gradient_share"),
                "zero gradients, quantized": gradients.get("quantized_zero_gradient_share"),
                "quantization shift, mean of layers": sum(shifts) / len(shifts) if shifts else None,
                "LUTs (estimate)": cost.get("luts_estimated"),
                "EBOPs": cost.get("ebops"),
                "latency, cycles (estimate)": cost.get("latency_cycles_estimated"),
                "mismatched outputs": run.results.exactness.get("mismatched_outputs"),
            }
        )
    return found


def _distances(tables: Tables) -> list[Record]:
    keys = {"images_fooled": "fooled", "median_l0_values": "L0", "median_l1_lsb": "L1", "median_l2_lsb": "L2",
            "median_linf_lsb": "L∞"}  # fmt: skip
    return [
        {"row": label, "model": record["model"], "victim": record["victim"]}
        | {name: record.get(key) for key, name in keys.items()}
        for label, run in tables.runs.items()
        for record in (run.results.plain.get("measures") or {}).get("boundary_distance") or []
    ]


def _changes(tables: Tables) -> list[Record]:
    shown = ("model", "victim", "attack", "attacker", "epsilon_lsb", "fooled", "right_when_clean", "median_l0_values",
             "median_l1_lsb", "median_l2_lsb", "median_linf_lsb")  # fmt: skip
    return [
        {"row": label} | {key: record.get(key) for key in shown}
        for label, run in tables.runs.items()
        for record in (run.results.plain.get("measures") or {}).get("example_changes") or []
    ]


def _defences(tables: Tables) -> list[Record]:
    found: list[Record] = []
    for label, run in tables.runs.items():
        only = {"defence": (run.results.plain.get("measures") or {}).get("defence")}
        for records in measure_tables(only).values():
            found += [{"row": label} | record for record in records]
    return found


def _transfer(records: Sequence[Record]) -> list[str]:
    """The matrix: a line a form that examples were made on, a column a form they were tried on."""
    if not records:
        return []
    sources = list(dict.fromkeys(record["made_on"] for record in records))
    cells = {(record["made_on"], record["tried_on"]): f"{100 * record['accuracy']:.1f}" for record in records}
    names = Column("made on", tuple(sources), number=False)
    columns = [Column(victim, tuple(cells[source, victim] for source in sources)) for victim in sources]
    first = records[0]
    strength = f"{first['attack']}, ε = {first['epsilon_lsb']:g} LSB, {first['n']} images"
    title = f"## Transfer: accuracy in % on examples of {plain_markdown(strength)}, undefended networks"
    return [title, "", *markdown_lines(Table((names, *columns))), ""]
