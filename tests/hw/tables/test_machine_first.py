"""Tables and sizings look at the machine before they load data or models, and write nothing when it will not do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.cli import Cli
from tiny_tables import write

from hw.tables.account import WallClock
from qmodels.errors import UserError

SIZING = {
    "name": "tiny",
    "space": {"quantization.weight_bits": [2, 4]},
    "worst_case": {"epsilon_lsb": 16, "attack": {"kind": "worst-case", "attacks": [{"kind": "square"}]}},
}


@pytest.mark.parametrize(
    ("variable", "value", "status", "told"),
    [
        ("ROBUST_HLS_GXX", "/nonexistent/g++", 3, "g++ not found"),
        ("ROBUST_HLS_ISA", "z80", 2, "ROBUST_HLS_ISA=z80: allowed are native"),
        ("ROBUST_HLS_GXX_SECONDS", "soon", 2, "ROBUST_HLS_GXX_SECONDS=soon: must be a number of seconds"),
        ("ROBUST_HLS_CACHE", "taken", 2, "taken"),
    ],
)
@pytest.mark.parametrize("command", ["tables", "size"])
def test_the_machine_comes_first(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, variable: str, value: str, status: int, told: str
) -> None:
    (cli.folder / "taken").write_text("a file")
    (cli.folder / "sizing.yaml").write_text(yaml.safe_dump(SIZING))
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("hw.experiment.run.Run.data", property(lambda run: pytest.fail("data were loaded")))
    config: Path = write(cli.folder) if command == "tables" else cli.folder / "sizing.yaml"
    assert told in cli.refuses(command, config, "--out", "out", status=status)


def test_a_report_of_a_sizing_needs_no_gxx(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "sizing.yaml").write_text(yaml.safe_dump(SIZING))
    monkeypatch.setenv("ROBUST_HLS_GXX", "/nonexistent/g++")
    assert "no results to report yet" in cli.refuses("size", cli.folder / "sizing.yaml", "--report-only")


def test_the_clock_goes_on_where_it_was_outside_a_git_repository_too(tmp_path: Path) -> None:
    for start in range(2):
        clock = WallClock(tmp_path, None)
        assert len(clock.starts) == start + 1
        with clock.running():
            pass
    (tmp_path / "wall.json").write_text('[{"started": "now", "seconds": "long"}]')
    with pytest.raises(UserError, match=r"wall.json: \[0\].seconds must be a number"):
        WallClock(tmp_path, None)
