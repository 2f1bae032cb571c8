"""Files of yours in `hls/` and `synthesis/` are kept when we make these anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hw.experiment.folder import MARKER, RunFolder
from qmodels.errors import UserError
from qmodels.storage import REPLACED


def make(folder: RunFolder, name: str, **files: str) -> None:
    with folder.replacing(name) as fresh:
        for file, text in files.items():
            (fresh / f"{file}.h").write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    make(folder, "hls", a="1", b="1")
    return folder


def texts(folder: Path) -> dict[str, str]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items()}


def test_your_files_stay_and_ours_go(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "hls" / "notes").mkdir()
    (run / "hls" / "notes" / "thesis.txt").write_text("precious")
    make(run, "hls", a="2")
    assert texts(run / "hls") == {"a.h": "2", "notes/thesis.txt": "precious"}
    assert "hls/notes/thesis.txt: was not made by robust-hls; it is kept" in capsys.readouterr().err
    make(run, "hls", a="3", b="3")
    assert texts(run / "hls") == {"a.h": "3", "b.h": "3", "notes/thesis.txt": "precious"}


def test_a_file_of_ours_that_you_edited_stays_beside_the_new_one(run: RunFolder) -> None:
    (run / "hls" / "a.h").write_text("mine")
    (run / "hls" / "b.h").write_text("mine too")
    make(run, "hls", a="2")
    assert texts(run / "hls") == {"a.h": "2", "a.h.edited": "mine", "b.h.edited": "mine too"}


def test_your_file_where_we_now_write_one(run: RunFolder) -> None:
    (run / "hls" / "c.h").write_text("mine")
    make(run, "hls", a="2", c="2")
    assert texts(run / "hls") == {"a.h": "2", "c.h": "2", "c.h.edited": "mine"}


def test_a_folder_inside_is_replaced_alone(run: RunFolder) -> None:
    make(run, "hls/tb_data", inputs="1")
    (run / "hls" / "tb_data" / "mine.dat").write_text("mine")
    make(run, "hls/tb_data", inputs="2")
    assert texts(run / "hls" / "tb_data") == {"inputs.h": "2", "mine.dat": "mine"}
    make(run, "hls", a="3")
    assert texts(run / "hls") == {"a.h": "3", "tb_data/mine.dat": "mine"}


def test_what_a_tool_writes_is_not_yours(run: RunFolder) -> None:
    make(run, "synthesis", a="1")
    (run / "synthesis" / "mine.txt").write_text("mine")
    run.made().begin("synthesis")
    (run / "synthesis" / "tool.log").write_text("tool")
    run.made().end("synthesis")
    (run / "synthesis" / "later.txt").write_text("mine")
    make(run, "synthesis", a="2")
    assert texts(run / "synthesis") == {"a.h": "2", "mine.txt": "mine", "later.txt": "mine"}


def test_a_tool_that_was_killed(run: RunFolder) -> None:
    make(run, "synthesis", a="1")
    (run / "synthesis" / "mine.txt").write_text("mine")
    run.made().begin("synthesis")
    (run / "synthesis" / "tool.log").write_text("tool")
    make(run, "synthesis", a="2")
    assert texts(run / "synthesis") == {"a.h": "2", "mine.txt": "mine"}


def test_killed_between_the_old_folder_and_the_new(run: RunFolder) -> None:
    (run / "hls" / "mine.txt").write_text("mine")
    (run / "hls").rename(run / f"{REPLACED}hls")
    with run.lock():
        assert texts(run / "hls") == {"a.h": "1", "b.h": "1", "mine.txt": "mine"}


def test_a_block_that_fails_leaves_all_as_it_was(run: RunFolder) -> None:
    (run / "hls" / "mine.txt").write_text("mine")
    with pytest.raises(ZeroDivisionError), run.replacing("hls"):
        _ = 1 / 0
    assert texts(run / "hls") == {"a.h": "1", "b.h": "1", "mine.txt": "mine"}


@pytest.mark.parametrize("what", ["a link", "a broken link", "a file"])
def test_what_is_no_folder_of_ours_is_not_replaced(run: RunFolder, tmp_path: Path, what: str) -> None:
    (run / "hls").rename(tmp_path / "mine")
    if what == "a file":
        (run / "hls").write_text("precious")
    else:
        (run / "hls").symlink_to(tmp_path / ("mine" if what == "a link" else "nowhere"))
    with pytest.raises(UserError, match="hls: is not the folder that robust-hls made here; move it away"):
        make(run, "hls", a="2")
    assert texts(tmp_path / "mine") == {"a.h": "1", "b.h": "1"}
    assert (run / "hls").is_symlink() or (run / "hls").read_text() == "precious"
    assert not list(tmp_path.rglob(f"{REPLACED}*"))


@pytest.mark.timeout(20)
def test_a_marker_that_is_a_pipe_is_not_waited_for(run: RunFolder) -> None:
    (run / MARKER).unlink()
    os.mkfifo(run / MARKER)
    with pytest.raises(UserError, match="damaged"):
        run.check()
