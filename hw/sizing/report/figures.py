"""The report's drawings, in the style of the run's report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hw.report.plots import INK, Plot, drawn, finish, line_style
from hw.sizing.points import AXIS_NAMES, Point
from hw.sizing.report.content import BITS, Content
from hw.sizing.space import short_key, short_value

_WIDE = (4.6, 3.6)
_MOST_SHAPES = 1000  # more crosses are one picture in the drawing: a browser draws shapes one by one


def front_plots(content: Content) -> list[Plot]:
    """Worst-case accuracy over each cost: every design, the front on validation images, its test scores."""
    if not content.measured:
        return []
    return [Plot(f"worst case over {AXIS_NAMES[axis]}", _front(content, axis)) for axis in content.config.costs]


def _front(content: Content, axis: str) -> str:
    from matplotlib.ticker import EngFormatter, NullFormatter

    full = content.scored
    cheap = [point for point in content.measured if not point.done]
    line, chosen = content.fronts[axis], content.chosen

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        figure.dpi = 200  # of what is rasterized
        if cheap:
            _dots(axes, cheap, axis, lambda p: p.bound, marker="x", color="#8a93a0", alpha=0.55,
                  label="upper bound of the others", rasterized=len(cheap) > _MOST_SHAPES)  # fmt: skip
        _dots(axes, full, axis, lambda p: p.worst_accuracy, marker="o", facecolors="none", edgecolors="#3b82c4",
              label="worst case, validation")  # fmt: skip
        if strokes := [(p.cost(axis), 100 * (p.lower_bound or 0), 100 * (p.bound or 0)) for p in content.bracketed]:
            axes.vlines(*zip(*strokes, strict=True), color="#8a93a0", linewidth=0.8, alpha=0.7,
                        rasterized=len(strokes) > _MOST_SHAPES)  # fmt: skip
        if line:
            heights = [100 * (point.worst_accuracy or 0) for point in line]
            axes.step([point.cost(axis) for point in line], heights, where="post", color="#3b82c4", linewidth=1.4,
                      label="front")  # fmt: skip
        tested = [point for point in full if point.final]
        if tested:
            _dots(axes, tested, axis, lambda p: p.test_accuracy, marker="^", color="#d9822b", label="the same on test")
        if chosen is not None:
            axes.axvline(chosen.cost(axis), color=INK, alpha=0.3, linewidth=0.8)
        costs = [point.cost(axis) for point in (*full, *cheap)]
        axes.set(xlabel=AXIS_NAMES[axis], ylabel="accuracy, %", ylim=(0, 100))
        if costs and max(costs) > 8 * max(min(costs), 1):
            axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(EngFormatter(sep="") if axes.get_xscale() == "log" else NullFormatter())
        axes.tick_params(axis="x", which="both", labelrotation=30)
        finish(axes)

    return drawn(draw, _WIDE)


def _dots(axes: Any, points: Sequence[Point], axis: str, score: Callable[[Point], float | None], **style: Any) -> None:
    known = [(point.cost(axis), 100 * value) for point in points if (value := score(point)) is not None]
    if known:
        axes.scatter(*zip(*known, strict=True), s=20, linewidths=1.1, **style)


def bits_plots(content: Content) -> list[Plot]:
    """Accuracy over weight bits, a line an attack; a plot a training method, all else as in the chosen design."""
    if content.chosen is None or BITS not in content.config.space:
        return []
    families = content.config.space.get("training.method", [None])
    plots = []
    for family in families:
        changed = {"training.method": family} if family is not None else {}
        points = slice_of(content, {BITS}, changed)
        if len(points) > 1:
            name = f"{family}, " if family is not None else ""
            plots.append(Plot(f"{name}accuracy over weight bits", _bits_plot(points)))
    return plots


def slice_of(content: Content, free: set[str], changed: dict[str, Any]) -> list[Point]:
    """Designs that agree with the chosen one but for the free keys and the changed ones."""
    assert content.chosen is not None
    wanted = dict(content.chosen.design.settings) | changed

    def belongs(point: Point) -> bool:
        settings = dict(point.design.settings)
        return all(json.dumps(settings[key]) == json.dumps(wanted[key]) for key in settings if key not in free)

    return [point for point in content.points if point.measure and belongs(point)]


def _bits_plot(points: Sequence[Point]) -> str:
    lines: dict[str, list[tuple[float, float]]] = {"clean": []}
    for point in sorted(points, key=lambda point: _bits(point)):
        lines["clean"].append((_bits(point), 100 * (point.clean or 0.0)))
        if point.bound is not None:
            lines.setdefault("upper bound", []).append((_bits(point), 100 * point.bound))
        if point.worst_accuracy is not None:
            lines.setdefault("worst case", []).append((_bits(point), 100 * point.worst_accuracy))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (label, line) in enumerate(lines.items()):
            axes.plot(*zip(*line, strict=True), label=label, **line_style(number))
        axes.set(xlabel="weight bits", ylabel="accuracy, %", ylim=(0, 100), xticks=[_bits(point) for point in points])
        finish(axes)

    return drawn(draw, _WIDE)


def _bits(point: Point) -> float:
    return float(dict(point.design.settings)[BITS])  # type: ignore[arg-type]


def heat_map(content: Content) -> Plot | None:
    """The upper bound, µ (or another key) against weight bits, all else as in the chosen design."""
    space = content.config.space
    rows = [key for key in ("mapping.mu", *space) if key in space and key != BITS and len(space[key]) > 1]
    if content.chosen is None or BITS not in space or not rows:
        return None
    key = rows[0]
    values, bits = space[key], space[BITS]
    found = {
        (json.dumps(dict(p.design.settings)[key]), json.dumps(dict(p.design.settings)[BITS])): p
        for p in slice_of(content, {BITS, key}, {})
    }
    cells = [[found.get((json.dumps(value), json.dumps(width))) for width in bits] for value in values]

    def score(point: Point | None) -> float:
        value = point.bound if point else None
        return float("nan") if value is None else 100 * value

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        grid = [[score(point) for point in row] for row in cells]
        axes.imshow(grid, cmap="viridis", vmin=0, vmax=100, aspect="auto")
        for y, row in enumerate(cells):
            for x, point in enumerate(row):
                value = score(point)
                known = value == value
                text = f"{value:.0f}" if known else "–"
                axes.text(x, y, text, ha="center", va="center", fontsize=9 if known else 7,
                          color="black" if known and value > 60 else "white" if known else INK)  # fmt: skip
        axes.set_xticks(range(len(bits)), [short_value(width) for width in bits])
        axes.set_yticks(range(len(values)), [short_value(value) for value in values])
        axes.set(xlabel="weight bits", ylabel="µ" if key == "mapping.mu" else short_key(key))

    attack = f"upper bound of the worst case, ε = {content.epsilon:g} LSB, %"
    return Plot(f"{'µ' if key == 'mapping.mu' else short_key(key)} × weight bits: {attack}", drawn(draw, _WIDE))


def layer_plots(content: Content) -> list[Plot]:
    """Bits of a weight in each layer of each recommended design, with the number of bits stored."""
    return [
        Plot(f"{content.name_of(item.point)}, {item.why[0]}: weight bits by layer", _layers(item.point))
        for item in content.named
    ]


def _layers(point: Point) -> str:
    measure = point.measure or {}
    names = list(measure["bits"])

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        bars = axes.bar(names, [measure["bits"][name] for name in names], 0.6, color="#3b82c4")
        notes = [f"{measure['weights'].get(name, 0):,} bits" for name in names]
        if measure["delta_w"]:
            notes = [
                f"{note}\n||ΔW|| {measure['delta_w'].get(name, 0):.2f}" for note, name in zip(notes, names, strict=True)
            ]
        axes.bar_label(bars, notes, fontsize=7, color=INK, padding=2)
        axes.set(ylabel="bits of a weight", ylim=(0, max(measure["bits"].values()) * 1.35))
        axes.grid(alpha=0.15, color=INK, axis="y")
        axes.spines[["top", "right"]].set_visible(False)

    return drawn(draw, (4.6, 3.0))
