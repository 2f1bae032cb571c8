"""Data sets as integer codes on the device's input grid; images are pixels k in 0..255 that stand for k/256.

`digits` is built in (scikit-learn ships it). The others come from `data_dir` or the environment variable
ROBUST_HLS_DATA, then from Keras' own cache or download. A path ending in `.npz` is the user's own data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.digest import digest
from qmodels.errors import ARCHIVE_ERRORS, UserError, allowed_names
from qmodels.grid import IMAGE_GRID, Codes, InputGrid, Values
from qmodels.targets import TargetKind, check_targets

DATA_DIR_VARIABLE = "ROBUST_HLS_DATA"
KERAS_DATASETS = ("mnist", "fashion_mnist", "cifar10")
DATASETS = ("digits", *KERAS_DATASETS)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class Split:
    """Codes (N, ...) on a grid and labels (N,), or other targets (N, ...); `x, y = split` works."""

    x: Codes
    y: NDArray[Any]
    grid: InputGrid = IMAGE_GRID

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.x, self.y))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def values(self) -> Values:
        """The numbers that the codes stand for."""
        return self.grid.to_values(self.x)

    def take(self, chosen: int | NDArray[Any] | None) -> Split:
        """The first so many samples (all if None), or those of the given rows."""
        rows: Any = chosen if isinstance(chosen, np.ndarray) else slice(chosen)
        return Split(self.x[rows], self.y[rows], self.grid)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits on one grid. Nothing is ever tuned on `test`."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int  # 0 where y holds no class numbers
    targets: TargetKind = "classes"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, (H, W, C)."""
        return tuple(self.train.x.shape[1:])

    @property
    def grid(self) -> InputGrid:
        """What inputs can be."""
        return self.train.grid

    @cached_property
    def digest(self) -> str:
        """SHA-256 of grid and splits. Computed once: it takes a second, and every step of every run asks for it."""
        arrays = [part for split in (self.train, self.validation, self.test) for part in split]
        described = (part for array in arrays for part in (f"{array.shape} {array.dtype}", array))
        return digest(json.dumps(self.grid.as_json()), *described)


def load_data(
    name: str,
    *,
    seed: int = 0,
    data_dir: Path | None = None,
    validation_share: float = 0.1,
    limit_train: int | None = None,
    limit_test: int | None = None,
    targets: TargetKind | Literal["auto"] = "classes",
) -> Dataset:
    """Load, check and split a dataset.

    Args:
        name: `digits`, `mnist`, `fashion_mnist`, `cifar10`, or the path of an `.npz` with
            x_train, y_train, x_test, y_test.
        seed: of the shuffle that picks the validation samples.
        data_dir: where `<name>.npz` is looked for first; default: $ROBUST_HLS_DATA.
        validation_share: share of the training samples held out.
        limit_train: use only so many training samples (validation included).
        limit_test: use only so many test samples.
        targets: what y holds; see `check_targets`.

    Raises:
        UserError: the data set is unknown, unreadable or breaks a rule; the message names file and array.
    """
    source, arrays = _find(name, data_dir)
    checked = check_arrays(arrays, source)
    found = check_targets(checked["y_train"], checked["y_test"], source, targets)
    x, y, classes = checked["x_train"], found.train, found.classes
    order = np.random.default_rng(seed).permutation(len(x))[:limit_train]
    held_out = max(1, round(len(order) * validation_share))
    if held_out >= len(order):
        raise UserError(f"{source}: {len(order)} training samples leave none after holding out {held_out}")
    train, validation = order[held_out:], order[:held_out]
    if classes and (missing := sorted(set(range(classes)) - set(y[train].tolist()))):
        raise UserError(
            f"{source}: y_train has no training sample of class {missing[0]} (classes 0..{classes - 1}) after limiting "
            f"to {len(order)} samples and holding {held_out} out; raise data.limit_train"
        )
    return Dataset(
        Path(name).stem,
        Split(with_channels(x[train]), y[train]),
        Split(with_channels(x[validation]), y[validation]),
        Split(with_channels(checked["x_test"][:limit_test]), found.test[:limit_test]),
        classes,
        found.kind,
    )


