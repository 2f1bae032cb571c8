"""Tables of defended rows: both attackers' columns, what lies behind the numbers, and the transfer matrix."""

from __future__ import annotations

import csv
import json

import pytest
from helpers.cli import Cli
from tiny_tables import FGSM, write

from hw.tables.config import load_tables, row_configs
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


def test_the_shipped_tables_of_goliath_can_be_read() -> None:
    config = load_tables("goliath_cifar10")
    rows = row_configs(config)
    assert load_tables("goliath").name == config.name  # a beginning that fits one name only
    defended = {run.defence.kind if run.defence.kind != "none" else run.training.method for run in rows}
    wanted = {"adversarial", "ensemble", "sinkhorn", "distillation", "feature-squeezing", "pixeldefend"}
    assert defended == wanted | {"standard"}
    assert len({column.attack.kind for column in config.columns}) >= 10


def test_a_transfer_study_needs_gradients(cli: Cli) -> None:
    wrong = {"rows": ["Orig."], "attack": {"kind": "square"}, "epsilon_lsb": 8}
    with pytest.raises(UserError, match="square does not follow gradients"):
        load_tables(str(write(cli.folder, transfer_study=wrong)))
