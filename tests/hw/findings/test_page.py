"""docs/hls4ml_findings.md and the tests beside this one name each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers.findings import PAGE, findings

HERE, ROOT = Path(__file__).parent, PAGE.parents[1]


def _tests_here() -> list[str]:
    """file::function of every test but these."""
    return [
        f"{file.name}::{node.name}"
        for file in sorted(HERE.glob("test_*.py"))
        if file != Path(__file__)
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_every_finding_has_a_test_and_every_test_a_finding() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(findings()) == text.count("\n### ") > 20
    assert sorted(findings()) == sorted(_tests_here())


@pytest.mark.parametrize("test", sorted(findings()))
def test_a_finding_is_a_whole_bug_report(test: str) -> None:
    finding = findings()[test]
    paragraph = PAGE.read_text(encoding="utf-8").partition(f"\n### {finding.title}\n")[2].partition("\n##")[0]
    positions = [paragraph.index(f"{fact}: ") for fact in ("- Expected", "Found", "- Cause", "- We", "- On main")]
    assert positions == sorted(positions)
    assert len(finding.code.splitlines()) <= 15
    for file in re.findall(r"`((?:hw|qmodels|tests)/[\w/]+\.py)`", finding.ours):
        assert (ROOT / file).is_file(), file


def test_the_rules_that_the_page_names_are_there() -> None:
    for finding in findings().values():
        for name, file in re.findall(r"`(\w+)`(?: and `\w+`)? in `([\w/]+\.py)`", finding.ours):
            assert name in (ROOT / file).read_text(), (name, file)
