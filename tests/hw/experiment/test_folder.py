"""The run folder: one process at a time, and a step counts as done only while its outputs are untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.experiment.folder import RunFolder
from qmodels.errors import UserError


def test_a_second_process_is_kept_out_and_let_in_afterwards(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first.lock(), pytest.raises(UserError, match="another robust-hls works in this folder"), second.lock():
        pass
    with second.lock():
        assert (tmp_path / "run").is_dir()


def test_a_run_that_writes_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "run").lock():
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "run").lock():
        raise RuntimeError
    assert (tmp_path / "run").is_dir()


def test_work_that_was_begun_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "run").lock():
        (tmp_path / "run" / "config.yaml").write_text("name: x\n")
        raise RuntimeError
    assert RunFolder(tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "done"),
    [
        (lambda folder: None, True),
        (lambda folder: (folder / "out").write_text("other"), False),
        (lambda folder: (folder / "out").unlink(), False),
        (lambda folder: (folder / ".steps" / "train.json").write_text("{half"), False),
        (lambda folder: (folder / ".steps" / "train.json").write_text("[]"), False),
        (lambda folder: (folder / ".steps" / "train.json").unlink(), False),
    ],
)
def test_a_step_is_done_while_its_outputs_are_untouched(tmp_path: Path, change: object, done: bool) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "out").write_text("result")
    folder.mark_done("train", "key", ("out",), 1.5)
    assert folder.seconds("train") == 1.5
    change(tmp_path)  # type: ignore[operator]
    assert folder.is_done("train", "key") is done
    assert not folder.is_done("train", "another key")
