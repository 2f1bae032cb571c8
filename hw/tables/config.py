"""What `robust-hls tables` reads: an experiment, the rows that differ from it, and the columns of the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

import hw
from hw.experiment.config import RunConfig, dump_config, load_config
from hw.experiment.config_text import Section, parse_config, parse_mapping, read_text
from hw.experiment.evaluation_config import AttackPlan, BlackBoxModel, EvaluationConfig, EvaluationPlan, check_epsilon
from hw.experiment.settings import Settings, abridged
from hw.tables.published import published_tables
from qmodels.attacks import AnyAttack, Attack
from qmodels.errors import UserError, allowed_names
from qmodels.metrics.masking import Attacker

TABLES_FILE, EXPERIMENT_FILE = "tables.yaml", "experiment.yaml"
TableName = Literal["white-box", "black-box"]
LineKind = Literal["float", "quantized", "accelerator"]
LINES: tuple[LineKind, ...] = ("float", "quantized", "accelerator")


class TableColumn(Section):
    """One attack at one strength, in one of the two tables. The worst case is in neither's original."""

    title: str = Field(min_length=1)
    table: TableName
    attack: AnyAttack
    epsilon_lsb: float
    samples: int | None = Field(None, ge=1, description="test images; left out: samples")
    attacker: Attacker = Field("aware", description="unaware: examples made without knowing the row's defence")

    @model_validator(mode="after")
    def _fits(self) -> TableColumn:
        check_epsilon(self.attack, self.epsilon_lsb, f"{self.title}: epsilon_lsb")
        return self

    @property
    def is_worst_case(self) -> bool:
        """Whether the number is the per-image minimum over every row in that ball."""
        return self.attack.family == "worst-case"


