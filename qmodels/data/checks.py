"""What arrays must be to make a data set. Every message names the array and says what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.raw import ARRAYS
from qmodels.errors import UserError

SHAPES = "(N, features), (N, steps, channels), (N, height, width) or (N, height, width, channels)"


def check_arrays(arrays: dict[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """Inputs (N, ...) and as many targets as they came, or a UserError that names the array.

    Inputs come back as uint8 if they are 8-bit data (see `as_pixels`), else as float64.
    """
    for key in ARRAYS:
        if key not in arrays:
            raise UserError(f"{source}: array {key!r} is missing; an .npz needs {', '.join(ARRAYS)}")
    checked: dict[str, NDArray[Any]] = {}
    for part in ("train", "test"):
        inputs = _check_inputs(arrays[f"x_{part}"], f"{source}: x_{part}")
        labels = arrays[f"y_{part}"]
        if labels.ndim and len(labels) and len(inputs) != len(labels):
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
    pixels = [as_pixels(checked[name]) for name in ("x_train", "x_test")]
    for name, found in zip(("x_train", "x_test"), pixels, strict=True):
        both = all(part is not None for part in pixels)
        checked[name] = found if both and found is not None else checked[name].astype(np.float64)
    return checked


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
