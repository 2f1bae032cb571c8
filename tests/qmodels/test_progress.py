"""Progress where there is no terminal: nothing, or lines for a log."""

from __future__ import annotations

import pytest

from qmodels import progress
from qmodels.progress import progress_bar


def test_nothing_is_written_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", 2) as bar:
        bar.advance(note="loss 0.3")
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_lines_for_a_log_are_the_first_the_last_and_one_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 0.0, 10.0, 40.0, 40.0, 50.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress_bar("worst case", 5, done=1, note="best 60.0 %", lines=True) as bar:
        bar.advance()  # 10 s: too early for a line
        bar.advance(2, note="best 61.5 %")  # 40 s
        bar.advance()  # the last
    assert capsys.readouterr().err.splitlines() == [
        "worst case 1/5 · best 60.0 %",
        "worst case 4/5 · best 61.5 % · 13 s left",
        "worst case 5/5 · best 61.5 %",
    ]
