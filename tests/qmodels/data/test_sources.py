"""Where data come from: tables, folders of pictures, scikit-learn's sets; and what is told of those that are none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmodels.data import InputConfig, load_data
from qmodels.data.files import class_numbers, read_pictures
from qmodels.data.holdout import hold_out, part_for_test
from qmodels.errors import UserError

ROWS = [f"{i / 10},{i % 7},{'sick' if i % 3 == 0 else 'well'}" for i in range(60)]


def csv(path: Path, rows: list[str] | None = None, head: str = "size,age,state") -> Path:
    path.write_text("\n".join([head, *(ROWS if rows is None else rows)]) + "\n")
    return path


def test_a_table_is_split_by_class_and_keeps_its_names(tmp_path: Path) -> None:
    path = csv(tmp_path / "people.csv")
    data = load_data(str(path), label="state", test_share=0.25, inputs=InputConfig(frozen=("age",)))
    assert (data.name, data.classes, data.labels, data.input_shape) == ("people", 2, ("sick", "well"), (2,))
    assert data.inputs.names == ("size", "age")
    assert np.bincount(data.test.y).tolist() == [5, 10]
    assert len(data.train) + len(data.validation) == 45
    np.testing.assert_array_equal(data.grid.frozen, [False, True])
    sizes = np.concatenate(
        [data.inputs.unscaled(part.values)[:, 0] for part in (data.train, data.validation, data.test)]
    )
    np.testing.assert_allclose(np.sort(sizes), np.arange(60) / 10, atol=data.inputs.format.lsb / 2)


def test_the_seed_decides_which_rows_are_for_the_test(tmp_path: Path) -> None:
    path = str(csv(tmp_path / "people.csv"))
    first, again, other = (load_data(path, label="state", seed=seed).test.x.tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("rows", "head", "label", "message"),
    [
        (None, "size,age,state", "sate", r"no column 'sate'; did you mean 'state'\? \(allowed: size, age, state\)"),
        (
            None,
            "size,age,state",
            None,
            r"give data.label \(--set data.label=NAME\), the column with the class \(allowed: size",
        ),
        ([*ROWS, "x,1,well"], "size,age,state", "state", "column 'size', row 62 contains 'x'; allowed: finite numbers"),
        ([*ROWS, ",1,well"], "size,age,state", "state", "column 'size', row 62 is empty"),
        ([*ROWS, "nan,1,well"], "size,age,state", "state", "column 'size', row 62 contains 'nan'"),
        ([*ROWS, "1,well"], "size,age,state", "state", "row 62 has 2 cells, the first line names 3 columns"),
        (None, "age,age,state", "state", "two columns have the same name"),
        ([], "size,age,state", "state", "1 lines; wanted: a line with the columns' names"),
        (["well"] * 9, "state", "state", "the only column is the label"),
        (["1,well"] * 9, "age,state", "state", "y_train has only one class"),
    ],
)
def test_tables_that_are_none(
    tmp_path: Path, rows: list[str] | None, head: str, label: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_data(str(csv(tmp_path / "t.csv", rows, head)), label=label)


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x01,\n")
    with pytest.raises(UserError, match=r"not a readable .csv table"):
        load_data(str(tmp_path / "t.csv"), label="state")
    with pytest.raises(UserError, match=r"none.csv: no such file"):
        load_data(str(tmp_path / "none.csv"), label="state")


def test_a_parquet_table_needs_pandas_and_is_read_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "people.parquet"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"\.parquet needs pandas: pip install pandas pyarrow; or save it as \.csv"):
        load_data(str(path), label="state")
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.read_csv(csv(tmp_path / "people.csv")).to_parquet(path)
    assert load_data(str(path), label="state").digest == load_data(str(tmp_path / "people.csv"), label="state").digest


def test_classes_that_are_numbers_are_in_the_order_of_numbers() -> None:
    numbers, names = class_numbers(["10", "9", "10", "2"])
    assert (numbers.tolist(), names) == ([2, 1, 2, 0], ("2", "9", "10"))


def pictures(folder: Path, count: int = 10) -> Path:
    """Two classes of 6x5 pictures; each carries its own number."""
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = np.full((5, 6), 20 * number + index, np.uint8)
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def test_a_folder_of_pictures_has_a_class_for_each_subfolder(tmp_path: Path) -> None:
    data = load_data(str(pictures(tmp_path / "pets")), test_share=0.3)
    assert (data.labels, data.input_shape, len(data.test)) == (("cat", "dog"), (5, 6, 1), 6)
    every = np.concatenate([part.x[:, 0, 0, 0] for part in (data.train, data.validation, data.test)])
    y = np.concatenate([part.y for part in (data.train, data.validation, data.test)])
    assert sorted(every.tolist()) == [*range(10), *range(20, 30)]
    np.testing.assert_array_equal(y, every >= 20)


def test_pictures_are_colour_if_one_is(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pets", 3)
    Image.fromarray(np.full((5, 6, 3), (1, 2, 3), np.uint8)).save(folder / "dog" / "x.png")
    raw = read_pictures(folder, 0.3, 0)
    assert raw.arrays["x_train"].shape[1:] == (5, 6, 3)


def test_folders_that_hold_no_such_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=r"wanted: one subfolder of .png, .jpg, .jpeg files for each class.*0 subfolders"
    ):
        load_data(str(tmp_path / "empty"))
    folder = pictures(tmp_path / "pets", 3)
    (folder / "cow").mkdir()
    with pytest.raises(UserError, match=r"subfolder 'cow' has none"):
        load_data(str(folder))
    (folder / "cow" / "a.png").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"a.png: not a readable PNG or JPEG file"):
        load_data(str(folder))
    Image.new("L", (7, 5)).save(folder / "cow" / "a.png")
    with pytest.raises(UserError, match=r"cow/a.png: 7x5 pixels, 0.png has 6x5; make all one size"):
        load_data(str(folder))


@pytest.mark.parametrize(("name", "sizes", "features"), [("breast_cancer", (455, 114), 30), ("wine", (142, 36), 13)])
def test_scikit_learns_tables_are_built_in(name: str, sizes: tuple[int, int], features: int) -> None:
    data = load_data(name, inputs=InputConfig(scale="standard"))
    assert (len(data.train) + len(data.validation), len(data.test)) == sizes
    assert (len(data.inputs.names), len(data.labels)) == (features, data.classes)
    assert data.grid.format.signed and set(data.test.y.tolist()) == set(range(data.classes))


@pytest.mark.parametrize("seed", range(25))
def test_a_class_of_two_samples_is_never_lost_from_the_training_part(tmp_path: Path, seed: int) -> None:
    y = np.arange(60) % 2
    y[[7, 33]] = 2
    x = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "rare.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load_data(str(tmp_path / "rare.npz"), seed=seed, validation_share=0.6)
    assert 2 in data.train.y
    assert (len(data.train), len(data.validation)) == (24, 36)
    assert len(np.unique(np.concatenate([data.train.x, data.validation.x]), axis=0)) == 60


def test_a_split_that_loses_no_class_is_the_plain_one() -> None:
    order = np.random.default_rng(3).permutation(50)
    train, held = hold_out(np.arange(50) % 5, order, 10)
    np.testing.assert_array_equal(train, order[10:])
    np.testing.assert_array_equal(held, order[:10])


@pytest.mark.parametrize("share", [0.01, 0.2, 0.8])
def test_a_test_part_leaves_some_of_every_class(share: float) -> None:
    y = np.repeat([0, 1, 2], [1, 2, 97])
    train, test = part_for_test(y, share, seed=5)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(100)) and len(test)
    assert set(y[train].tolist()) == {0, 1, 2}
