"""What a tables config means, that the published ones are in order, and that a wrong one is told in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Cli
from tiny_tables import FGSM, TABLES, write

from hw.experiment.config import load_config
from hw.tables.config import base_experiment, dump_tables, load_tables, row_configs
from hw.tables.published import published_tables

ROOT = Path(__file__).parents[3]
NAMES = ("mnist", "cifar10", "cifar10_full")


@pytest.mark.parametrize("name", NAMES)
def test_our_tables_have_every_published_row_and_column(name: str) -> None:
    config = load_tables(name)
    columns = {(column.table, column.title) for column in config.columns} | {("white-box", "Clean")}
    rows = {row.label for row in config.rows} | {f"{row.label} (Q)" for row in config.rows}
    published = published_tables(config.published)
    assert len(published) == 12 * 7 + 12 * 6
    assert {(table, column) for table, _, column in published} <= columns
    assert {row for _, row, _ in published} <= rows


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_what_their_labels_say(name: str) -> None:
    config = load_tables(name)
    for row, run in zip(config.rows, row_configs(config), strict=True):
        assert row.label.endswith("+mu") == (run.mapping.mu > 0)
        assert run.quantization.weight_bits == 3
        if "," not in row.label and row.label != "Robust recipe":
            assert run.mapped_label == row.label
            assert run.training.quantization_aware is None  # published: rounded after training


def test_published_numbers_are_those_of_the_source() -> None:
    assert published_tables("mnist")["white-box", "Adv. (Q)", "Clean"] == pytest.approx(0.4269)
    assert published_tables("cifar10")["black-box", "F.L.+mu", "Normal"] == pytest.approx(0.736)
    assert published_tables(None) == {}


def test_the_robust_recipe_is_that_of_its_own_config() -> None:
    config = load_tables("mnist")
    ours = row_configs(config)[[row.label for row in config.rows].index("Robust recipe")]
    recipe = load_config(ROOT / "configs" / "mnist_robust.yaml")
    assert (ours.model, ours.training, ours.quantization) == (recipe.model, recipe.training, recipe.quantization)


def test_columns_of_one_attack_are_one_plan(tmp_path: Path) -> None:
    strong = {"title": "FGSM (s)", "table": "white-box", **FGSM, "epsilon_lsb": 4}
    config = load_tables(str(write(tmp_path, columns=[*TABLES["columns"], strong])))
    plans = config.evaluation().attacks
    assert [(plan.attack.kind, plan.epsilons_lsb, plan.samples) for plan in plans] == [
        ("fgsm", (4.0, 8.0), 24),
        ("worst-case", (8.0,), 16),
        ("uniform", (8.0,), 16),
    ]
    assert (config.evaluation().samples, config.evaluation().clean_samples) == (16, 24)


def test_a_trial_has_fewer_attacks_and_images(tmp_path: Path) -> None:
    config = load_tables(str(write(tmp_path)), {"training.epochs": 1}, ["fgsm", "uniform"], 10)
    assert [(plan.attack.kind, plan.samples) for plan in config.evaluation().attacks] == [("fgsm", 10), ("uniform", 10)]
    assert {run.training.epochs for run in row_configs(config)} == {1}


def test_a_row_can_have_fewer_images_and_float_can_be_asked(tmp_path: Path) -> None:
    rows = [{"label": "few", "samples": 5}, {"label": "all"}]
    changes = {"rows": rows, "bits_study": None, "mapping_study": None, "ask_float": True}
    few, everything = row_configs(load_tables(str(write(tmp_path, **changes))))
    assert {plan.samples for plan in few.evaluation.attacks} == {few.evaluation.samples} == {5}
    assert {plan.samples for plan in everything.evaluation.attacks} == {16, 24}
    assert few.evaluation.ask_float and everything.evaluation.ask_float


def test_the_resolved_config_means_the_same(tmp_path: Path) -> None:
    config = load_tables(str(write(tmp_path, fixed={"seed": 3})), {"training.epochs": 1})
    resolved = tmp_path / "resolved"
    resolved.mkdir()
    (resolved / "tables.yaml").write_text(dump_tables(config))
    (resolved / "experiment.yaml").write_text(base_experiment(config))
    assert row_configs(load_tables(str(resolved))) == row_configs(config)
    assert row_configs(config)[0].seed == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [{"label": "a b"}, {"label": "a-b"}]}, "rows: 2 of them are named 'a_b'"),
        ({"rows": [{"label": "Orig.", "set": {"trainin.epochs": 1}}]}, "row Orig.: trainin: unknown key; did you mean"),
        ({"rows": [{"label": "Orig.", "set": {"mapping.mu": -1}}]}, "row Orig.: mapping.mu"),
        ({"rows": [{"label": "Orig.", "lines": ["flaot"]}]}, "did you mean 'float'"),
        ({"columns": [TABLES["columns"][0]] * 2}, "columns: 2 of them are named 'white-box FGSM (w)'"),
        ({"columns": [{**TABLES["columns"][0], "epsilon_lsb": 0.3}]}, "0.3 of the pixel range is 76.8 LSB"),
        ({"columns": [{**TABLES["columns"][0], "table": "grey-box"}]}, "grey-box"),
        ({"black_box": []}, "black_box: the black-box table needs"),
        ({"black_box": [{"name": "apart"}]}, "apart needs its own model and training"),
        ({"bits_study": {"rows": ["Orig"]}}, "a study names the row 'Orig'; did you mean 'Orig.'"),
        (
            {"columns": [*TABLES["columns"], {"title": "x", "table": "black-box", **FGSM, "samples": 9}]},
            "in one ball with",
        ),
        ({"rows": [{"label": "Orig."}, {"label": "b", "set": {"seed": 1}}]}, "row b: seed and data are those of the"),
        ({"rows": [{"label": "Orig.", "set": {"mapping.mu": 3}}]}, "row Orig.: studies start from the float model"),
        ({"experiment": "missing.yaml"}, "missing.yaml: no such file"),
        ({"published": "imagenet"}, "imagenet"),
        (
            {"published": "mnist", "rows": [{"label": "Orig.", "beside": "Orig"}]},
            "Orig. is compared with 'Orig'; did you mean 'Orig.'",
        ),
        ({"published": None, "rows": [{"label": "Orig.", "beside": "Adv."}]}, "published is not set"),
        ({"fixed": {"data.name": "nowhere"}}, "unknown data set 'nowhere'"),
    ],
)
def test_a_wrong_config_is_told_and_nothing_is_written(cli: Cli, changes: dict[str, Any], told: str) -> None:
    config = write(cli.folder, **changes)
    assert told in cli.refuses("tables", config, "--out", cli.folder / "out")


def test_wrong_arguments_are_told(cli: Cli) -> None:
    config = write(cli.folder)
    assert "did you mean 'mnist'" in cli.refuses("tables", "minst")
    assert "--attacks: 'pgd' is in no column" in cli.refuses("tables", config, "--attacks", "pgd")
    assert "must look like section.key=value" in cli.refuses("tables", config, "--set", "seed")
    (cli.folder / "other").mkdir()
    (cli.folder / "other" / "thesis.txt").write_text("mine")
    assert "not empty, and not made by robust-hls" in cli.refuses("tables", config, "--out", "other")
