"""Tables of defended rows: both attackers' columns, what lies behind the numbers, and the transfer matrix."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import Cli
from PIL import Image
from tiny_tables import FGSM, write

from hw.experiment.preflight import check_run
from hw.report.step import FLOW
from hw.tables.config import load_tables, row_configs
from hw.tables.rows import row_runs
from qmodels.errors import UserError

WORST = {"attack": {"kind": "worst-case", "attacks": [{"kind": "square", "queries": 5}]}, "epsilon_lsb": 8}
SQUEEZED = {"defence": {"kind": "feature-squeezing", "squeezing": {"bits": 2, "window": 2, "role": "filter"}}}


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.timeout(900)
def test_a_defended_row(cli: Cli) -> None:
    columns = [
        {"title": f"{name}{suffix}", "table": "white-box", "attacker": who, **attack}
        for name, attack in (("FGSM", FGSM), ("worst", WORST))
        for who, suffix in (("aware", ""), ("unaware", " (unaware)"))
    ]
    study = {"rows": ["squeezed"], "attack": {"kind": "fgsm"}, "epsilon_lsb": 8}
    config = write(
        cli.folder, rows=[{"label": "squeezed", "set": SQUEEZED}], columns=columns, published=None, measures=True,
        transfer_study=study, bits_study=None, mapping_study=None, black_box=[],
    )  # fmt: skip
    outcome = cli("tables", config, "--out", cli.folder / "out")
    assert outcome.status == 0, outcome.err
    results = json.loads((cli.folder / "out" / "results.json").read_text())
    assert results["rows"]["squeezed"]["exactness"]["mismatched_outputs"] == 0
    cells = {(cell["line"], cell["column"]): cell for cell in results["cells"]}
    assert len(cells) == 3 * 5
    for line in ("quantized", "accelerator"):
        assert cells[line, "FGSM (unaware)"]["source"] == "Orig./quantized" and cells[line, "FGSM"]["n"] == 24
        assert cells[line, "worst"]["accuracy"] <= cells[line, "worst (unaware)"]["accuracy"]
    matrix = {(r["made_on"], r["tried_on"]): r["accuracy"] for r in results["studies"]["transfer"]}
    forms = "squeezed float", "squeezed quantized"
    assert set(matrix) == {(a, b) for a in forms for b in forms}

    text = (cli.folder / "out" / "tables.md").read_text()
    for title in (
        "Distance to the boundary",
        "Defences: what each attacker leaves",
        "Transfer: accuracy",
        "Gradients, shift",
    ):
        assert title in text
    with (cli.folder / "out" / "measures.csv").open() as file:
        read = list(csv.DictReader(file))
    assert {"boundary_distance", "example_changes", "defence", "cost", "gradients", "transfer"} <= {
        r["kind"] for r in read
    }
    carried = [float(r["value"]) for r in read if r["kind"] == "transfer" and r["figure"] == "accuracy"]
    assert sorted(carried) == sorted(matrix.values())


SIX = {"adversarial", "ensemble", "sinkhorn", "distillation", "feature-squeezing", "pixeldefend"}


@pytest.mark.parametrize(
    ("name", "size", "classes", "missing"),
    [("cifar10", 32, 10, set()), ("vww", 96, 2, {"pixeldefend"}), ("coffee", 224, 4, {"pixeldefend"})],
)
def test_the_shipped_tables_of_goliath_fit_their_networks(
    name: str, size: int, classes: int, missing: set[str], tmp_path: Path
) -> None:
    for place in range(3 * classes):
        (tmp_path / f"class{place % classes}").mkdir(exist_ok=True)
        pixels = np.full((size, size, 3), place, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"class{place % classes}" / f"{place}.png")
    config = load_tables(f"goliath_{name}", {"data.name": str(tmp_path)})
    rows = row_configs(config)
    defended = {run.defence.kind if run.defence.kind != "none" else run.training.method for run in rows}
    assert defended == SIX - missing | {"standard"}
    assert {run.quantization.activation_bits for run in rows} == {8, 16}
    assert len({column.attack.kind for column in config.columns}) >= 10 and config.ask_float
    for run in row_runs(rows[:1], tmp_path / "out", None):
        check_run(run, FLOW, machine=False)
    assert not (tmp_path / "out").exists()


def test_a_beginning_names_the_first_tables() -> None:
    assert load_tables("goliath").name == "tables_goliath_cifar10"


def test_tables_can_differ_from_others(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", name="first")
    own = tmp_path / "own.yaml"
    own.write_text("base: below/tables.yaml\nname: second\nsamples: 3\n")
    config = load_tables(str(own))
    first = load_tables(str(tmp_path / "below" / "tables.yaml"))
    assert config == first.model_copy(update={"name": "second", "samples": 3})
    for text, told in (
        ("base: 3", "base: must be the path of another tables config; got 3"),
        ("base: nowhere.yaml", "nowhere.yaml: no such file"),
        ("base: below/tables.yaml\nnmae: a", "own.yaml: nmae: unknown key; did you mean 'name'"),
        ("base: own.yaml", "own.yaml has a base itself"),
    ):
        own.write_text(text)
        with pytest.raises(UserError, match=re.escape(told)):
            load_tables(str(own))


def test_a_transfer_study_needs_gradients(cli: Cli) -> None:
    wrong = {"rows": ["Orig."], "attack": {"kind": "square"}, "epsilon_lsb": 8}
    with pytest.raises(UserError, match="square does not follow gradients"):
        load_tables(str(write(cli.folder, transfer_study=wrong)))
