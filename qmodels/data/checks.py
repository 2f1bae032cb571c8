"""What arrays must be to make a data set. Every message names the array and says what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.raw import ARRAYS
from qmodels.errors import UserError

SHAPES = "(N, features), (N, steps, channels), (N, height, width) or (N, height, width, channels)"


def check_arrays(arrays: dict[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """Inputs (N, ...) and labels as int64 (N,), or a UserError that names the array.

    Inputs come back as uint8 if they are 8-bit data (see `as_pixels`), else as float64.
    """
    for key in ARRAYS:
        if key not in arrays:
            raise UserError(f"{source}: array {key!r} is missing; an .npz needs {', '.join(ARRAYS)}")
    checked: dict[str, NDArray[Any]] = {}
    for part in ("train", "test"):
        inputs = _check_inputs(arrays[f"x_{part}"], f"{source}: x_{part}")
        labels = check_labels(arrays[f"y_{part}"], f"{source}: y_{part}")
        if len(inputs) != len(labels):
            raise UserError(f"{source}: x_{part} has {len(inputs)} samples, y_{part} {len(labels)}; they must agree")
        checked[f"x_{part}"], checked[f"y_{part}"] = inputs, labels
    shapes = [checked[name].shape[1:] for name in ("x_train", "x_test")]
    if shapes[0] != shapes[1]:
        whole = [checked[name].shape for name in ("x_train", "x_test")]
        raise UserError(
            f"{source}: x_train and x_test hold images of different shapes"
            if len(whole[0]) == len(whole[1]) > 2
            else f"{source}: x_train has shape {whole[0]}, x_test {whole[1]}; they must agree, but for the first number"
        )
    check_classes(checked["y_train"], checked["y_test"], source)
    pixels = [as_pixels(checked[name]) for name in ("x_train", "x_test")]
    for name, found in zip(("x_train", "x_test"), pixels, strict=True):
        both = all(part is not None for part in pixels)
        checked[name] = found if both and found is not None else checked[name].astype(np.float64)
    return checked


def check_classes(y_train: NDArray[np.int64], y_test: NDArray[np.int64], source: str) -> None:
    """Raise UserError unless the labels are 0..K-1 without gaps, K at least 2."""
    classes = int(y_train.max()) + 1
    present = np.unique(y_train)
    if len(present) != classes:
        empty = sorted(set(range(classes)) - set(present.tolist()))[0]
        raise UserError(f"{source}: y_train has no sample of class {empty}; labels must be 0..K-1 without gaps")
    if classes < 2:
        raise UserError(f"{source}: y_train holds one class only; a classifier needs at least two")
    if int(y_test.max()) >= classes:
        raise UserError(f"{source}: y_test has label {int(y_test.max())}, y_train only 0..{classes - 1}")


def check_labels(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Labels as int64 (N,), or a UserError that names the array."""
    flat = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or len(flat) == 0:
        raise UserError(f"{where} has shape {labels.shape}; allowed: (N,), class numbers, not one-hot")
    is_real = np.issubdtype(flat.dtype, np.integer) or np.issubdtype(flat.dtype, np.floating)
    if not is_real or not np.array_equal(flat, np.floor(flat)):
        raise UserError(f"{where} has dtype {labels.dtype} or fractions; allowed: whole class numbers")
    if flat.min() < 0 or flat.max() > 9999:
        raise UserError(f"{where} has labels out of range ({flat.min()}..{flat.max()}); allowed: 0..K-1")
    return flat.astype(np.int64)


def as_pixels(inputs: NDArray[Any]) -> NDArray[np.uint8] | None:
    """8-bit data as the numbers 0..255; None for anything else.

    Any uint8 array is 8-bit data. So are pictures (N, H, W[, C]) of whole numbers 0..255, of k/255 or of k/256 (to 1e-3
    of a step); tables of such numbers are not.
    """
    if inputs.dtype == np.uint8:
        return inputs
    values = inputs.astype(np.float64)
    if inputs.ndim < 3 or values.min() < 0 or values.max() > 255:
        return None
    for scale in (255.0, 256.0) if values.max() <= 1 and np.issubdtype(inputs.dtype, np.floating) else (1.0,):
        steps = np.rint(values * scale)
        if np.abs(values * scale - steps).max() < 1e-3 and steps.max() <= 255:
            return steps.astype(np.uint8)
    return None


def _check_inputs(inputs: NDArray[Any], where: str) -> NDArray[Any]:
    if inputs.ndim not in (2, 3, 4) or 0 in inputs.shape:
        mend = "; a table of one feature is x.reshape(-1, 1)" if inputs.ndim == 1 else ""
        raise UserError(f"{where} has shape {inputs.shape}; allowed: {SHAPES}, nothing empty{mend}")
    if not (np.issubdtype(inputs.dtype, np.floating) or np.issubdtype(inputs.dtype, np.integer)):
        raise UserError(f"{where} has dtype {inputs.dtype}; allowed: uint8, or numbers")
    if not np.isfinite(inputs).all():
        raise UserError(f"{where} contains NaN or infinity")
    return inputs
