"""`robust-hls tables` from the config to the files, and once more: nothing is computed twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Cli, snapshot
from tiny_tables import write

from hw.experiment.run import Run
from hw.tables.rows import finish_row


@pytest.mark.gxx
@pytest.mark.timeout(900)
def test_the_whole_way(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = write(cli.folder), cli.folder / "out"
    with monkeypatch.context() as patched:
        patched.setattr("hw.tables.run.finish_row", stop_in_the_second_row)
        stopped = cli("tables", config, "--out", folder)
    assert stopped.status == 130 and "run the same command again" in stopped.err
    assert json.loads((folder / "results.json").read_text())["rows_missing"] == ["Orig., again"]
    assert "**Unfinished:** Orig., again, and the studies, are missing" in (folder / "tables.md").read_text()

    outcome = cli("tables", config, "--out", folder)
    assert outcome.status == 0, outcome.err
    assert "row 2/2 Orig., again: train: as in Orig" in outcome.out
    for text in ("Orig. (accelerator)", "White-box attacks", "Black-box attacks"):
        assert text in outcome.out
    results = json.loads((folder / "results.json").read_text())
    _check_cells(results["cells"])
    _check_rest(results)
    _check_shared(folder)
    with (folder / "tables.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(results["cells"])
    table = (folder / "tables.md").read_text()
    assert "| Orig., again (accelerator) | 3 |" in table and "ours minus the published number" in table
    assert "| Orig., again (Q), compared with Orig. (Q) | 3 | 99.0 (" in table

    before = {name: digest for name, digest in snapshot(folder).items() if name.endswith((".npz", ".keras"))}
    monkeypatch.setenv("COLUMNS", "20")
    again = cli("tables", folder)  # the folder is enough; all is known
    assert again.status == 0, again.err
    assert all(title in again.out for title in ("Clean", "worst", "Uniform"))  # no column is lost on a narrow terminal
    lines = [line for line in again.out.splitlines() if line.startswith("row ")]
    assert lines and all(line.endswith("done before, nothing changed") for line in lines)
    assert before == {name: digest for name, digest in snapshot(folder).items() if name in before}
    assert len(json.loads((folder / "wall.json").read_text())) == 3

    complete = (folder / "tables.md").read_text()
    monkeypatch.setattr("hw.tables.run.finish_row", stop_in_the_second_row)
    assert cli("tables", folder).status == 130
    assert (folder / "tables.md").read_text() == complete  # finished rows and studies stay


def stop_in_the_second_row(run: Run, others: Sequence[Run], say: Callable[[str], None]) -> None:
    if run is others[1]:
        raise KeyboardInterrupt
    finish_row(run, others, say)


def _check_cells(cells: list[dict[str, Any]]) -> None:
    """Every number carries its evidence, and the accelerator is the quantized model."""
    found = {(cell["table"], cell["row"], cell["line"], cell["column"]): cell for cell in cells}
    assert len(found) == len(cells) == (3 + 2) * (3 + 2)
    for cell in cells:
        assert 0 <= cell["ci95_low"] <= cell["accuracy"] <= cell["ci95_high"] <= 1
        assert cell["n"] == (24 if cell["column"] in ("Clean", "FGSM (w)") else 16)
        assert cell["seed"] == 0 and isinstance(cell["flags"], list)
        assert cell["column"] == "Clean" or (cell["epsilon_lsb"] == 8 and cell["settings"])
        if cell["column"] == "worst":
            fgsm = found["white-box", cell["row"], cell["line"], "FGSM (w)"]
            assert cell["accuracy"] * 16 <= fgsm["accuracy"] * 24 + 1e-9  # on the images that both have
        if cell["line"] == "accelerator":
            same = found[cell["table"], cell["row"], "quantized", cell["column"]]
            assert (cell["accuracy"], cell["flags"]) == (same["accuracy"], same["flags"])
        if cell["published"] is not None:
            assert cell["difference"] == pytest.approx(cell["accuracy"] - cell["published"])
    knowledge = {(cell["table"], cell["column"]): cell["knowledge"] for cell in cells}
    assert knowledge["black-box", "FGSM (w)"] == "black-box" and knowledge["white-box", "FGSM (w)"] == "white-box"
    assert found["white-box", "Orig.", "quantized", "Clean"]["published"] == pytest.approx(0.9897)


def _check_rest(results: dict[str, Any]) -> None:
    for row in results["rows"].values():
        assert row["exactness"]["mismatched_outputs"] == 0 and row["exactness"]["adversarial_inputs"] > 0
    assert [(r["bits"], r["attack"]) for r in results["studies"]["bits"]] == [(2, "clean")]
    mapping = results["studies"]["mapping"]
    assert [(r["mu"], r["attack"]) for r in mapping] == [(0, "clean"), (0, "fgsm"), (15, "clean"), (15, "fgsm")]
    assert ["accuracy_on_unmapped_models_examples" in r for r in mapping] == [False, False, False, True]
    assert results["rows_missing"] == []
    assert results["wall_seconds"] > 0 and results["environment"]["packages"]["hls4ml"] == "1.3.0"


def _check_shared(folder: Path) -> None:
    """One training, one model of the attacker's own, one set of examples of the unmapped network."""
    first, second = (folder / "rows" / name for name in ("Orig", "Orig_again"))
    assert (first / "model.keras").read_bytes() == (second / "model.keras").read_bytes()
    assert (first / "attacks").resolve() == (second / "attacks").resolve() == folder / "attacks"
    assert [path.name for path in (folder / "black_box").iterdir()] == ["apart"]
    for source in ("Orig.", "apart"):
        assert len(list((folder / "attacks").glob(f"{source}-float-fgsm-8-*.npz"))) == 1
    assert {path.name for path in folder.glob("*.svg")} == {
        "accuracy_over_bits.svg",
        "mapping.svg",
        "delta_w.svg",
        "amplification.svg",
    }
