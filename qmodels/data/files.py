"""The user's own data: .npz archives, tables (.csv, .parquet), and folders of pictures. Nothing in a file runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.holdout import part_for_test
from qmodels.data.raw import ARRAYS, Raw
from qmodels.errors import ARCHIVE_ERRORS, UserError, allowed_names

TABLES = (".csv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 1 << 28  # of all pictures together


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file; object arrays are refused, since unpickling could run code."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            named = ("x_train_", "x_test_")  # of several inputs
            return {key: archive[key] for key in archive.files if key in ARRAYS or key.startswith(named)}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    # TypeError, AttributeError: a single array (.npy) under the name of an archive
    except (OSError, ValueError, TypeError, AttributeError, *ARCHIVE_ERRORS) as error:
        raise UserError(f"{path}: not a readable .npz archive ({error}); write one with numpy.savez") from None


def read_table(path: Path, label: str | None, share: float, seed: int) -> Raw:
    """A table with a line of names, one column of labels, and numbers in all others; split by the seed.

    Args:
        path: .csv, or .parquet if pandas is installed.
        label: name of the column with the class.
        share: of every class that is for the test.
        seed: of the split.

    Raises:
        UserError: it cannot be read, has no such column, or a cell is no number; the message says where.
    """
    heads, columns = (_csv if path.suffix == ".csv" else _parquet)(path)
    if label not in heads:
        told = (
            "give data.label (--set data.label=NAME), the column with the class"
            if label is None
            else f"no column {label!r}"
        )
        raise UserError(f"{path}: {told}" + allowed_names(label or "", heads))
    features = tuple(head for head in heads if head != label)
    if not features:
        raise UserError(f"{path}: the only column is the label; features are missing")
    x = np.stack([_numbers(path, head, columns[head]) for head in features], axis=1)
    y, names = class_numbers([str(value).strip() for value in columns[label]])
    return _split(str(path), x, y, share, seed, features, names)


def read_pictures(folder: Path, share: float, seed: int) -> Raw:
    """A folder with one subfolder of PNG or JPEG files per class; the classes are named as the folders are.

    All pictures must have one size; they are grey if all are, else RGB.

    Raises:
        UserError: there are no such subfolders, or a file is no picture, or of another size.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = [(entry, number) for number, name in enumerate(classes) for entry in _pictures(name)]
    if len(classes) < 2 or len({number for _, number in found}) < len(classes):
        empty = next((entry.name for entry in classes if not _pictures(entry)), None)
        what = f"subfolder {empty!r} has none" if empty else f"it has {len(classes)} subfolders"
        raise UserError(
            f"{folder}: wanted: one subfolder of {', '.join(PICTURES)} files for each class, two at least; {what}"
        )
    images = _decoded([entry for entry, _ in found])
    y = np.array([number for _, number in found], np.int64)
    return _split(str(folder), images, y, share, seed, (), tuple(entry.name for entry in classes))


def class_numbers(values: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,) 0..K-1 and the K names; names that are numbers are in the order of numbers."""
    try:
        names = sorted(set(values), key=float)
    except ValueError:
        names = sorted(set(values))
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[value] for value in values], np.int64), tuple(names)


def _split(
    source: str,
    x: NDArray[Any],
    y: NDArray[np.int64],
    share: float,
    seed: int,
    features: tuple[str, ...],
    labels: tuple[str, ...],
) -> Raw:
    train, test = part_for_test(y, share, seed)
    arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    return Raw(source, arrays, features, labels)


def _csv(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable .csv table ({error}); wanted: UTF-8, commas, names first") from None
    if len(rows) < 2:
        raise UserError(f"{path}: {len(rows)} lines; wanted: a line with the columns' names, then one for each sample")
    heads = [head.strip() for head in rows[0]]
    if len(set(heads)) < len(heads):
        raise UserError(f"{path}: two columns have the same name; the first line must name each column once")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(heads):
            raise UserError(f"{path}: row {number} has {len(row)} cells, the first line names {len(heads)} columns")
    return heads, {head: [row[place] for row in rows[1:]] for place, head in enumerate(heads)}


def _parquet(path: Path) -> tuple[list[str], dict[str, list[Any]]]:
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise UserError(f"{path}: .parquet needs pandas: pip install pandas pyarrow; or save it as .csv") from None
    try:
        table = pandas.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # pandas' engines raise almost anything
        raise UserError(f"{path}: not a readable .parquet table ({str(error)[:200]})") from None
    return [str(name) for name in table.columns], {str(name): table[name].tolist() for name in table.columns}


def _numbers(path: Path, head: str, cells: Sequence[Any]) -> NDArray[np.float64]:
    numbers = np.empty(len(cells), np.float64)
    for row, cell in enumerate(cells):
        try:
            numbers[row] = float(cell)
        except (TypeError, ValueError):
            numbers[row] = np.nan
        if not np.isfinite(numbers[row]):
            what = "is empty" if str(cell).strip() == "" else f"contains {str(cell)[:40]!r}"
            raise UserError(
                f"{path}: column {head!r}, row {row + 2} {what}; allowed: finite numbers. Drop the column or the row, "
                "or write categories as numbers"
            )
    return numbers


def _pictures(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES)


def _decoded(paths: Sequence[Path]) -> NDArray[np.uint8]:
    from PIL import Image

    images, size, total = [], None, 0
    for path in paths:
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                total += picture.size[0] * picture.size[1]
                if total > MAX_PIXELS:
                    raise UserError(f"{path}: more than {MAX_PIXELS} pixels in all; make the pictures smaller")
                grey = picture.mode in ("1", "L", "LA", "I", "I;16")
                images.append(np.asarray(picture.convert("L" if grey else "RGB")))
                size = size or picture.size
                found = picture.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: not a readable PNG or JPEG file ({error})") from None
        if found != size:
            raise UserError(
                f"{path}: {found[0]}x{found[1]} pixels, {paths[0].name} has {size[0]}x{size[1]}; make all one size"
            )
    if all(image.ndim == 2 for image in images):
        return np.stack(images)[..., None]
    return np.stack([image if image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in images])
