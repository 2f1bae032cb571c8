"""Rows of one or several runs -> the headline table: one line per model, victim and bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hw.experiment.ball import Ball, headline_ball
from hw.report.certificates import certificate_texts
from hw.report.columns import AttackColumn, attack_columns, has_column, made_apart
from hw.report.errors import error_texts
from hw.report.source import NORMS, Results
from hw.report.strength import strength_of, unit_note, with_unit
from hw.report.table import Column, column_of
from hw.synth.rtl_record import rtl_text
from qmodels.metrics.masking import CLEAN, EXPLANATIONS, Row, is_bounded

#: A letter per flag, put behind the number it spoils and explained below the table.
MARKS: dict[str, str] = {
    "attacked-above-clean": "A",
    "single-step-stronger": "S",
    "accuracy-rises-with-epsilon": "E",
    "not-converged": "C",
    "unbounded-below-100": "U",
    "black-box-stronger": "B",
    "zero-gradients": "Z",
    "non-finite": "N",
    "softmax-outputs": "P",
    "accelerator-disagrees": "D",
}


#: Columns of attacks side by side on a page that is 1280 pixels wide; the first block has other columns too.
FIRST_BLOCK, NEXT_BLOCKS = 9, 12


@dataclass(frozen=True)
class Number:
    """An accuracy with the flags that spoil it and the row it comes from."""

    accuracy: float
    flags: tuple[str, ...] = ()
    row: Row | None = None

    @property
    def marks(self) -> str:
        """The flags as letters."""
        return marks_of(self.flags)


@dataclass(frozen=True)
class HeadlineRow:
    """One model as one victim."""

    run: str
    model: str
    victim: str
    bits: float | None  # of a weight; a mean where layers differ
    clean: Number | None
    attacked: tuple[Number | None, ...]  # beside the table's columns
    transfer: Number | None
    worst: Number | None
    flags: tuple[str, ...]  # of an attacker who knows the defence, if there is one

    @property
    def bits_text(self) -> str:
        """Weight bits; a dash for float models."""
        return "–" if self.bits is None else f"{self.bits:g}"

    @property
    def name(self) -> str:
        """The line in words."""
        return victim_name(self.model, self.victim, self.bits)


@dataclass(frozen=True)
class Headline:
    """The table that a report opens with."""

    columns: tuple[AttackColumn, ...]
    lines: tuple[HeadlineRow, ...]
    ball: Ball | None  # of the transfer and worst-case columns
    per_image: bool  # whether worst is the minimum image by image, not just the lowest row
    setting: str  # n and seed
    flags: tuple[str, ...]  # raised anywhere in the table
    attackers: tuple[str, ...] = ()  # models of the attacker's own
    ball_strength: str = ""  # ε of the ball
    unit_note: str = ""  # what ε is counted in
    metric: str = "accuracy"  # what the numbers are the share of
    refuses: bool = False  # whether some victim may refuse an input

    @property
    def groups(self) -> list[tuple[str, list[int]]]:
        """Neighbouring columns of one attack: its title and their places."""
        found: dict[str, list[int]] = {}
        for place, column in enumerate(self.columns):
            found.setdefault(column.title, []).append(place)
        return list(found.items())

    @property
    def blocks(self) -> list[list[tuple[str, list[int]]]]:
        """The groups in blocks that fit on a page side by side; the first also has the ball's columns."""
        found: list[list[tuple[str, list[int]]]] = [[]]
        for title, places in self.groups:
            widest = FIRST_BLOCK if len(found) == 1 else NEXT_BLOCKS
            room = widest - sum(len(own) for _, own in found[-1])
            if found[-1] and len(places) > room:
                found.append([])
            found[-1].append((title, places))
        return found

    @property
    def ball_text(self) -> str:
        """The ball in words."""
        return f"{NORMS[self.ball[0]]} ε = {with_unit(self.ball_strength)}" if self.ball else ""

    @property
    def notes(self) -> list[str]:
        """What the black-box and the last columns mean."""
        knows = (
            "unaware: the attacker does not know the defence, or attacks as published; in the other columns he knows it"
        )
        refused = "an input that the detector refuses counts as robust, also a clean one: see the table of the defence"
        found = [knows] if any(column.attacker == "unaware" for column in self.columns) else []
        found += [refused] if self.refuses else []
        own = f"black-box: the strongest result of examples made on the attacker's own {', '.join(self.attackers)}"
        found += [own] if self.attackers else []
        if self.ball is None:
            return found
        worst = "share of inputs that survive every row" if self.per_image else "the lowest row"
        return [
            *found,
            f"transfer: the strongest attack made on another model of the run, {self.ball_text}",
            f"worst: {worst}, all attacks and transfers together, {self.ball_text}",
        ]

    @property
    def legend(self) -> list[str]:
        """The notes, and every letter's meaning."""
        return [*self.notes, *(f"{marks_of([flag])} {flag}: {explanation(flag)}" for flag in self.flags)]

    @property
    def verdicts(self) -> list[str]:
        """One sentence a line: how robust, and whether the columns may be believed."""
        shown = "" if self.metric == "accuracy" else f", {self.metric}"
        return [_verdict(line, self.columns, self.ball_text, shown) for line in self.lines if line.worst is not None]

    def column(self, head: str, text: Callable[[HeadlineRow], str], number: bool = True) -> Column:
        """A column of every line's text."""
        return column_of(self.lines, head, text, number)

    def name_columns(self) -> tuple[Column, ...]:
        """What a line is: run, model, victim, weight bits."""
        return (
            self.column("run", lambda line: line.run, number=False),
            self.column("model", lambda line: line.model, number=False),
            self.column("victim", lambda line: line.victim, number=False),
            self.column("bits", lambda line: line.bits_text, number=False),
        )

    def attack_columns(self, text: Callable[[Number | None], str]) -> tuple[Column, ...]:
        """The accuracies beside `columns`, under their strength."""
        cells = zip(*(map(text, line.attacked) for line in self.lines), strict=True)
        return tuple(Column(attack.strength, found) for attack, found in zip(self.columns, cells, strict=True))


