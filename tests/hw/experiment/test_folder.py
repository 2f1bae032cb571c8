"""The run folder: one process at a time, and a step counts as done only while its outputs are untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import Cli, snapshot
from helpers.models import qkeras_model

from hw.experiment.folder import Kind, RunFolder
from qmodels import storage
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
        assert (tmp_path / "run" / ".robust-hls.json").is_file()
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


# Whose folder it is


def marked(folder: Path, kind: Kind) -> Path:
    """A folder of ours, with a file in it."""
    with RunFolder(folder, kind).lock():
        (folder / "config.yaml").write_text("name: x\n")
    return folder


def test_a_folder_of_ours_says_what_it_holds(tmp_path: Path) -> None:
    marked(tmp_path / "run", "run")
    assert json.loads((tmp_path / "run" / ".robust-hls.json").read_text()) == {"schema": 1, "kind": "run"}
    RunFolder(tmp_path / "run").check()
    RunFolder(tmp_path / "run").require()


@pytest.mark.parametrize("kind", ["run", "sizing", "tables"])
def test_a_folder_with_files_of_somebody_else_is_not_touched(tmp_path: Path, kind: Kind) -> None:
    """Whatever their names are: config.yaml, hls/, .steps/ and model.keras are nobody's trademark."""
    for name in ("config.yaml", "sizing.yaml", "tables.yaml", "store.sqlite", "model.keras", "hls/mine.cpp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / ".steps").mkdir()
    (tmp_path / ".steps" / "train.json").write_text("{}")
    before = snapshot(tmp_path)
    folder = RunFolder(tmp_path, kind)
    assert not folder.is_ours()
    with pytest.raises(UserError, match=r"not empty, and not made by robust-hls \(\.robust-hls\.json is missing\)"):
        folder.check()
    with pytest.raises(UserError, match="nothing was touched"), folder.lock():
        pass
    with pytest.raises(UserError, match=f"no {kind} of robust-hls in this folder"):
        folder.remove("model.keras")
    with pytest.raises(UserError, match=f"no {kind} of robust-hls in this folder"), folder.replacing("hls"):
        pass
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("held", "asked"), [("run", "sizing"), ("sizing", "run"), ("tables", "run"), ("run", "tables")]
)
def test_one_kind_of_work_does_not_go_into_the_folder_of_another(tmp_path: Path, held: Kind, asked: Kind) -> None:
    before = snapshot(marked(tmp_path / "out", held))
    words = {"run": "a run", "sizing": "a sizing", "tables": "tables"}
    with pytest.raises(UserError, match=f"contains {words[held]}, not {words[asked]}"):
        RunFolder(tmp_path / "out", asked).check()
    with pytest.raises(UserError, match=f"no {asked} of robust-hls in this folder"):
        RunFolder(tmp_path / "out", asked).require()
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("text", ["", "{half", "[]", '{"schema": 2, "kind": "run"}', '{"schema": 1, "kind": "x"}'])
def test_a_damaged_marker_and_one_of_a_later_version(tmp_path: Path, text: str) -> None:
    (marked(tmp_path / "run", "run") / ".robust-hls.json").write_text(text)
    with pytest.raises(UserError, match=r"robust-hls\.json: damaged, or of another version"):
        RunFolder(tmp_path / "run").check()


def test_what_a_kill_at_the_very_start_leaves_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".part-abc.json").write_text("{")
    RunFolder(tmp_path).check()


def test_a_run_of_an_earlier_version_is_adopted_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(marked(tmp_path / "run", "run"))
    run.mark_done("train", "key", ("config.yaml",), 1.0)
    (run / ".robust-hls.json").unlink()
    assert run.exists()
    for _ in range(2):
        with run.lock():
            pass
    assert capsys.readouterr().err == f"{run.path}: made by an earlier robust-hls; marked as ours (.robust-hls.json)\n"
    assert (run / ".robust-hls.json").is_file()


