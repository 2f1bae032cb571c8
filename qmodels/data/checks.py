"""What arrays must be to make a data set. Every message names the array and says what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.raw import ARRAYS
from qmodels.errors import UserError

SHAPES = "(N, features), (N, steps, channels), (N, height, width) or (N, height, width, channels)"


def check_arrays(arrays: dict[str, NDArray[Any]], source: str, of: str = "") -> dict[str, NDArray[Any]]:
    """Inputs (N, ...) and as many targets as they came, or a UserError that names the array.

    Args:
        arrays: `ARRAYS` by name, or of one of several inputs x_train_NAME and x_test_NAME for x_train and x_test.
        source: of the data, for messages.
        of: what the names of the inputs' arrays end in: "", or "_NAME".

    Returns:
        `ARRAYS`. Inputs are uint8 if they are 8-bit data (see `as_pixels`), else float64.
    """
    names = [f"x_train{of}", f"x_test{of}"]
    for key in (names[0], "y_train", names[1], "y_test"):
        if key not in arrays:
            wanted = ", ".join(ARRAYS) if not of else f"{', '.join(names)}, y_train, y_test"
            raise UserError(f"{source}: array {key!r} is missing; an .npz needs {wanted}")
    inputs = [_check_inputs(arrays[name], f"{source}: {name}") for name in names]
    targets = [arrays["y_train"], arrays["y_test"]]
    for name, y, x, labels in zip(names, ("y_train", "y_test"), inputs, targets, strict=True):
        if labels.ndim and len(labels) and len(x) != len(labels):
            raise UserError(f"{source}: {name} has {len(x)} samples, {y} {len(labels)}; they must agree")
    first, second = (part.shape for part in inputs)
    if first[1:] != second[1:]:
        raise UserError(
            f"{source}: {names[0]} and {names[1]} hold images of different shapes"
            if len(first) == len(second) > 2
            else f"{source}: {names[0]} has shape {first}, {names[1]} {second}; they must agree, "
            "but for the first number"
        )
    pixels = [as_pixels(part) for part in inputs]
    both = all(part is not None for part in pixels)
    for place, found in enumerate(pixels):
        inputs[place] = found if both and found is not None else inputs[place].astype(np.float64)
    return dict(zip(ARRAYS, (inputs[0], targets[0], inputs[1], targets[1]), strict=True))


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
