"""What a data set's y holds: class numbers, real numbers to predict, or marks of anomalies. Checked here."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError

TargetKind = Literal["classes", "regression", "anomaly"]
Array = NDArray[Any]


class Targets(NamedTuple):
    """Checked y of both parts."""

    kind: TargetKind
    train: Array  # (N,) int64; for a regression (N, outputs) float64
    test: Array
    classes: int  # 0 where y is no class number


def check_targets(train: Array, test: Array, source: str, kind: TargetKind | Literal["auto"] = "classes") -> Targets:
    """The targets as one kind needs them.

    Args:
        train, test: y as it was read.
        source: file or data set, for messages.
        kind: `classes`: numbers 0..K-1 without gaps. `regression`: real numbers. `anomaly`: 1 marks an anomaly, 0 a
            normal input; training samples may all be normal. `auto`: a regression where numbers have fractions or
            several columns, else classes.

    Raises:
        UserError: an array breaks a rule; the message names it.
    """
    if kind == "auto":
        kind = "regression" if _real(train) or _real(test) else "classes"
    where = f"{source}: y_train", f"{source}: y_test"
    if kind == "regression":
        known, asked = _check_numbers(train, where[0]), _check_numbers(test, where[1])
        if known.shape[1] != asked.shape[1]:
            raise UserError(f"{source}: y_train has {known.shape[1]} columns, y_test {asked.shape[1]}")
        return Targets(kind, known, asked, 0)
    first, second = check_labels(train, where[0]), check_labels(test, where[1])
    if kind == "classes":
        return Targets(kind, first, second, _count_classes(first, second, source))
    for name, part in zip(where, (first, second), strict=True):
        if part.max() > 1:
            raise UserError(f"{name} has label {part.max()}; for an auto-encoder 1 marks an anomaly, 0 a normal input")
    return Targets(kind, first, second, 0)


def check_labels(labels: Array, where: str) -> NDArray[np.int64]:
    """Class numbers (N,) as int64, or a UserError."""
    flat = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or len(flat) == 0:
        raise UserError(f"{where} has shape {labels.shape}; allowed: (N,), class numbers, not one-hot")
    if not _is_real_type(flat) or not np.array_equal(flat, np.floor(flat)):
        raise UserError(f"{where} has dtype {labels.dtype} or fractions; allowed: whole class numbers")
    if flat.min() < 0 or flat.max() > 9999:
        raise UserError(f"{where} has labels out of range ({flat.min()}..{flat.max()}); allowed: 0..K-1")
    return flat.astype(np.int64)


def _count_classes(train: NDArray[np.int64], test: NDArray[np.int64], source: str) -> int:
    classes, present = int(train.max()) + 1, np.unique(train)
    if len(present) != classes:
        empty = sorted(set(range(classes)) - set(present.tolist()))[0]
        raise UserError(f"{source}: y_train has no sample of class {empty}; labels must be 0..K-1 without gaps")
    if classes < 2:
        raise UserError(f"{source}: y_train has only one class; a classifier needs at least two")
    if int(test.max()) >= classes:
        raise UserError(f"{source}: y_test has label {int(test.max())}, y_train only 0..{classes - 1}")
    return classes


def _check_numbers(numbers: Array, where: str) -> NDArray[np.float64]:
    if not len(numbers) or numbers.ndim not in (1, 2) or not _is_real_type(numbers):
        raise UserError(
            f"{where} has shape {numbers.shape} and dtype {numbers.dtype}; allowed for a regression: real numbers, "
            "(N,) or (N, outputs)"
        )
    if not np.isfinite(numbers).all():
        raise UserError(f"{where} contains NaN or infinity")
    return numbers.astype(np.float64).reshape(len(numbers), -1)


def _is_real_type(numbers: Array) -> bool:
    return bool(np.issubdtype(numbers.dtype, np.integer) or np.issubdtype(numbers.dtype, np.floating))


def _real(numbers: Array) -> bool:
    """Whether these are real numbers: no class number has a fraction, and one-hot rows are left to `check_labels`."""
    return bool(np.issubdtype(numbers.dtype, np.floating) and not np.array_equal(numbers, np.floor(numbers)))
