"""Finished runs as values: results.json checked, synthesis.json, rtl.json, and what else a report needs of a folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw.experiment.ball import Ball
from hw.report.schema import FILES, ResultsPart
from hw.synth.record import stored_synthesis
from hw.synth.rtl_record import cost_with_rtl, stored_rtl
from qmodels.errors import UserError
from qmodels.metrics.masking import Row
from qmodels.shapes import check_shape
from qmodels.storage import read_json

SCHEMA = 1
NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0", "none": "no norm"}


@dataclass(frozen=True)
class AttackSettings:
    """An attack's parameters, under the name its rows have."""

    attack: str
    epsilons_lsb: tuple[float, ...]
    settings: dict[str, Any]

    def describe(self, epsilon_lsb: float | None = None) -> str:
        """The settings in one line, for example `steps=40 step_lsb=2.5`; of step lengths the one at `epsilon_lsb`."""
        lengths = self.settings.get("step_lsb")  # worked out for every ε
        if isinstance(lengths, list) and epsilon_lsb in self.epsilons_lsb and len(lengths) == len(self.epsilons_lsb):
            return _pairs(self.settings | {"step_lsb": lengths[self.epsilons_lsb.index(epsilon_lsb)]})
        return _pairs(self.settings)


@dataclass(frozen=True)
class Results:
    """One run's results.json, and what was synthesized of it."""

    run: str
    rows: tuple[Row, ...]
    worst: dict[tuple[str, str, Ball], float] = field(default_factory=dict)  # model, victim, ball -> accuracy
    attacks: tuple[AttackSettings, ...] = ()
    exactness: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)  # as it was read, `synthesis` and `rtl` added

    @property
    def step(self) -> float | None:
        """Value of one grid step of the input; None where several inputs have different ones."""
        told = self.plain.get("input")
        step = told["step"] if isinstance(told, dict) and "step" in told else 1 / 256
        return None if isinstance(step, list) else float(step)

    @property
    def pictures(self) -> bool:
        """Whether inputs are 8-bit pictures, whose pixels are shares of 256."""
        return self.plain.get("input") is None and self.step == 1 / 256

    @property
    def model_differs(self) -> bool:
        """Whether nothing promises that the model computes what the accelerator does."""
        return bool(self.exactness.get("exactness") == "reported")

    def settings_of(self, row: Row) -> str:
        """The parameters of the row's attack; empty for clean rows and where results.json does not tell."""
        named = [known for known in self.attacks if known.attack == row.attack]
        exact = [known for known in named if row.epsilon_lsb in known.epsilons_lsb]
        return next((known.describe(row.epsilon_lsb) for known in exact or named), "")


@dataclass(frozen=True)
class FinishedRun:
    """A run folder; what is missing there, apart from results.json, is None."""

    results: Results
    config: str | None = None
    environment: Any = None
    training: Any = None
    mapping: Any = None
    quantization: Any = None
    project: Any = None
    examples: Any = None
    overflow: Any = None


def load_run(folder: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        UserError: there is no results.json in the folder, or a file was damaged or edited: names its key.
    """
    path = folder / "results.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if not path.exists():
        raise UserError(f"{folder}: no results.json in this folder; finish the run with `robust-hls evaluate {folder}`")
    plain = read_json(path)
    extras = {name: _optional_json(folder / f"{name}.json", shape) for name, shape in FILES.items()}
    if isinstance(plain, dict) and (synthesis := stored_synthesis(folder)) is not None:
        plain["synthesis"] = synthesis
    if isinstance(plain, dict) and (rtl := stored_rtl(folder)) is not None:
        plain |= {"rtl": rtl, "cost": cost_with_rtl(plain.get("cost"), rtl)}
    config = None
    with suppress(OSError, UnicodeDecodeError):
        config = (folder / "config.yaml").read_text(encoding="utf-8")
    return FinishedRun(parse_results(plain, str(path)), config, **extras)


def parse_results(plain: Any, where: str = "results.json") -> Results:
    """Check and read what results.json holds.

    Raises:
        UserError: another schema, or not the shape of results.json.
    """
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise UserError(
            f"{where}: not a results.json of schema {SCHEMA}; run `robust-hls evaluate` on the run folder again"
        )
    check_shape(ResultsPart, plain, where)
    try:
        return Results(
            run=str(plain["run"]),
            rows=tuple(Row.from_json(row) for row in plain["rows"]),
            worst={
                (item["model"], item["victim"], _ball(item)): item["accuracy"] for item in plain.get("worst_case", [])
            },
            attacks=tuple(
                AttackSettings(item["attack"], tuple(map(_epsilon, item["epsilons_lsb"])), dict(item["settings"]))
                for item in plain.get("attacks", [])
            ),
            exactness=dict(plain.get("exactness", {})),
            plain=plain,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: damaged ({type(error).__name__}: {error})") from None


def _epsilon(value: float | None) -> float:
    return float("inf") if value is None else float(value)


def _ball(item: dict[str, Any]) -> Ball:
    unit = str(item.get("epsilon_unit", "lsb"))
    return item["norm"], _epsilon(item["epsilon_lsb" if unit == "lsb" else "epsilon"]), unit


def _optional_json(path: Path, shape: Any) -> Any:
    if not path.exists():
        return None
    plain = read_json(path)
    check_shape(shape, plain, str(path))
    return plain


def _pairs(settings: dict[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in settings.items() if key != "kind" and value is not None)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_short(item) for item in value)
    if isinstance(value, dict):  # an attack inside another one
        return f"{value.get('kind', '')}({_pairs(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)
