"""The tables' figures: accuracy over bits, the µ-law on the last layer, ||ΔW||_2 and error amplification by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hw.report.plots import INK, Plot, drawn, finish, line_style, plain_label
from hw.tables.content import Tables

CARRIED = ", on the unmapped model's examples"
Series = dict[str, list[tuple[float, float]]]
ByLayer = dict[str, dict[str, float]]


def figures(tables: Tables) -> dict[str, Plot]:
    """File name without suffix -> figure; those that something was measured for."""
    found = {
        "accuracy_over_bits": _panels("accuracy over weight bits", "weight bits", _lines(tables, "bits", "bits")),
        "mapping": _panels("µ-law on the last layers, float model", "µ", _lines(tables, "mapping", "mu")),
        "delta_w": _layers(
            "‖ΔW‖₂ of every layer",
            "‖ΔW‖₂: operator norm; dotted: reshaped matrix",
            _delta_w(tables, "operator"),
            _delta_w(tables, "reshaped"),
            line=1.0,
        ),
        "amplification": _layers(
            "error amplification",
            "‖h(x) − h(x′)‖ / ‖h(x)‖, quantized; dotted: float",
            _amplification(tables, "quantized"),
            _amplification(tables, "float"),
        ),
    }
    return {name: plot for name, plot in found.items() if plot is not None}


def _lines(tables: Tables, study: str, key: str) -> dict[str, Series]:
    """Row -> attack -> (bits or µ, accuracy in %).

    Mapped models have a second line per attack, of the unmapped model's examples: where these do more harm, the mapped
    model's own gradients are masked.
    """
    panels: dict[str, Series] = {}
    for record in tables.studies.get(study, ()):
        lines, name = panels.setdefault(record["row"], {}), _attack(record)
        lines.setdefault(name, []).append((record[key], 100 * record["accuracy"]))
        if (carried := record.get("accuracy_on_unmapped_models_examples")) is not None:
            lines.setdefault(f"{name}{CARRIED}", []).append((record[key], 100 * carried))
    return panels


def _attack(record: Mapping[str, Any]) -> str:
    epsilon = record.get("epsilon_lsb")
    return str(record["attack"]) if epsilon is None else f"{record['attack']} {epsilon:g}"


def _panels(title: str, xlabel: str, panels: dict[str, Series]) -> Plot | None:
    """A panel a row, a line an attack; values of x stand at equal distances."""
    if not panels:
        return None
    places = sorted({x for lines in panels.values() for points in lines.values() for x, _ in points})

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for panel, (row, lines) in zip(axes, panels.items(), strict=True):
            attacks = [name for name in lines if not name.endswith(CARRIED)]
            for name, points in lines.items():
                style = line_style(attacks.index(name.removesuffix(CARRIED)))
                dotted = {"linestyle": ":", "marker": "", "linewidth": 2.2} if name.endswith(CARRIED) else {}
                x, y = [places.index(value) for value, _ in points], [height for _, height in points]
                panel.plot(x, y, label=plain_label(name), **style | dotted)
            panel.set(title=plain_label(row), xlabel=xlabel, ylim=(0, 100))
            panel.set_xticks(range(len(places)), [f"{value:g}" for value in places])
            finish(panel, legend=False)
        axes[0].set_ylabel("accuracy, %")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)

    return Plot(title, drawn(draw, (2.4 + 2.0 * len(panels), 4.2)))


def _delta_w(tables: Tables, norm: str) -> ByLayer:
    """Row -> layer -> ||ΔW||_2 at the row's own bits; the two norms can stand on two sides of 1."""
    return _by_layer(tables, lambda plain: plain.get("lipschitz"), f"delta_w_{norm}_2")


def _amplification(tables: Tables, model: str) -> ByLayer:
    """Row with its strongest attack -> layer -> relative change which that attack's examples make."""
    return _by_layer(
        tables,
        lambda plain: plain.get("measures", {}).get("error_amplification"),
        f"{model}_relative_change",
        lambda plain: ", " + _attack(plain["measures"]["examples"]),
    )


def _by_layer(
    tables: Tables,
    records: Callable[[dict[str, Any]], Any],
    key: str,
    suffix: Callable[[dict[str, Any]], str] = lambda _: "",
) -> ByLayer:
    """Of the unmapped rows: the mapped ones would hide them."""
    unmapped = {label: run.results.plain for label, run in tables.runs.items() if not (run.mapping or {}).get("mu")}
    found = {label: (records(plain) or [], plain) for label, plain in unmapped.items()}
    return {
        label + suffix(plain): {str(item["layer"]): float(item[key]) for item in rows if item.get(key) is not None}
        for label, (rows, plain) in found.items()
        if rows
    }


def _layers(title: str, ylabel: str, rows: ByLayer, dotted: ByLayer, line: float | None = None) -> Plot | None:
    """A line and a dotted one a row, over the layers of the first row's network; other networks are left out."""
    if not rows:
        return None
    layers = list(next(iter(rows.values())))
    shown = {label: values for label, values in rows.items() if list(values) == layers}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (label, values) in enumerate(shown.items()):
            style = line_style(number) | {"linestyle": "-"}
            axes.plot(range(len(layers)), list(values.values()), label=plain_label(label), **style)
            axes.plot(range(len(layers)), list(dotted[label].values()), **style | {"linestyle": ":", "marker": ""})
        if line is not None:
            axes.axhline(line, color=INK, alpha=0.35, linewidth=0.8)
        axes.set(ylabel=ylabel, ylim=(0, None))
        axes.set_xticks(range(len(layers)), [plain_label(layer) for layer in layers], rotation=45, ha="right")
        finish(axes, legend=False)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)

    return Plot(title, drawn(draw, (8.2, 3.8)))
