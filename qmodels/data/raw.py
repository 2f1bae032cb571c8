"""What a source of data holds before anything is rounded or split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class Raw:
    """The four arrays of `ARRAYS`, where they come from, and the names that features and classes have there."""

    source: str
    arrays: dict[str, NDArray[Any]]
    features: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
