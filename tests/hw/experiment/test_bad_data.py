"""Wrong data: one message that names file and array and says what is allowed; status 2; nothing written."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli

from qmodels.data import load_data
from qmodels.errors import UserError


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Forty 4x4 training images of four classes, and four test images, with `changes`."""
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.integers(0, 256, (40, 4, 4), dtype=np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": rng.integers(0, 256, (4, 4, 4), dtype=np.uint8),
        "y_test": np.arange(4),
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def images(count: int, **settings: Any) -> np.ndarray:
    return np.full((count, 4, 4), **settings)


def labels(**changes: int) -> np.ndarray:
    """0 1 2 3 0 1 ..., with `changes` such as l3=7."""
    y = np.arange(40) % 4
    for key, value in changes.items():
        y[int(key[1:])] = value
    return y


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "array 'y_test' is missing; an .npz needs x_train, y_train, x_test, y_test"),
        ({"y_train": labels(l0=-1)}, "y_train has labels out of range (-1..3); allowed: 0..K-1"),
        ({"y_train": labels(l0=10**6)}, "y_train has labels out of range (0..1000000); allowed: 0..K-1"),
        ({"y_train": labels(l0=5)}, "y_train has no sample of class 4; labels must be 0..K-1 without gaps"),
        ({"y_train": labels() * 2}, "y_train has no sample of class 1; labels must be 0..K-1 without gaps"),
        ({"y_train": labels() * 0, "y_test": np.zeros(4, int)}, "y_train has only one class"),
        ({"y_test": np.array([0, 1, 2, 4])}, "y_test has label 4, y_train only 0..3"),
        ({"y_train": labels() + 0.5}, "allowed: whole class numbers"),
        ({"y_train": np.where(np.arange(40) == 3, np.nan, labels())}, "allowed: whole class numbers"),
        ({"y_train": labels().astype(complex)}, "y_train has dtype complex128"),
        ({"y_train": labels().astype(str)}, "y_train has dtype <U"),
        ({"y_train": np.eye(4)[labels()]}, "y_train has shape (40, 4); allowed: (N,), class numbers, not one-hot"),
        ({"y_train": labels()[:39]}, "x_train has 40 samples, y_train 39; they must agree"),
        ({"y_test": np.zeros(0, int)}, "y_test has shape (0,)"),
        ({"x_train": images(40, fill_value=np.nan)}, "x_train contains NaN or infinity"),
        ({"x_test": images(4, fill_value=np.inf)}, "x_test contains NaN or infinity"),
        ({"x_train": images(40, fill_value=-1)}, "of it lies beyond the input format fixed<12,2>, -2..1.99902"),
        ({"x_train": images(40, fill_value=0.123456)}, "beyond the input format fixed<12,1>, -1..0.999512. Give data"),
        ({"x_train": images(40, fill_value=0.1)}, "Give data.input.format: fixed<12,9>, or data.input.scale: standard"),
        ({"x_train": images(40, fill_value="a")}, "x_train has dtype <U1; allowed: uint8, or numbers"),
        ({"x_train": images(40, fill_value=1j)}, "x_train has dtype complex128; allowed: uint8, or numbers"),
        ({"x_train": images(40, fill_value=1).reshape(40, 16)}, "x_train has shape (40, 16), x_test (4, 4, 4)"),
        (
            {"x_train": np.zeros(40)},
            "x_train has shape (40,); allowed: (N, features), (N, steps, channels), (",
        ),
        ({"x_train": np.zeros((40, 2, 2, 2, 2))}, "x_train has shape (40, 2, 2, 2, 2); allowed: (N, features), "),
        ({"x_train": np.zeros((40, 0, 4), np.uint8)}, "x_train has shape (40, 0, 4)"),
        ({"x_test": np.zeros((4, 5, 5), np.uint8)}, "x_train and x_test hold images of different shapes"),
        (
            {"x_train": np.zeros((2, 4, 4), np.uint8), "y_train": np.arange(2), "y_test": np.zeros(4, int)},
            "y_train has no training sample of class",
        ),
    ],
)
def test_arrays_that_are_no_data_set(cli: Cli, changes: dict[str, Any], message: str) -> None:
    np.savez(cli.folder / "mine.npz", **arrays(**changes))
    told = cli.refuses("run", "--data", "mine.npz")
    assert told.startswith(f"robust-hls: {cli.folder / 'mine.npz'}: ")
    assert message in told


def truncated(path: Path) -> None:
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:900])


def damaged_inside(path: Path) -> None:
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(60)
    path.write_bytes(content)


def text(path: Path) -> None:
    path.write_text("x_train, y_train\n1, 2\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def single_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 4, 4)))


def pickled(path: Path) -> None:
    np.savez(path, **arrays(y_train=np.array([Evil()] * 40, dtype=object)))


def unknown_compression(path: Path) -> None:
    np.savez(path, **arrays())
    content = path.read_bytes()
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        position = content.index(magic) + offset
        content = content[:position] + b"\x63\x00" + content[position + 2 :]
    path.write_bytes(content)


def absurd_shape(path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 28, 28), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        for key in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize(
    "spoil", [truncated, damaged_inside, text, empty, single_array, pickled, unknown_compression, absurd_shape]
)
def test_a_file_that_cannot_be_read(cli: Cli, spoil: Any) -> None:
    spoil(cli.folder / "mine.npz")
    told = cli.refuses("run", "--data", "mine.npz")
    assert f"{cli.folder / 'mine.npz'}: not a readable .npz archive (" in told
    assert "; write one with numpy.savez" in told
    assert not (cli.folder / "evil").exists()


def test_a_file_that_is_not_there_or_a_folder(cli: Cli) -> None:
    assert f"{cli.folder / 'none.npz'}: no such file" in cli.refuses("run", "--data", "none.npz")
    (cli.folder / "dir.npz").mkdir()
    assert "dir.npz: not a readable .npz archive" in cli.refuses("run", "--data", "dir.npz")


def test_an_unknown_data_set_is_told_with_the_known_ones(cli: Cli) -> None:
    told = cli.refuses("run", "--data", "mnits")
    assert "unknown data set 'mnits'; did you mean 'mnist'? (allowed: digits, mnist, fashion_mnist, cifar10" in told
    assert "or the path of an .npz file" in told


def test_a_data_folder_that_is_not_there(cli: Cli) -> None:
    told = cli.refuses("run", "--data", "mnist", "--data-dir", "nowhere")
    assert "nowhere: no such folder; --data-dir or $ROBUST_HLS_DATA must name the one with mnist.npz" in told


def test_a_data_set_that_can_neither_be_found_nor_downloaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from qmodels.runtime import runtime

    def fail() -> None:
        raise Exception("URL fetch failure on https://storage.googleapis.com: no route to host")  # as Keras does

    monkeypatch.setattr(runtime().keras.datasets.cifar10, "load_data", fail)
    told = cli.refuses("run", "--data", "cifar10")
    assert "data set 'cifar10' is neither in the data folder nor downloadable (URL fetch failure" in told
    assert "put cifar10.npz into a folder and pass it as --data-dir or in $ROBUST_HLS_DATA" in told


def test_too_few_samples_to_train_on_every_class(cli: Cli) -> None:
    told = cli.refuses("run", "--set", "data.limit_train=15")
    assert "digits: y_train has no training sample of class" in told
    assert "raise data.limit_train" in told


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 training samples leave none|no training sample of class"):
        load_data("digits", seed=0, limit_train=2, validation_share=0.89)