def headline(runs: Sequence[Results]) -> Headline:
    """The headline table of one or several runs."""
    rows = [row for results in runs for row in results.rows]
    columns = attack_columns(rows)
    ball = headline_ball(rows)
    lines = tuple(
        _line(results, key, columns, ball)
        for results in runs
        for key in dict.fromkeys((row.model, row.victim, row.bits) for row in results.rows)
    )
    return Headline(
        columns=columns,
        lines=lines,
        ball=ball,
        per_image=all(results.worst for results in runs),
        setting=_setting(runs),
        flags=_ordered(flag for line in lines for flag in (*line.flags, *_beside(line))),
        attackers=tuple(dict.fromkeys(row.source for row in rows if made_apart(row))),
        ball_strength=next((strength_of(row) for row in rows if row.attack != CLEAN and row.ball == ball), ""),
        unit_note=unit_note(rows, runs[0].step),
        metric=metric_of(rows),
        refuses=any(row.refused is not None for row in rows),
    )


def victim_name(model: str, victim: str, bits: float | None) -> str:
    """What is attacked, in words: `F.L.+mu bitsim, 3 bits`."""
    return f"{model} {victim}" + ("" if bits is None else f", {bits:g} bits")


def metric_of(rows: Iterable[Row]) -> str:
    """What the rows' numbers are the share of; all of it where runs of several tasks stand side by side."""
    return " / ".join(dict.fromkeys(row.metric for row in rows)) or "accuracy"


def _verdict(line: HeadlineRow, columns: Sequence[AttackColumn], ball: str, metric: str) -> str:
    """The worst case, and every column that is spoilt with what spoils it."""
    worst, clean = line.worst, line.clean
    reached = f"worst case {percent(worst.accuracy)} %" if worst else ""
    start = f"clean {percent(clean.accuracy)} %, " if clean else ""
    shown = zip(columns, line.attacked, strict=True)
    known = [(c, n) for c, n in shown if n is not None and c.attacker == "aware"]
    spoilt = [f"{c.title} {c.strength} ({', '.join(n.flags)})" for c, n in known if n.flags]
    trust = f"do not believe {'; '.join(spoilt)}" if spoilt else "no flag: you can believe the columns"
    return f"{line.name}{metric}: {start}{reached} within {ball}; {trust}"


def unbounded_checks(results: Results) -> list[str]:
    """One sentence per unbounded attack: it must fool every model always, else it is broken."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        if row.attack != CLEAN and row.knowledge != "transfer" and not made_apart(row) and not is_bounded(row):
            groups.setdefault((row.attack, strength_of(row)), []).append(row)
    return [_check(*key, rows) for key, rows in groups.items()]


def worst_curve(results: Results, model: str, victim: str, norm: str = "linf") -> dict[str, tuple[float, float]]:
    """ε in words -> (ε in LSBs, worst case) of one victim, ε rising, bounded attacks only."""
    rows = {
        row.ball: row
        for row in results.rows
        if (row.model, row.victim, row.norm) == (model, victim, norm) and row.attack != CLEAN and is_bounded(row)
    }
    points = [(row.epsilon_lsb, strength_of(row), _worst(results, model, victim, ball)) for ball, row in rows.items()]
    points.sort(key=lambda point: point[0])
    return {text: (epsilon, number.accuracy) for epsilon, text, number in points if number is not None}


def percent(accuracy: float) -> str:
    """Per cent with one decimal."""
    return f"{100 * accuracy:.1f}"


def marked(accuracy: float, marks: str) -> str:
    """Per cent, and the flags' letters behind it."""
    return f"{percent(accuracy)} {marks}".strip()


def marks_of(flags: Iterable[str]) -> str:
    """Flags as letters; a question mark for one this version does not know."""
    return "".join(MARKS.get(flag, "?") for flag in flags)


def explanation(flag: str) -> str:
    """A flag in plain words."""
    return next((text for known, text in EXPLANATIONS.items() if known == flag), "not known to this version")


