"""Data on the device's grid: exactly k/256, three disjoint splits, nothing random but the seed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmodels.data import DATA_DIR_VARIABLE, Split, check_arrays, load_data, with_channels
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime
from qmodels.targets import check_targets


def test_a_pixel_stands_for_exactly_k_over_256() -> None:
    split = Split(with_channels(np.arange(256, dtype=np.uint8).reshape(1, 16, 16)), np.zeros(1, np.int64))
    assert (split.x.dtype, split.values.dtype, split.x.shape) == (np.uint8, np.float32, (1, 16, 16, 1))
    np.testing.assert_array_equal(split.values.reshape(-1).astype(np.float64) * 256, np.arange(256))
    np.testing.assert_array_equal(IMAGE_GRID.format.to_raw(split.values.reshape(-1)), np.arange(256))


def test_colour_images_keep_their_channels() -> None:
    assert with_channels(np.zeros((2, 4, 5, 3), np.uint8)).shape == (2, 4, 5, 3)


def numbered(count: int = 300, tests: int = 20) -> dict[str, np.ndarray]:
    """Images that carry their own number in the first two pixels."""
    images = np.zeros((count + tests, 2, 2), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(count + tests), 256)
    y = np.arange(count + tests) % 3
    return {"x_train": images[:count], "y_train": y[:count], "x_test": images[count:], "y_test": y[count:]}


def numbers(split: Split) -> list[int]:
    pixels = split.x.astype(int)
    return (pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 1, 0]).tolist()


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "numbered.npz"
    np.savez(path, **numbered())
    return path


def test_the_splits_are_disjoint_and_complete(npz: Path) -> None:
    data = load_data(str(npz), seed=1, validation_share=0.2)
    train, validation, test = numbers(data.train), numbers(data.validation), numbers(data.test)
    assert (len(train), len(validation)) == (240, 60)
    assert sorted(train + validation) == list(range(300))
    assert test == list(range(300, 320))
    for split in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(split.y, np.array(numbers(split)) % 3)
    assert (data.classes, data.input_shape, data.name) == (3, (2, 2, 1), "numbered")


def test_the_seed_decides_the_split_and_nothing_else_does(npz: Path) -> None:
    first, again, other = (numbers(load_data(str(npz), seed=seed).validation) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_limits_take_a_part_of_both_sides(npz: Path) -> None:
    data = load_data(str(npz), seed=1, limit_train=100, limit_test=7)
    assert len(data.train.y) + len(data.validation.y) == 100
    assert numbers(data.test) == list(range(300, 307))


def test_digits_are_balanced_and_disjoint() -> None:
    data = load_data("digits", seed=0)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (1293, 144, 360)
    assert set(np.unique(data.test.y)) == set(range(10))
    assert (data.train.x.min(), data.train.x.max(), data.train.values.max()) == (0, 255, 255 / 256)


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4), st.sampled_from([255.0, 256.0, 1.0]))
def test_float_images_on_any_8_bit_scale_are_read_as_what_they_were(pixels: list[int], scale: float) -> None:
    """A whole image of 0 and 1 could be either scale; the brightest pixel tells them apart."""
    steps = np.array([*pixels, 128, 200], np.uint8)
    images = np.tile(steps.reshape(1, 2, 3), (4, 1, 1))
    arrays = {
        "x_train": (images / scale).astype(np.float32),
        "x_test": (images / scale).astype(np.float64),
        "y_train": np.array([0, 1, 0, 1]),
        "y_test": np.array([0, 1, 0, 1]),
    }
    checked = check_arrays(arrays, "here")
    np.testing.assert_array_equal(checked["x_train"], images)
    np.testing.assert_array_equal(checked["x_test"], images)


def test_column_labels_and_float_labels_are_understood() -> None:
    arrays = numbered()
    arrays["y_train"] = arrays["y_train"].reshape(-1, 1).astype(np.float32)
    checked = check_targets(arrays["y_train"], arrays["y_test"], "here")
    assert checked.train.shape == (300,)
    assert checked.train.dtype == np.int64


def test_a_data_folder_comes_before_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "mnist.npz", **numbered())
    given_as_option = load_data("mnist", seed=0, data_dir=tmp_path)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    given_as_variable = load_data("mnist", seed=0)
    assert numbers(given_as_option.test) == numbers(given_as_variable.test) == list(range(300, 320))


def test_keras_is_asked_when_the_data_folder_has_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = numbered()
    loaded = ((arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"]))
    monkeypatch.setattr(runtime().keras.datasets.fashion_mnist, "load_data", lambda: loaded)
    assert len(load_data("fashion_mnist", seed=0, data_dir=tmp_path).test.y) == 20


def test_targets_of_a_regression_and_of_an_autoencoder() -> None:
    real = check_targets(np.array([0.5, 2.0]), np.array([1.5]), "mine", "auto")
    assert (real.kind, real.classes, real.train.tolist()) == ("regression", 0, [[0.5], [2.0]])
    assert check_targets(np.arange(4) % 2, np.arange(2), "mine", "auto").kind == "classes"
    marked = check_targets(np.zeros(3), np.array([0, 1]), "mine", "anomaly")
    assert marked.train.dtype == np.int64 and (marked.kind, marked.classes) == ("anomaly", 0)


@pytest.mark.parametrize(
    ("train", "test", "kind", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), "regression", "y_train has 3 columns, y_test 2"),
        (np.array([np.nan, 1.0]), np.zeros(1), "regression", "y_train contains NaN or infinity"),
        (np.zeros((2, 2, 2)), np.zeros(1), "regression", "y_train has shape (2, 2, 2) and dtype float64; allowed for"),
        (np.array(["a"]), np.zeros(1), "regression", "and dtype <U1; allowed for a regression: real numbers"),
        (np.zeros(2), np.array([2]), "anomaly", "y_test has label 2; for an auto-encoder 1 marks an anomaly"),
        (np.array([0.5]), np.zeros(1), "anomaly", "y_train has dtype float64 or fractions"),
    ],
)
def test_targets_that_are_none(train: np.ndarray, test: np.ndarray, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_targets(train, test, "mine", kind)  # type: ignore[arg-type]
