"""The first screen of the report, its words, and tables that fit the page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.report.answer import answer
from hw.report.headline import FIRST_BLOCK, NEXT_BLOCKS, AttackColumn, Headline, HeadlineRow, Number
from hw.report.html import _costly
from hw.report.source import Results
from hw.report.table import records_table, shown

LINE = HeadlineRow("run", "F.L.", "bitsim", 3, Number(0.96), (), None, Number(0.75), ())
TABLE = Headline((), (replace(LINE, victim="float"), LINE), ("linf", 16.0), True, "n = 9", (), ball_strength="16")
COST = {"luts_estimated": 1234, "dsps_estimated": 5, "bram_18k": 6, "weight_bits": 78, "ii_cycles_estimated": 9,
        "latency_cycles_estimated": 10}  # fmt: skip
PLAIN = {"cost": COST, "exactness": {"mismatched_outputs": 0, "inputs": 14547}}


def facts(plain: dict, table: Headline) -> dict[str, tuple[str, str]]:
    results = Results("run", (), exactness=plain.get("exactness", {}), plain=plain)
    return {fact.name: (fact.value, fact.note) for fact in answer(results, table)}


def test_the_accelerator_comes_first_and_with_its_ball() -> None:
    found = facts(PLAIN, TABLE)
    assert found["accuracy, worst case"] == ("75.0 %", "of all attacks with L∞ ε = 16 LSB, on F.L. bitsim, 3 bits")
    assert found["accuracy, clean"][0] == "96.0 %"
    cost, note = found["cost: LUTs, estimated"]
    assert cost == "1,234" and note.endswith("78 weight bits; latency 10 cycles, a new input every 9 cycles")
    with_rtl = facts({"cost": COST | {"rtl_luts": 4321}}, TABLE)["cost: LUTs, estimated"]
    assert with_rtl[1] == f"{note}; 4,321 LUTs counted by Yosys in alkaid's RTL"
    assert found["outputs that differ"] == ("0", "from the model's, in 14,547 inputs compared")
    assert found["can you believe it?"][0] == "no flag"


def test_the_bracket_of_the_largest_radius() -> None:
    one = {
        "epsilon_lsb": 1,
        "n": 9,
        "accuracy": 0.8,
        "worst_case": 0.9,
        "unknown": 0.1,
        "complete": False,
        "seconds": 1.0,
    }
    found = facts(PLAIN | {"certificates": [one | {"epsilon_lsb": 2, "accuracy": 0.5}, one]}, TABLE)
    value, note = found["proved to attacked"]
    assert value == "50–90 %" and "any attack with ε = 2 LSB" in note
    assert list(found).index("proved to attacked") < list(found).index("can you believe it?")


def test_a_run_whose_model_may_differ_is_compared_with_csim() -> None:
    gate = {"exactness": {"exactness": "reported", "mismatched_outputs": 0, "inputs": 9}}
    assert facts(gate, TABLE)["outputs that differ"][1].startswith("from csim's")


def test_flags_are_counted_and_what_is_missing_is_left_out() -> None:
    flagged = replace(TABLE, lines=(replace(LINE, flags=("zero-gradients", "not-converged"), worst=None),))
    found = facts({}, flagged)
    assert found["can you believe it?"] == ("2 flags", "not the flagged numbers: zero-gradients, not-converged")
    assert set(found) == {"accuracy, clean", "can you believe it?"}


@pytest.mark.parametrize("counts", [(3, 4, 1, 3, 4, 1, 1), (12,), (1,) * 30])
def test_blocks_hold_every_column_once_and_are_no_wider_than_the_page(counts: tuple[int, ...]) -> None:
    columns = [AttackColumn(f"attack{i}", "linf", float(e), "x") for i, n in enumerate(counts) for e in range(n)]
    blocks = replace(TABLE, columns=tuple(columns)).blocks
    assert [place for block in blocks for _, places in block for place in places] == list(range(len(columns)))
    widths = [sum(len(places) for _, places in block) for block in blocks]
    assert all(w <= (NEXT_BLOCKS if i else FIRST_BLOCK) or len(blocks[i]) == 1 for i, w in enumerate(widths))


def test_records_are_told_in_words_and_numbers_stand_on_the_right() -> None:
    table = records_table([{"layer": "fc1", "luts_estimated": 12345, "delta_w_operator_2": None}])
    assert [(c.head, c.cells, c.number) for c in table.columns] == [
        ("layer", ("fc1",), False), ("LUTs, estimated", ("12,345",), True), ("‖ΔW‖₂ of the operator", ("–",), False)
    ]  # fmt: skip
    assert [shown(value) for value in (True, 1000, 0.123456)] == ["yes", "1,000", "0.1235"]


def test_the_cost_table_leaves_out_layers_and_columns_without_cost() -> None:
    layers = [{"layer": "image", "multipliers": 0, "bram_18k": 0}, {"layer": "fc", "multipliers": 3, "bram_18k": 0}]
    assert _costly(layers) == [{"layer": "fc", "multipliers": 3}]
    assert _costly(None) == []
