"""What `make lint` finds in the pages: figures and tables that differ from their JSON, marks that check nothing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import common, doc_tables  # noqa: E402
from benchmarks.common import Report  # noqa: E402
from benchmarks.doc_figures import FIGURES  # noqa: E402
from benchmarks.doc_tables import PAGES, renewed  # noqa: E402

README = (ROOT / "README.md").read_text()
FIGURE = re.compile(r"<!-- figure: ([\w ]+) -->(.*?)<!-- end -->")


def test_every_figure_stands_on_some_page() -> None:
    assert {name for page in PAGES for name, _ in FIGURE.findall(page.read_text())} == set(FIGURES)


@pytest.mark.parametrize("name", [name for name, _ in FIGURE.findall(README)])
def test_a_changed_figure_is_found_and_written_again(name: str) -> None:
    found = next(found for found in FIGURE.finditer(README) if found[1] == name)
    changed = README[: found.start(2)] + found[2][::-1] + README[found.end(2) :]
    assert changed != README
    assert renewed(changed) == (README, [f"figure {name}"])


def test_a_changed_cell_is_found_and_written_again() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| the accelerator (bitsim)"))
    changed = README.replace(row, row.replace("| 3 |", "| 4 |"), 1)
    assert changed != README
    assert renewed(changed) == (README, ["table digits"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("about <!-- figure: digits csim -->3,367 inputs", "1 tables and figures begin, 0 end"),
        ("about <!-- figure: digits csim -->3,367\n<!-- end --> inputs", "1 tables and figures begin, 0 end"),
        ("<!-- table: digits -->\n| a |", "1 tables and figures begin, 0 end"),
        ("so <!-- figure: digits nothing -->3<!-- end -->", "'digits nothing'"),
        ("<!-- table: nothing -->\n<!-- end -->", "table 'nothing'"),
        ("- <!-- figure: digits csim -->3,367<!-- end --> inputs", "a word must stand before it"),
    ],
)
def test_a_mark_that_checks_nothing_or_spoils_its_line_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        renewed(text)


def test_a_figure_keeps_the_machine_that_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "figures.json"
    old = Report(left_out={"third": "no time", "fourth, se*d": "no time"})
    old.figure("first", 1)
    old.figure("second", 2)
    old.write(out)
    here = common.machine()
    monkeypatch.setattr(common, "machine", lambda: here | {"cpu": "another", "vector_extensions": []})
    new = Report.resumed(out)
    new.figure("second", 3)
    new.figure("third", 4)
    new.write(out)
    found = json.loads(out.read_text())
    assert found["figures"] == {"first": 1, "second": 3, "third": 4}
    assert (found["machine"]["cpu"], found["left_out"]) == ("another", {})  # what was left out before is there now
    assert [(group["machine"]["cpu"], group["figures"]) for group in found["elsewhere"]] == [(here["cpu"], ["first"])]
    monkeypatch.setattr(doc_tables, "read", lambda path: found)
    told = doc_tables.figures("any").splitlines()
    assert told[-3].startswith("Machine: another, ")
    assert told[-1].startswith(f"On another one ({here['cpu']}, ")
    assert told[-1].endswith("): `first`.")
    monkeypatch.setattr(common, "machine", lambda: here)
    assert Report.resumed(out).elsewhere.keys() == {"second", "third"}
