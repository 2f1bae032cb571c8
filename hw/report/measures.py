"""What results.json measures besides accuracy, as plots, tables and lists for the report."""

from __future__ import annotations

from typing import Any

from hw.report.plots import Plot, drawn, finish, line_style, plain_label
from hw.report.source import NORMS
from hw.report.strength import strength

_TABLES = {
    "detection": "Detection on all clean test samples, at the quantized model's threshold and at each victim's own",
    "defence": "The defence, for each ball: inputs that survive an attacker who does not know it, and one who does",
    "boundary_distance": "Distance to the decision boundary: nearest example of all attacks, medians",
    "accuracy_over_queries": "Accuracy over queries: what black-box attacks leave with a budget of queries per input",
    "quantization_shift": "Quantization shift by layer: how much of the attack's change a quantizer passes on",
    "quantization_shift_by_size": "Quantization shift by the size of the change: mean over layers, least, most",
    "error_amplification": "Error amplification by layer: relative change, float and quantized",
}


def measure_tables(measures: Any) -> dict[str, list[dict[str, Any]]]:
    """Title -> records, for those tables that were measured."""
    found = {title: measures.get(key) for key, title in _TABLES.items()} if isinstance(measures, dict) else {}
    if defended := found.get(_TABLES["defence"]):
        found[_TABLES["defence"]] = [_defence_line(record) for record in defended]
    return {title: records for title, records in found.items() if isinstance(records, list) and records}


def _defence_line(record: dict[str, Any]) -> dict[str, Any]:
    """One victim in one ball, in per cent with 95 % intervals."""

    def per_cent(key: str) -> str:
        share, interval = record.get(key), record.get(f"{key}_ci95")
        if share is None:
            return "–"
        return f"{100 * share:.1f}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")

    epsilon = record.get("epsilon")
    names = {"model": record.get("model"), "victim": record.get("victim"), "bits": record.get("bits")}
    names["runs in"] = record.get("place")
    ball = f"{NORMS.get(str(record.get('norm')), record.get('norm'))} {'∞' if epsilon is None else f'{epsilon:g}'}"
    shares = ("clean", "clean_refused", "attacked_refused_most", "undefended", "unaware", "aware")
    heads = ("clean", "refused clean", "refused attacked, at most", "undefended, %", "unaware, %", "aware, %")
    cells = {head: per_cent(key) for head, key in zip(heads, shares, strict=True)}
    return names | {"ball": ball} | cells | {"gain": record.get("verdict") or "–"}


def measure_plots(measures: Any, metric: str = "accuracy") -> list[Plot]:
    """How a change grows through the layers, and what queries buy black-box attacks; those that were measured."""
    if not isinstance(measures, dict):
        return []
    layers, curves = measures.get("error_amplification"), measures.get("accuracy_over_queries")
    return [*([_amplification_plot(layers)] if layers else []), *([_query_plot(curves, metric)] if curves else [])]


def _amplification_plot(layers: list[dict[str, Any]]) -> Plot:
    """D_l, the relative change that the shown attack makes at each layer, float against quantized."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, name in enumerate(("float", "quantized")):
            changes = [layer[f"{name}_relative_change"] for layer in layers]
            axes.plot(range(len(changes)), changes, label=name, **line_style(number))
        axes.set(ylabel="‖h(x) − h(x′)‖ / ‖h(x)‖", ylim=(0, None))
        names = [plain_label(str(layer["layer"])) for layer in layers]
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        finish(axes)

    return Plot("error amplification by layer", drawn(draw, (4.6, 3.4)))


def _query_plot(curves: list[dict[str, Any]], metric: str) -> Plot:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            lsb = float("inf") if curve["epsilon_lsb"] is None else curve["epsilon_lsb"]
            at = strength(lsb, curve.get("epsilon"), curve.get("epsilon_unit", "lsb"))
            name = f"{curve['attack']} {at}, {curve['victim']}"
            shares = [100 * accuracy for accuracy in curve["accuracy"]]
            axes.plot(curve["queries_per_image"], shares, label=plain_label(name), **line_style(number))
        axes.set(xlabel="queries per input", ylabel=f"{metric}, %", ylim=(0, 100), xscale="log")
        finish(axes)

    return Plot(f"{metric} over queries", drawn(draw, (4.6, 3.4)))


def measure_figures(measures: Any) -> dict[str, dict[str, Any]]:
    """Title -> key and value lists."""
    if not isinstance(measures, dict):
        return {}
    return {
        "Input gradients, float and straight-through": measures.get("gradients") or {},
        "Examples of the layer tables": measures.get("examples") or {},
    }