class TableRow(Section):
    """A model: its name in the tables and what it has otherwise than the experiment."""

    label: str = Field(min_length=1, max_length=40)
    set: dict[str, Any] = Field({}, description="dotted config keys and their values")
    lines: tuple[LineKind, ...] = Field(LINES, min_length=1, description="which of its three forms are shown")
    samples: int | None = Field(None, ge=1, description="most test images of every attack on it; left out: no limit")
    beside: str | None = Field(None, description="the published row it is compared with; default: label")

    @property
    def slug(self) -> str:
        """The label as the name of a folder."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.label).strip("_") or "row"


class BitsStudy(Section):
    """Accuracy over the number of weight bits: trained models, rounded after training."""

    rows: tuple[str, ...] = Field(min_length=1, description="labels of rows")
    bits: tuple[int, ...] = Field((2, 3, 4, 5, 6, 8), min_length=1)
    attacks: tuple[AttackPlan, ...] = ()


class MappingStudy(Section):
    """The µ-law on few layers of trained float models, attacked with and without gradients of their own."""

    rows: tuple[str, ...] = Field(min_length=1, description="labels of rows")
    mus: tuple[float, ...] = Field((0, 3, 15, 63, 255), min_length=1)
    layers: tuple[str, ...] = Field(("last-1",), min_length=1)
    attacks: tuple[AttackPlan, ...] = ()


class TransferStudy(Section):
    """Examples made on every float and quantized form of some rows, tried on all of them."""

    rows: tuple[str, ...] = Field(min_length=1, description="labels of rows")
    attack: AnyAttack
    epsilon_lsb: float

    @model_validator(mode="after")
    def _fits(self) -> TransferStudy:
        check_epsilon(self.attack, self.epsilon_lsb, "transfer_study.epsilon_lsb")
        if self.attack.knowledge != "white-box" or self.attack.family == "worst-case":
            raise ValueError(
                f"transfer_study: {self.attack.kind} does not follow gradients; take pgd-linf, for example"
            )
        return self


class TablesConfig(Section):
    """The tables of one data set."""

    name: str = Field("tables", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="folder's name")
    experiment: Path = Field(description="a config of `robust-hls run`, which all rows share")
    published: Literal["mnist", "cifar10"] | None = Field(
        None, description="published tables that ours are compared with"
    )
    fixed: dict[str, Any] = Field({}, description="dotted config keys set for every row")
    samples: int = Field(1000, ge=1, description="test images of attacks that name no number, and of studies")
    rows: tuple[TableRow, ...] = Field(min_length=1)
    columns: tuple[TableColumn, ...] = Field(min_length=1)
    black_box: tuple[BlackBoxModel, ...] = Field((), description="the attacker's own models, trained once for all rows")
    bits_study: BitsStudy | None = None
    mapping_study: MappingStudy | None = None
    transfer_study: TransferStudy | None = None
    ask_float: bool = Field(False, description="as evaluation.ask_float, for every row")
    measures: bool = Field(False, description="distances, shift, gradients, defences and cost, in measures.csv")

    @model_validator(mode="after")
    def _consistent(self) -> TablesConfig:
        _unique("rows", [row.slug for row in self.rows])
        _unique("columns", [f"{column.table} {column.title}" for column in self.columns])
        self._refuse_twins()
        self._refuse_unpublished()
        labels = [row.label for row in self.rows]
        for study in (self.bits_study, self.mapping_study, self.transfer_study):
            for label in study.rows if study else ():
                if label not in labels:
                    raise ValueError(f"a study names the row {label!r}{allowed_names(label, labels)}")
        for model in self.black_box:
            if model.model is None or model.training is None:
                raise ValueError(f"black_box: {model.name} needs its own model and training: it is one for all rows")
        if not self.black_box and any(needs_black_box(column) for column in self.columns):
            raise ValueError("black_box: the black-box table needs at least one model of the attacker's own")
        return self

    def _refuse_unpublished(self) -> None:
        """A wrong name would silently give no comparison."""
        rows = {row for _, row, _ in published_tables(self.published) if not row.endswith(" (Q)")}
        allowed = sorted(rows) or ["none, as published is not set"]
        for row in self.rows:
            if row.beside is not None and row.beside not in rows:
                raise ValueError(
                    f"rows: {row.label} is compared with {row.beside!r}{allowed_names(row.beside, allowed)}"
                )

    def _refuse_twins(self) -> None:
        """One attack in one ball is one row of the results, on one number of images."""
        known: dict[tuple[str, float], TableColumn] = {}
        for column in self.columns:
            first = known.setdefault((column.attack.digest, column.epsilon_lsb), column)
            asked = [c.samples or self.samples for c in (first, column)]
            if asked[0] != asked[1]:
                raise ValueError(
                    f"columns: {first.title} ({first.table}) and {column.title} ({column.table}) are one attack in one "
                    "ball with different samples; keep one of them, or give both the same"
                )

    def evaluation(self) -> EvaluationConfig:
        """What every row's run attacks: columns of one attack and number of images are one plan."""
        plans: dict[tuple[Attack, int], list[float]] = {}
        for column in self.columns:
            radii = plans.setdefault((column.attack, column.samples or self.samples), [])
            if column.epsilon_lsb not in radii:
                radii.append(column.epsilon_lsb)
        attacks = tuple(
            EvaluationPlan(attack=attack, epsilons_lsb=tuple(sorted(radii)), samples=samples)
            for (attack, samples), radii in plans.items()
        )
        most = max(samples for _, samples in plans)
        return EvaluationConfig(
            samples=min(self.samples, most),
            clean_samples=most,
            attacks=attacks,
            black_box=self.black_box,
            ask_float=self.ask_float,
        )


def needs_black_box(column: TableColumn) -> bool:
    """Whether a column's examples are made on the attacker's own models; noise and queries are made on none."""
    return column.table == "black-box" and column.attack.knowledge == "white-box"