def test_no_new_run_inside_a_run(tmp_path: Path) -> None:
    marked(tmp_path / "run", "run")
    with pytest.raises(UserError, match=r"lies inside the run .*; choose another --out"):
        RunFolder(tmp_path / "run" / "hls" / "new").check()
    RunFolder(tmp_path / "run" / "black_box" / "other").check()


def test_an_input_inside_the_output_folder(tmp_path: Path) -> None:
    folder = marked(tmp_path / "run", "run")
    (tmp_path / "link").symlink_to(folder)
    RunFolder(folder).check([None, tmp_path / "model.keras"])
    for inside in (folder / "model.keras", folder / "deep" / "data.npz", tmp_path / "link" / "model.keras"):
        with pytest.raises(UserError, match="lies inside the output folder"):
            RunFolder(folder).check([inside])


# The same by the commands


@pytest.fixture
def theirs(cli: Cli) -> Cli:
    """A folder `mine` with a model, data, an `hls` folder and a config of the user's own."""
    storage.save_model(qkeras_model(shape=(8, 8, 1), classes=10), cli.folder / "mine" / "model.keras")
    (cli.folder / "mine" / "hls").mkdir()
    (cli.folder / "mine" / "hls" / "precious.cpp").write_text("int main() {}\n")
    (cli.folder / "mine" / "config.yaml").write_text("name: mine\n")
    (cli.folder / "hls").mkdir()
    (cli.folder / "hls" / "precious.cpp").write_text("int main() {}\n")
    return cli


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("generate --model mine/model.keras --out mine", "mine/model.keras: lies inside the output folder mine"),
        ("generate --model mine/model.keras --out mine --resume", "lies inside the output folder mine"),
        ("generate --model mine/model.keras --out .", "lies inside the output folder ."),
        ("generate --out .", ".: not empty, and not made by robust-hls"),
        ("generate --out mine", "mine: not empty, and not made by robust-hls"),
        ("generate --out mine --resume", "mine: not empty, and not made by robust-hls"),
        ("generate --out mine/hls", "mine/hls: not empty, and not made by robust-hls"),
        ("generate mine", "mine: no run of robust-hls in this folder (.robust-hls.json is missing)"),
        ("synth mine", "mine: no run of robust-hls in this folder"),
        ("size mine", "mine: no sizing in this folder"),
        ("tables mnist --out mine", "mine: not empty, and not made by robust-hls"),
    ],
)
def test_files_of_the_user_are_never_touched(theirs: Cli, arguments: str, told: str) -> None:
    assert told in theirs.refuses(*arguments.split())


@pytest.mark.parametrize("command", ["run", "generate", "size mine/config.yaml", "tables mnist"])
def test_an_empty_out_is_not_the_current_folder(theirs: Cli, command: str) -> None:
    assert "an empty path" in theirs.refuses(*command.split(), "--out", "")


def test_a_run_does_not_go_into_a_sizing(theirs: Cli) -> None:
    marked(theirs.folder / "sizing", "sizing")
    told = theirs.refuses("generate", "--model", "mine/model.keras", "--out", "sizing", "--resume")
    assert told == "robust-hls: sizing: contains a sizing, not a run; choose another --out\n"


@pytest.mark.parametrize(
    "record",
    ["[]", "{", '{"key": 1, "outputs": {}}', '{"key": "k", "outputs": []}', '{"key": "k", "outputs": {"../a": "d"}}',
     '{"key": "k", "outputs": {"/a": "d"}}', '{"key": "k", "outputs": {"a": 3}}',
     '{"key": "k", "outputs": {}, "seconds": "x"}'],
)  # fmt: skip
def test_a_step_whose_record_was_edited_is_done_again(tmp_path: Path, record: str) -> None:
    folder = RunFolder(tmp_path)
    folder.mark_done("train", "k", (), 1.0)
    assert folder.is_done("train", "k")
    (tmp_path / ".steps" / "train.json").write_text(record)
    assert not folder.is_done("train", "k")
    assert folder.outputs("train") == {} and folder.seconds("train") == 0.0