def run_notes(runs: Sequence[Results], named: bool) -> list[str]:
    """Exactness, unbounded checks and the attacks' settings of every run, begun with its name if `named`."""
    return [
        f"{results.run}: {text}" if named else text
        for results in runs
        for text in (
            *task_texts(results),
            *error_texts(results),
            exactness_text(results.exactness),
            *rtl_text(results.plain.get("rtl")),
            *unbounded_checks(results),
            *certificate_texts(results),
            *(f"{attack.attack}: {attack.describe()}" for attack in results.attacks),
        )
    ]


def task_texts(results: Results) -> list[str]:
    """The task in one sentence; nothing for plain classification."""
    told = (results.plain.get("task") or {}).get("told", "")
    return [told] if told and metric_of(results.rows) != "accuracy" else []


def exactness_text(gate: dict[str, Any]) -> str:
    """The gate's figures, as results.json has them, in one sentence."""
    if not gate:
        return "exactness: not checked in this run"
    if isinstance(gate.get("told"), str):  # there is no accelerator
        return str(gate["told"])
    engine = gate.get("engine") or gate.get("candidate") or "the accelerator"
    if gate.get("exactness") == "reported":
        return _reported_text(gate, engine)
    text = (
        f"exactness: {gate.get('mismatched_outputs', '?')} outputs of {engine} differ from the quantized model over "
        f"{gate.get('inputs', '?')} inputs, {gate.get('adversarial_inputs', '?')} of them adversarial"
    )
    judged = gate.get("csim_inputs")
    return text if judged is None or engine == "csim" else f"{text}; csim was compared on {judged} of them too"


def _reported_text(gate: dict[str, Any], engine: str) -> str:
    """The figures of a run whose accelerator need not be its model."""
    told = (gate.get("model_difference") or {}).get("told", "there is no model to compare the accelerator with")
    compared = f"{gate.get('mismatched_outputs', '?')} outputs of bitsim differ from csim's"
    simulators = "only csim was run" if engine == "csim" else compared
    return f"exactness: {told}. The attacks are on the accelerator's own bits; {simulators}"


def _line(
    results: Results, key: tuple[str, str, float | None], columns: Sequence[AttackColumn], ball: Ball | None
) -> HeadlineRow:
    model, victim, bits = key
    rows = [row for row in results.rows if (row.model, row.victim, row.bits) == key]
    clean = _lowest(row for row in rows if row.attack == CLEAN)
    attacked = tuple(_lowest(row for row in rows if column.holds(row)) for column in columns)
    transfer = _lowest(row for row in rows if row.knowledge == "transfer" and not has_column(row) and row.ball == ball)
    worst = _worst(results, model, victim, ball) if ball else None
    aware = (number for number, column in zip(attacked, columns, strict=True) if column.attacker == "aware")
    shown = [number for number in (clean, *aware, transfer, worst) if number is not None]
    flags = _ordered(flag for number in shown for flag in number.flags)
    return HeadlineRow(results.run, model, victim, bits, clean, attacked, transfer, worst, flags)


def _beside(line: HeadlineRow) -> list[str]:
    """Flags of all numbers of a line, an unaware attacker's among them."""
    return [flag for number in line.attacked if number is not None for flag in number.flags]


def _worst(results: Results, model: str, victim: str, ball: Ball) -> Number | None:
    lowest = _lowest(
        row
        for row in results.rows
        if (row.model, row.victim) == (model, victim) and row.attack != CLEAN and row.ball == ball
    )
    if lowest is None:
        return None
    # no flags: they say that a number is too high, and a minimum over all rows is not raised by one broken attack
    return Number(min(results.worst.get((model, victim, ball), 1.0), lowest.accuracy))


def _lowest(rows: Iterable[Row]) -> Number | None:
    row = min(rows, key=lambda row: row.accuracy, default=None)
    return None if row is None else Number(row.accuracy, row.flags, row)


def _check(attack: str, epsilon: str, rows: Sequence[Row]) -> str:
    bound = "no bound" if epsilon == "∞" else f"ε = {with_unit(epsilon)}"
    name = f"unbounded check: {attack}, {bound}"
    standing = [row for row in rows if row.accuracy > 0]
    if not standing:
        return f"{name}, leaves 0.0 % on all {len(rows)} victims, as it should"
    left = ", ".join(f"{row.model}/{row.victim} {percent(row.accuracy)} %" for row in standing)
    return f"{name}, should leave 0 % but leaves {left}"


def _setting(runs: Sequence[Results]) -> str:
    """n and seed, per run where they differ."""

    def say(results: Results) -> str:
        n = _values(row.n for row in results.rows)
        return f"n = {n}, seed {_values(row.seed for row in results.rows if row.attack != CLEAN) or '–'}"

    texts = {results.run: say(results) for results in runs}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{run}: {text}" for run, text in texts.items())


def _values(values: Iterable[int]) -> str:
    return "/".join(str(value) for value in sorted(set(values)))


def _ordered(flags: Iterable[str]) -> tuple[str, ...]:
    """Each flag once, known ones in the order of their explanations."""
    order = list(MARKS)
    return tuple(sorted(set(flags), key=lambda flag: (order.index(flag) if flag in order else len(order), flag)))