def _unique(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: {names.count(name)} of them are named {name!r}; give each its own name")


def load_tables(
    target: str, settings: Settings | None = None, attacks: Sequence[str] = (), images: int | None = None
) -> TablesConfig:
    """Read and check a tables config; a relative `experiment` or `base` is beside the file.

    Args:
        target: a name (`mnist`: configs/tables_mnist.yaml here or in the checkout; of several that begin with it the
            first), the path of a YAML file, or the folder of earlier tables.
        settings: dotted keys of every row's experiment and their values.
        attacks: kinds of attack that are kept; empty: all.
        images: most test images of any attack, for a trial.

    Raises:
        UserError: names the file, the key, and what is allowed.
    """
    config = _parsed(_found(target))
    changes: dict[str, Any] = {}
    if settings:
        changes["rows"] = tuple(row.model_copy(update={"set": {**row.set, **settings}}) for row in config.rows)
    if attacks:
        changes["columns"] = _only(config.columns, attacks)
    config = config.model_copy(update=changes)
    return config if images is None else _fewer(config, images)


def _parsed(path: Path) -> TablesConfig:
    """The config in a file; what it does not have is taken from the file that it names as its `base`."""
    text = read_text(path)
    own = parse_mapping(TablesConfig, text, str(path))
    base = own.pop("base", None)
    if base is None:
        config, there = parse_config(TablesConfig, text, str(path)), path
    elif not isinstance(base, str):
        raise UserError(f"{path}: base: must be the path of another tables config; got {abridged(base)}")
    else:
        there = path.parent / base
        text = read_text(there)
        if "base" in parse_mapping(TablesConfig, text, str(there)):
            raise UserError(f"{path}: base: {there} has a base itself; name that one, and what differs from it")
        config = parse_config(TablesConfig, text, str(there), own, str(path))
    beside = path if "experiment" in own else there
    return config.model_copy(update={"experiment": beside.parent / config.experiment})  # an absolute one stays


def _found(target: str) -> Path:
    path = Path(target)
    if path.is_dir() and (path / TABLES_FILE).is_file():
        return path / TABLES_FILE
    if path.suffix in (".yaml", ".yml"):
        return path
    name = Path("configs") / f"tables_{target}.yaml"
    checkout = Path(hw.__file__).resolve().parent.parent
    found = next((place for place in (name, checkout / name) if place.is_file()), None)
    if found is None and (longer := sorted(checkout.glob(f"configs/tables_{target}_*.yaml"))):
        return longer[0]  # goliath: goliath_cifar10, whose data everyone can get
    if found is None:
        known = sorted(p.stem.removeprefix("tables_") for p in (checkout / "configs").glob("tables_*.yaml"))
        also = "the path of a .yaml file", "the folder of earlier tables"
        raise UserError(f"{target}: no such tables{allowed_names(target, known, *also)}")
    return found


def _only(columns: tuple[TableColumn, ...], attacks: Sequence[str]) -> tuple[TableColumn, ...]:
    known = list(dict.fromkeys(column.attack.kind for column in columns))
    for kind in attacks:
        if kind not in known:
            raise UserError(f"--attacks: {kind!r} is in no column{allowed_names(kind, known)}")
    return tuple(column for column in columns if column.attack.kind in attacks)


def _fewer(config: TablesConfig, images: int) -> TablesConfig:
    columns = tuple(
        column.model_copy(update={"samples": min(column.samples or config.samples, images)})
        for column in config.columns
    )
    return config.model_copy(update={"columns": columns, "samples": min(config.samples, images)})


def base_experiment(config: TablesConfig) -> str:
    """The experiment with `fixed`, resolved, as YAML."""
    return dump_config(load_config(config.experiment, config.fixed, "fixed:"))


def row_configs(config: TablesConfig) -> list[RunConfig]:
    """Every row as the config of an ordinary run: the experiment, `fixed`, the row's `set`.

    Raises:
        UserError: a key or value the experiment does not know.
    """
    text = base_experiment(config)
    found = []
    for row in config.rows:
        where = f"{config.experiment}, row {row.label}"
        run = parse_config(RunConfig, text, where, {**row.set, "name": row.slug}, f"{where}:")
        evaluation = (config if row.samples is None else _fewer(config, row.samples)).evaluation()
        merged = evaluation.model_copy(update={"check_convergence": run.evaluation.check_convergence})
        found.append(run.model_copy(update={"evaluation": merged}))
    _refuse_rows(config, found)
    return found


def _refuse_rows(config: TablesConfig, runs: Sequence[RunConfig]) -> None:
    """Rows that would spoil what all share, or of which a study would show another model."""
    studied = {label for study in (config.bits_study, config.mapping_study) if study for label in study.rows}
    for row, run in zip(config.rows, runs, strict=True):
        where = f"{config.experiment}, row {row.label}"
        if config.black_box and (run.seed, run.data) != (runs[0].seed, runs[0].data):
            raise UserError(f"{where}: seed and data are those of the black_box models; set them for all rows (fixed)")
        if row.label in studied and (run.mapping.mu > 0 or run.training.quantization_aware is not None):
            raise UserError(
                f"{where}: studies start from the float model, before mapping and quantization-aware training; "
                "name a row without them"
            )


def dump_tables(config: TablesConfig) -> str:
    """The resolved tables config as YAML, beside an experiment file of its own that has `fixed` in it."""
    own = config.model_copy(update={"experiment": Path(EXPERIMENT_FILE), "fixed": {}})
    return yaml.safe_dump(own.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
