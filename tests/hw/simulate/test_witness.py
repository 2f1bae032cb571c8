"""Outputs of something else: told how they differ, and in which order of the channels they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hw.simulate.witness import compare
from qmodels.errors import UserError

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(2, 3))
LAST = RNG.normal(size=(30, 4, 4, 2))  # channels last


def predict(x: Any) -> Any:
    """Each pixel's channels times a matrix: what order they have matters."""
    return x @ KERNEL


def test_equal_outputs() -> None:
    found = compare(predict, LAST, predict(LAST), (4, 4, 2))
    assert found.difference.outputs == 0 and not found.hint
    assert str(found) == "the accelerator gave the same bits in all 1440 outputs, which is not guaranteed"


@pytest.mark.parametrize(
    ("x", "outputs", "hint"),
    [
        (np.moveaxis(LAST, -1, 1), predict(LAST), "with the channels of the inputs moved to the end"),
        (LAST, np.moveaxis(predict(LAST), -1, 1), "with the channels of the outputs moved to the end"),
    ],
)
def test_channels_elsewhere(x: Any, outputs: Any, hint: str) -> None:
    found = compare(predict, np.ascontiguousarray(x), np.ascontiguousarray(outputs), (4, 4, 2))
    assert found.hint == hint and str(found).endswith(f"They fit {hint}")


def test_another_function_fits_in_no_order() -> None:
    found = compare(predict, LAST, predict(LAST)[::-1], (4, 4, 2))
    assert found.difference.outputs > 1000 and not found.hint


def test_shapes_are_told() -> None:
    with pytest.raises(UserError, match=r"x has shape \(30, 4, 4, 2\); the accelerator takes \(N, 4, 4, 3\)"):
        compare(predict, LAST, predict(LAST), (4, 4, 3))
    with pytest.raises(UserError, match=r"\(30, 5\) outputs are given, the accelerator has \(30, 48\)"):
        compare(predict, LAST, np.zeros((30, 5)), (4, 4, 2))
