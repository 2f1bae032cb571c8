"""Plots as inline SVG that takes the page's text colour and font, so that one drawing suits light and dark.

matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap
from typing import Any

from hw.report.errors import HEADS, error_curves, main_error
from hw.report.headline import metric_of, victim_name, worst_curve
from hw.report.source import Results
from qmodels.metrics.masking import CLEAN, Row, is_bounded

#: Stands for the page's text colour while matplotlib draws; no series has it.
INK = "#010203"
#: Told apart by shape and dash as well as by colour; mid tones that show on white and on near-black.
_STYLES = (
    {"color": "#3b82c4", "marker": "o", "linestyle": "-"},
    {"color": "#d9822b", "marker": "s", "linestyle": "--"},
    {"color": "#2f9e77", "marker": "^", "linestyle": "-"},
    {"color": "#a25fc0", "marker": "x", "linestyle": ":"},
    {"color": "#c44e52", "marker": "D", "linestyle": "-."},
    {"color": "#8c8c3a", "marker": "v", "linestyle": "--"},
    {"color": "#7d8a99", "marker": "P", "linestyle": "-"},
    {"color": "#b86fa0", "marker": "*", "linestyle": "-."},
)


@dataclass(frozen=True)
class Plot:
    """A drawing with its title; matplotlib has escaped the texts in `svg`."""

    title: str
    svg: str
    wide: bool = False  # as wide as the page: several panels side by side


def accuracy_plots(results: Results) -> list[Plot]:
    """Accuracy over ε, a line per victim: one plot per white-box attack run at several ε, and the worst case."""
    victims = list(dict.fromkeys((row.model, row.victim, row.bits) for row in results.rows))
    attacks = dict.fromkeys(
        row.attack for row in results.rows if row.knowledge == "white-box" and row.norm == "linf" and is_bounded(row)
    )
    plots = []
    for attack in attacks:
        lines = {_victim_name(*key): _curve(results, key[:2], attack) for key in victims}
        plots.append((f"{attack}, white-box", lines))
    worst = {
        _victim_name(*key): _with_clean(results, key[:2], list(worst_curve(results, key[0], key[1]).values()))
        for key in victims
    }
    plots.append(("worst case of all attacks", worst))
    return [
        Plot(title, _accuracy_plot(lines, results))
        for title, lines in plots
        if any(len(line) > 2 for line in lines.values())  # clean and one ε are no curve
    ]


def error_plot(results: Results) -> Plot | None:
    """A regression's error, or an auto-encoder's score with its threshold, over ε: the worst attack of each victim."""
    curves = {key: line for key, line in error_curves(results).items() if len(line) > 2}
    if not curves:
        return None
    name = HEADS.get(main_error(results.rows), "error")
    threshold = ((results.plain.get("task") or {}).get("criterion") or {}).get("threshold")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (key, line) in enumerate(curves.items()):
            axes.plot(*zip(*line, strict=True), label=_victim_name(*key), **line_style(number))
        if threshold is not None:
            axes.axhline(threshold, color=INK, alpha=0.7, linewidth=1.2, linestyle="--", label="threshold")
        ticks = sorted({epsilon for line in curves.values() for epsilon, _ in line})
        axes.set(xlabel="ε in LSB", ylabel=name, ylim=(0, None), xticks=_apart(ticks))
        finish(axes)

    return Plot(f"{name}, worst of all attacks", drawn(draw, (4.6, 3.7)))


def standalone(plot: Plot) -> str:
    """The plot as a file of its own, readable on light and on dark pages."""
    root = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="640"'
    colours = "svg{color:#1f2328;font-family:sans-serif}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}"
    head, body = plot.svg.replace("<svg", root, 1).split(">", 1)
    return f"{head}>\n<style>{colours}</style>{body}"


def training_plots(training: Any) -> list[Plot]:
    """Loss and validation accuracy over the epochs; rounds of feedback learning are marked."""
    history = (training or {}).get("history") or []
    if len(history) < 2:
        return []
    names = {"training": "loss", "validation": "validation_loss"}
    loss = {label: [epoch[key] for epoch in history] for label, key in names.items()}
    names = {"validation, clean": "validation_accuracy", "validation, PGD": "validation_pgd_accuracy"}
    accuracy = {label: [_percent(epoch.get(key)) for epoch in history] for label, key in names.items()}
    starts = [n for n, (a, b) in enumerate(pairwise(history), start=1) if a["phase"] != b["phase"]]
    return [
        Plot("loss", _history_plot(loss, "loss", starts, None)),
        Plot("validation accuracy", _history_plot(accuracy, "accuracy, %", starts, 100.0)),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _history_plot(lines: dict[str, list[float | None]], ylabel: str, starts: Sequence[int], top: float | None) -> str:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (label, values) in enumerate(lines.items()):
            points = [(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, **line_style(number) | {"marker": ""})
        for start in starts:
            axes.axvline(start + 0.5, color=INK, alpha=0.35, linewidth=0.8)
        axes.set(xlabel="epoch", ylabel=ylabel, ylim=(0, top))
        finish(axes)

    return drawn(draw, (4.6, 3.0))


def margin_plot(training: Any) -> Plot | None:
    """Mean margin of every class, before the first feedback round and after the last one."""
    rounds = (training or {}).get("rounds") or []
    if not rounds:
        return None
    states = {"before round 1": rounds[0]["before"], f"after round {len(rounds)}": rounds[-1]["after"]}
    states = {name: margins for name, margins in states.items() if margins}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (name, margins) in enumerate(states.items()):
            places = [m["label"] + 0.4 * (number - 0.5) for m in margins]
            spread = [m["std"] for m in margins]
            color = _STYLES[number]["color"]
            fill = {"facecolor": "none", "hatch": "//"} if number else {"facecolor": color}  # told apart in grey too
            axes.bar(places, [m["mean"] for m in margins], 0.38, yerr=spread, label=name, edgecolor=color, **fill,
                     ecolor=INK, error_kw={"linewidth": 0.8})  # fmt: skip
        axes.margins(y=0.3)  # room for the legend
        axes.set(xlabel="class", ylabel="L2 margin (mean ± std)", xticks=[m["label"] for m in rounds[0]["before"]])
        finish(axes)

    return Plot("margins by class", drawn(draw, (4.6, 3.0)))


def lipschitz_plot(by_model: Mapping[str, Any]) -> Plot | None:
    """||ΔW||_2 of every layer over the bits of its weights, a line per model; beyond 1 a layer may amplify errors.

    Args:
        by_model: label -> `lipschitz_by_bits` of its results.json; None and empty ones are left out.
    """
    tables = {label: rows for label, rows in by_model.items() if rows}
    if not tables:
        return None
    layers = list(dict.fromkeys(row["layer"] for rows in tables.values() for row in rows))
    columns = min(len(layers), 4)

    def draw(figure: Any) -> None:
        panels = figure.subplots(-(-len(layers) // columns), columns, squeeze=False, sharex=True).ravel()
        for panel in panels[len(layers) :]:
            panel.set_visible(False)
        for panel, layer in zip(panels, layers, strict=False):
            for number, (label, rows) in enumerate(tables.items()):
                values = {key: value for row in rows if row["layer"] == layer for key, value in row.items()}
                points = [(int(key.split()[0]), value) for key, value in values.items() if key != "layer"]
                if points:
                    panel.plot(*zip(*points, strict=True), label=plain_label(label), **line_style(number))
            panel.axhline(1.0, color=INK, alpha=0.35, linewidth=0.8)
            panel.set(title=plain_label(layer), xlabel="bits", yscale="log")
        panels[0].set_ylabel("‖ΔW‖₂")
        finish(panels[0])

    size = (2.0 + 1.8 * columns, 0.6 + 2.2 * -(-len(layers) // columns))
    return Plot("quantization error of the layers", drawn(draw, size), wide=columns > 2)


def plain_label(text: str) -> str:
    """A text without meaning to matplotlib: $ begins mathematics, a leading _ hides a line from the legend.

    A long one has several lines, so that a legend leaves room for the drawing.
    """
    text = "\n".join(wrap(text, 36))
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def _curve(results: Results, victim: tuple[str, str], attack: str) -> list[tuple[float, float]]:
    def belongs(row: Row) -> bool:
        mine = (row.model, row.victim) == victim and row.knowledge == "white-box" and row.norm == "linf"
        return mine and row.attack == attack and is_bounded(row)

    return _with_clean(results, victim, sorted((row.epsilon_lsb, row.accuracy) for row in results.rows if belongs(row)))


def _with_clean(
    results: Results, victim: tuple[str, str], points: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    clean = [(0.0, r.accuracy) for r in results.rows if r.attack == CLEAN and (r.model, r.victim) == victim]
    return clean + points if points else []


def _victim_name(model: str, victim: str, bits: float | None) -> str:
    return plain_label(victim_name(model, victim, bits))


def _accuracy_plot(lines: dict[str, list[tuple[float, float]]], results: Results) -> str:
    ticks = sorted({0.0} | {e for line in lines.values() for e, _ in line})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (name, line) in enumerate(lines.items()):
            if line:
                axes.plot(*zip(*((e, 100 * a) for e, a in line), strict=True), label=name, **line_style(number))
        axes.set(xlabel="ε in LSB", ylabel=f"{metric_of(results.rows)}, %", ylim=(0, 100), xticks=_apart(ticks))
        if (step := results.step) is not None:
            above = axes.secondary_xaxis("top", functions=(lambda lsb: lsb * step, lambda value: value / step))
            above.set_xlabel("ε / 256" if results.pictures else "ε as the device's value")
        finish(axes)

    return drawn(draw, (4.6, 3.7))


def _apart(ticks: Sequence[float]) -> list[float]:
    """Ticks at the ε that were run, without those that would overlap their neighbour."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick - kept[-1] >= max(ticks) / 16:
            kept.append(tick)
    return kept


def line_style(number: int) -> dict[str, Any]:
    """Colour, marker and dash of the series with this number; colours that come again have other, filled markers."""
    around, place = divmod(number, len(_STYLES))
    style = _STYLES[place]
    marker = _STYLES[(place + 3 * around) % len(_STYLES)]["marker"]
    face = style["color"] if around else "none"
    return {**style, "marker": marker, "markersize": 4.5, "linewidth": 1.5, "markerfacecolor": face}


def finish(axes: Any, legend: bool = True) -> None:
    """A faint grid, no box, a legend unless the figure has one."""
    axes.grid(alpha=0.15, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def drawn(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """What `draw` draws, as an SVG element for an HTML page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text and takes the page's font
        "svg.hashsalt": "robust-hls",  # the same results give the same bytes
        "font.size": 9,
        "figure.autolayout": False,  # whatever the user has set
        "figure.constrained_layout.use": False,
    }
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context(settings | dict.fromkeys(inked, INK)):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)
        figure.set_layout_engine(None)  # with one, saving would draw everything twice
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """Without what only a file of its own needs: prolog, namespaces, metadata, ids that would occur twice."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    return svg.replace(INK, "currentColor")