def with_channels(images: Codes) -> Codes:
    """Images (N, H, W) as (N, H, W, 1); others as they are."""
    return images[..., None] if images.ndim == 3 else images


def check_arrays(arrays: dict[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """Images as uint8 (N, H, W[, C]) and as many targets as they came, or a UserError that names the array.

    Float images are accepted if all are k/255 or k/256 (to 1e-3 of a step) or whole numbers 0..255.
    """
    for key in ARRAYS:
        if key not in arrays:
            raise UserError(f"{source}: array {key!r} is missing; an .npz needs {', '.join(ARRAYS)}")
    checked: dict[str, NDArray[Any]] = {}
    for part in ("train", "test"):
        images = _check_images(arrays[f"x_{part}"], f"{source}: x_{part}")
        labels = arrays[f"y_{part}"]
        if labels.ndim and len(labels) and len(images) != len(labels):
            raise UserError(f"{source}: x_{part} has {len(images)} samples, y_{part} {len(labels)}; they must agree")
        checked[f"x_{part}"], checked[f"y_{part}"] = images, labels
    if checked["x_train"].shape[1:] != checked["x_test"].shape[1:]:
        raise UserError(f"{source}: x_train and x_test hold images of different shapes")
    return checked


def _check_images(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UserError(f"{where} has shape {images.shape}; allowed: (N, H, W) or (N, H, W, C), nothing empty")
    if images.dtype == np.uint8:
        return images
    if not (np.issubdtype(images.dtype, np.floating) or np.issubdtype(images.dtype, np.integer)):
        raise UserError(f"{where} has dtype {images.dtype}; allowed: uint8, or numbers in 0..255 or 0..1")
    values = images.astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{where} contains NaN or infinity")
    if values.min() < 0 or values.max() > 255:
        raise UserError(f"{where} ranges over {values.min():g}..{values.max():g}; allowed: 0..255 or 0..1")
    if np.issubdtype(images.dtype, np.integer):
        return images.astype(np.uint8)
    scales = (255.0, 256.0) if values.max() <= 1 else (1.0,)
    for scale in scales:
        steps = np.rint(values * scale)
        if np.abs(values * scale - steps).max() < 1e-3 and steps.max() <= 255:
            return steps.astype(np.uint8)
    raise UserError(f"{where} is not 8-bit: values must be whole numbers 0..255, k/255 or k/256")


def _find(name: str, data_dir: Path | None) -> tuple[str, dict[str, NDArray[Any]]]:
    if name.endswith(".npz"):
        return name, read_npz(Path(name))
    if name == "digits":
        return "digits", _digits()
    if name not in KERAS_DATASETS:
        end = allowed_names(name, DATASETS, "or the path of an .npz file")
        raise UserError(f"data.name: unknown data set {name!r}{end}")
    folder = data_dir or (Path(os.environ[DATA_DIR_VARIABLE]) if os.environ.get(DATA_DIR_VARIABLE) else None)
    if folder is not None and not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; --data-dir or ${DATA_DIR_VARIABLE} must name the one with {name}.npz"
        )
    if folder is not None and (folder / f"{name}.npz").exists():
        return str(folder / f"{name}.npz"), read_npz(folder / f"{name}.npz")
    return name, _from_keras(name)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file; object arrays are refused, since unpickling could run code."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key in ARRAYS}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    # TypeError, AttributeError: a single array (.npy) under the name of an archive
    except (OSError, ValueError, TypeError, AttributeError, *ARCHIVE_ERRORS) as error:
        raise UserError(f"{path}: not a readable .npz archive ({error}); write one with numpy.savez") from None


def _digits() -> dict[str, NDArray[Any]]:
    """scikit-learn's 1,797 digits, 8x8, 17 grey levels, spread over 0..255; every fifth is a test sample."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = np.minimum(bunch.images * 16, 255).astype(np.uint8)
    test = np.arange(len(images)) % 5 == 0
    return {
        "x_train": images[~test],
        "y_train": bunch.target[~test],
        "x_test": images[test],
        "y_test": bunch.target[test],
    }


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
