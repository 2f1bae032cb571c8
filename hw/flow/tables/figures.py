"""The tables' figures: accuracy over bits, the µ-law on the last layer, ||ΔW||_2 and error amplification by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hw.flow.report.plots import INK, Plot, drawn, finish, line_style, plain_label
from hw.flow.tables.content import Tables

_WIDE = (6.4, 3.8)
Series = dict[str, list[tuple[float, float]]]


def figures(tables: Tables) -> dict[str, Plot]:
    """File name without suffix -> figure; those that something was measured for."""
    found = {
        "accuracy_over_bits": _panels("accuracy over weight bits", "weight bits", _bits_lines(tables)),
        "mapping": _panels("µ-law on the last layers, float model", "µ", _mapping_lines(tables), symlog=True),
        "delta_w": _layers("‖ΔW‖₂ of every layer", "‖ΔW‖₂", _delta_w(tables), line=1.0),
        "amplification": _layers("error amplification", "‖h(x) − h(x′)‖ / ‖h(x)‖", _amplification(tables)),
    }
    return {name: plot for name, plot in found.items() if plot is not None}


def _bits_lines(tables: Tables) -> dict[str, Series]:
    return _lines(tables.studies.get("bits", ()), "bits")


def _mapping_lines(tables: Tables) -> dict[str, Series]:
    """Own examples, and those of the unmapped model: where these do more harm, the own gradients are masked."""
    records = tables.studies.get("mapping", ())
    panels = _lines(records, "mu")
    for record in records:
        value = record.get("accuracy_on_unmapped_models_examples")
        if value is not None:
            lines = panels[record["row"]]
            lines.setdefault(f"{_attack(record)}, of the unmapped", []).append((record["mu"], 100 * value))
    return panels


def _lines(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, Series]:
    panels: dict[str, Series] = {}
    for record in records:
        lines = panels.setdefault(record["row"], {})
        lines.setdefault(_attack(record), []).append((record[key], 100 * record["accuracy"]))
    return panels


def _attack(record: Mapping[str, Any]) -> str:
    epsilon = record.get("epsilon_lsb")
    return str(record["attack"]) if epsilon is None else f"{record['attack']} {epsilon:g}"


def _panels(title: str, xlabel: str, panels: dict[str, Series], symlog: bool = False) -> Plot | None:
    """A panel a row, a line an attack."""
    if not panels:
        return None

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for panel, (row, lines) in zip(axes, panels.items(), strict=True):
            for number, (name, points) in enumerate(lines.items()):
                panel.plot(*zip(*points, strict=True), label=plain_label(name), **line_style(number))
            panel.set(title=plain_label(row), xlabel=xlabel, ylim=(0, 100))
            if symlog:
                panel.set_xscale("symlog", linthresh=1)
            _clean_axes(panel)
        axes[0].set_ylabel("accuracy, %")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)

    return Plot(title, drawn(draw, (2.4 + 2.0 * len(panels), 4.0)))


def _clean_axes(axes: Any) -> None:
    axes.grid(alpha=0.15, color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _delta_w(tables: Tables) -> dict[str, dict[str, float]]:
    """Row -> layer -> reshaped ||ΔW||_2 at the row's own bits."""
    return _by_layer(tables, lambda plain: plain.get("lipschitz"), "delta_w_reshaped_2")


def _amplification(tables: Tables) -> dict[str, dict[str, float]]:
    """Row -> layer -> relative change that the strongest attack made, in the quantized model."""
    return _by_layer(
        tables, lambda plain: plain.get("measures", {}).get("error_amplification"), "quantized_relative_change"
    )


def _by_layer(tables: Tables, records: Callable[[dict[str, Any]], Any], key: str) -> dict[str, dict[str, float]]:
    found = {label: records(run.results.plain) or [] for label, run in tables.runs.items()}
    return {
        label: {str(record["layer"]): float(record[key]) for record in rows if record.get(key) is not None}
        for label, rows in found.items()
        if rows
    }


def _layers(title: str, ylabel: str, rows: dict[str, dict[str, float]], line: float | None = None) -> Plot | None:
    """A line a row over the layers of the network most rows have."""
    if not rows:
        return None
    layers = list(next(iter(rows.values())))
    shown = {label: values for label, values in rows.items() if list(values) == layers}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (label, values) in enumerate(shown.items()):
            axes.plot(range(len(layers)), list(values.values()), label=plain_label(label), **line_style(number))
        if line is not None:
            axes.axhline(line, color=INK, alpha=0.35, linewidth=0.8)
        axes.set(ylabel=ylabel, ylim=(0, None))
        axes.set_xticks(range(len(layers)), [plain_label(layer) for layer in layers], rotation=45, ha="right")
        finish(axes)

    return Plot(title, drawn(draw, _WIDE))
