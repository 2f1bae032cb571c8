"""Tables of the page: nothing is lost, who was attacked is one name, and sorting does not see second lines."""

from __future__ import annotations

import re
from html import unescape

import pytest

from hw.report.html import page_environment
from hw.report.page_tables import named_table, rows_table
from hw.report.source import AttackSettings, Results
from hw.report.table import Column, Table
from qmodels.metrics.masking import Row

CLEAN = Row("F.L.+mu", "bitsim", "clean", 0.9, 200, bits=3, ci95=(0.85, 0.94))
ATTACKED = Row("F.L.+mu", "bitsim", "pgd-linf", 0.5, 1200, bits=3, knowledge="transfer", epsilon_lsb=16.0,
               ci95=(0.43, 0.57), queries=12345, seconds=1.234, seed=7, source="F.L./float", family="gradient",
               flags=("not-converged",))  # fmt: skip
UNAWARE = Row("F.L.", "float", "cw-l2", 0.0, 10, knowledge="white-box", epsilon_lsb=float("inf"), norm="l2",
              attacker="unaware")  # fmt: skip


@pytest.fixture
def table() -> Table:
    settings = (AttackSettings("pgd-linf", (16.0,), {"steps": 40, "step_lsb": [1.0]}),)
    return rows_table(Results("run", (CLEAN, ATTACKED, UNAWARE), attacks=settings), "accuracy")


def sheet(table: Table) -> str:
    parts = page_environment().get_template("parts.html.j2").module
    return str(parts.sheet(table))  # type: ignore[attr-defined]


def test_every_row_keeps_its_evidence(table: Table) -> None:
    cells = {column.head: column.cells for column in table.columns}
    notes = {column.head: column.notes for column in table.columns if column.notes}
    assert cells["victim"] == ("F.L.+mu bitsim, 3 bits", "F.L.+mu bitsim, 3 bits", "F.L. float")
    assert cells["accuracy, % (95 % interval)"] == ("90.0", "50.0 C", "0.0")
    assert notes["accuracy, % (95 % interval)"][:2] == ("85.0 to 94.0", "43.0 to 57.0")
    assert cells["ε, LSB (norm)"] == ("–", "16", "∞") and notes["ε, LSB (norm)"] == ("", "L∞", "L2")
    assert cells["attacker's knowledge (origin)"] == ("–", "transfer", "white-box, unaware")
    assert notes["attacker's knowledge (origin)"] == ("", "made on F.L./float", "")
    assert notes["attack (settings)"] == ("", "steps=40 step_lsb=1", "")
    assert cells["flags"] == ("–", "not-converged", "–")
    assert [cells[head][1] for head in ("inputs", "queries in all", "time, s", "seed")] == [
        "1,200",
        "12,345",
        "1.23",
        "7",
    ]


def test_what_is_asked_first_stands_first(table: Table) -> None:
    heads = [column.head.split(" (")[0] for column in table.columns]
    assert heads[:4] == ["victim", "attack", "ε, LSB", "accuracy, %"]  # all that 400 pixels show without scrolling


def test_a_cell_begins_with_its_text_which_is_sorted_and_its_note_comes_after(table: Table) -> None:
    body = sheet(table).partition("<tbody>")[2]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", body)
    assert len(cells) == 3 * len(table.columns)
    texts = [unescape(cell.partition("<small>")[0]) for cell in cells]
    assert texts == [cell for row in table.rows for cell in row] and "" not in texts
    assert body.count("<small>") == sum(bool(note) for column in table.columns for note in column.notes)
    assert "<small>43.0 to 57.0</small>" in body


def test_the_first_column_names_the_row_and_notes_are_escaped() -> None:
    script = "<script>alert(1)</script>"
    page = sheet(Table((Column("layer", (script,), number=False, notes=(script,)), Column("bits", ("3",)))))
    assert page.count('<th scope="row">') == 1 and '<td class="number">3</td>' in page
    assert "<script>" not in page and page.count("&lt;script&gt;") == 2


def test_model_victim_and_bits_become_one_name() -> None:
    table = named_table([{"model": "F.L.", "victim": "bitsim", "bits": 2.5, "images": 9}])
    assert [column.head for column in table.columns] == ["victim", "images"]
    assert table.rows == [("F.L. bitsim, 2.5 bits", "9")]
    assert [column.head for column in named_table([{"victim": "bitsim", "attack": "square"}]).columns] == [
        "victim", "attack"
    ]  # fmt: skip
