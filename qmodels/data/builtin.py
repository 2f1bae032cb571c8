"""Data sets by name: those that scikit-learn ships, and Keras' from a folder, its cache or a download."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.files import TABLES, read_npz, read_pictures, read_table
from qmodels.data.raw import ARRAYS, Raw
from qmodels.errors import UserError, allowed_names

DATA_DIR_VARIABLE = "ROBUST_HLS_DATA"
KERAS_DATASETS = ("mnist", "fashion_mnist", "cifar10")
SKLEARN_TABLES = ("breast_cancer", "wine")
DATASETS = ("digits", *KERAS_DATASETS, *SKLEARN_TABLES)


def is_path(name: str) -> bool:
    """Whether a data set's name is the path of the user's own data."""
    return name not in DATASETS and (name.endswith((".npz", *TABLES)) or os.sep in name or Path(name).is_dir())


def find(name: str, data_dir: Path | None, label: str | None, test_share: float, seed: int) -> Raw:
    """What the source of that name holds; `load_data` says what names there are."""
    path = Path(name)
    if name in DATASETS:
        return _by_name(name, data_dir)
    if name.endswith((".npz", *TABLES)):
        folder = _folder(data_dir, path.name) if not path.exists() and path.parent == Path() else None
        path = folder / path.name if folder is not None and (folder / path.name).exists() else path
        if path.parent == Path() and not path.exists():
            told = f" here or in {folder}" if folder is not None else ""
            raise UserError(f"{path}: no such file{told}; give its path, or its folder by --data-dir")
        return Raw(str(path), read_npz(path)) if name.endswith(".npz") else read_table(path, label, test_share, seed)
    if path.is_dir():
        return read_pictures(path, test_share, seed)
    end = allowed_names(name, DATASETS, "or the path of an .npz file, of a .csv table, or of a folder of pictures")
    raise UserError(f"data.name: unknown data set {name!r}{end}")


def _by_name(name: str, data_dir: Path | None) -> Raw:
    if name == "digits":
        return Raw("digits", _digits())
    if name in SKLEARN_TABLES:
        return _table(name)
    folder = _folder(data_dir, f"{name}.npz")
    if folder is not None and (folder / f"{name}.npz").exists():
        return Raw(str(folder / f"{name}.npz"), read_npz(folder / f"{name}.npz"))
    return Raw(name, _from_keras(name))


def _folder(data_dir: Path | None, file: str) -> Path | None:
    folder = data_dir or (Path(os.environ[DATA_DIR_VARIABLE]) if os.environ.get(DATA_DIR_VARIABLE) else None)
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --data-dir or ${DATA_DIR_VARIABLE} must name the one with {file}")
    return folder


def _digits() -> dict[str, NDArray[Any]]:
    """scikit-learn's 1,797 digits, 8x8, 17 grey levels, spread over 0..255; every fifth is a test sample."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return _every_fifth(np.minimum(bunch.images * 16, 255).astype(np.uint8), bunch.target)


def _table(name: str) -> Raw:
    """scikit-learn's tables: 569 tumours of 30 features, 178 wines of 13; every fifth is a test sample."""
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")()
    names = tuple(str(feature).replace(" ", "_") for feature in bunch.feature_names)
    labels = tuple(str(label) for label in bunch.target_names)
    return Raw(name, _every_fifth(bunch.data.astype(np.float64), bunch.target), names, labels)


def _every_fifth(x: NDArray[Any], y: NDArray[Any]) -> dict[str, NDArray[Any]]:
    test = np.arange(len(x)) % 5 == 0
    return {"x_train": x[~test], "y_train": y[~test], "x_test": x[test], "y_test": y[test]}


def _from_keras(name: str) -> dict[str, NDArray[Any]]:
    from qmodels.runtime import runtime

    load: Callable[[], Any] = getattr(runtime().keras.datasets, name).load_data
    try:
        (x_train, y_train), (x_test, y_test) = load()
    except Exception as error:  # Keras raises bare Exception when a download fails
        raise UserError(
            f"data set {name!r} is neither in the data folder nor downloadable ({str(error)[:120]}); "
            f"put {name}.npz into a folder and pass it as --data-dir or in ${DATA_DIR_VARIABLE}"
        ) from None
    return dict(zip(ARRAYS, (x_train, y_train, x_test, y_test), strict=True))
