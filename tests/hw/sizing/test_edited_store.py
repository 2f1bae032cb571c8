"""A store that somebody edited by hand is told by design, stage and key; nothing is computed from it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hw.sizing.shapes import SHAPES
from hw.sizing.store import Answer, Store
from qmodels.errors import UserError
from qmodels.shapes import check_shape

ROW = {"attack": "fgsm", "epsilon_lsb": 8.0, "accuracy": 0.5}
SCORE = {"accuracy": 0.5}
GOOD: dict[str, dict[str, Any]] = {
    "train": {"files": ["model.keras"]},
    "aware": {"files": []},
    "descend": {"layers": ["fc1"], "relus": ["fc1_relu"]},
    "measure": {
        "cost": {"ebops": 3},
        "weights": {"fc1": 4},
        "delta_w": {"fc1": 0.5},
        "clean": SCORE,
        "fallen": "0f",
        "exact_inputs": 3,
        "converted": False,
    },
    "certify": {"certified": "0f"},
    "pool": {"fallen": "0f"},
    "attack": {"fallen": ""},
    "final": {"clean": SCORE, "worst": SCORE, "rows": [ROW]},
    "replicate": {"clean": SCORE, "worst": SCORE},
}


@pytest.mark.parametrize("stage", SHAPES)
def test_what_we_write_passes(stage: str) -> None:
    check_shape(SHAPES[stage], GOOD[stage], "s")


@pytest.mark.parametrize(
    ("stage", "changes", "told"),
    [
        ("train", {"files": ["../../etc/passwd"]}, "files[0] "),
        ("train", {"files": "model.keras"}, "files must be a list"),
        ("aware", {"files": None}, "files must be a list"),
        ("descend", {"layers": "fc1"}, "layers must be a list"),
        ("descend", {"relus": [1]}, "relus[0] must be a text"),
        ("measure", {"cost": {"ebops": -1}}, "cost.ebops must be 0 or more"),
        ("measure", {"cost": []}, "cost must be an object"),
        ("measure", {"clean": {"accuracy": 2}}, "clean.accuracy must be 1.0 or less"),
        ("measure", {"delta_w": {"fc1": -0.5}}, "delta_w.fc1 must be 0.0 or more"),
        ("measure", {"fallen": "xyz"}, "fallen "),
        ("measure", {"exact_inputs": 0}, "exact_inputs must be more than 0"),
        ("measure", {"delta_w": {"fc1": float("nan")}}, "must be a finite number"),
        ("certify", {"certified": "0"}, "certified "),
        ("pool", {"fallen": None}, "fallen must be a text"),
        ("attack", {"fallen": "0"}, "fallen "),
        ("final", {"rows": [ROW | {"accuracy": "0.5"}]}, "rows[0].accuracy must be a number"),
        ("final", {"rows": [ROW, {}]}, "rows[1].attack is missing"),
        ("final", {"rows": {}}, "rows must be a list"),
        ("replicate", {"worst": {"accuracy": True}}, "worst.accuracy must be a number"),
        ("final", {"worst": None}, "worst must be an object"),
        ("final", {"rows": [ROW | {"flags": "masked"}]}, "rows[0].flags must be a list"),
    ],
)
def test_the_key_is_told(stage: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_shape(SHAPES[stage], GOOD[stage] | changes, "store.sqlite: a design, stage:")
    assert str(caught.value).startswith("store.sqlite: a design, stage: ") and told in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("value", "{half", "a result was changed"),
        ("value", "[1]", "a design: pool has values of wrong types"),
        ("value", "[" * 100_000, "a result was changed"),
        ("seconds", "soon", "a design: pool has values of wrong types"),
    ],
)
def test_a_row_that_is_none(tmp_path: Path, column: str, value: Any, told: str) -> None:
    path = tmp_path / "store.sqlite"
    store = Store(path)
    store.record(Answer("k", "pool", "a design", GOOD["pool"], None, 0.1))
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE results SET {column} = ?", (value,))
    connection.close()
    for ask in (lambda: store.find("k"), store.records):
        with pytest.raises(UserError) as caught:
            ask()
        assert told in str(caught.value) and "move it away and its points are computed again" in str(caught.value)
    store.close()


def test_a_store_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE results (name TEXT)")
    connection.close()
    with pytest.raises(UserError, match=r"store.sqlite: the store of results cannot be used"):
        Store(path).find("k")


def test_the_table_is_plain_json(tmp_path: Path) -> None:
    """So that the cases above are what an editor would see."""
    store = Store(tmp_path / "store.sqlite")
    store.record(Answer("k", "pool", "a design", GOOD["pool"], None, 0.1))
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        assert json.loads(connection.execute("SELECT value FROM results").fetchone()[0]) == GOOD["pool"]
    connection.close()
    store.close()
