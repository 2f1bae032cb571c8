"""Between codes on an input grid, raw integers, and the real numbers that these stand for."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim.program import Ints, Value
from hw.simulate.bitsim.scalars import quantize
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import Codes, InputGrid
from qmodels.victims import Logits


def raw_inputs(x: Codes, grid: InputGrid, inputs: tuple[Value, ...]) -> Ints:
    """Codes (N, ...) as raw integers (N, elements of all inputs), as `ap_fixed(double)` converts them."""
    fed = grid.feed(np.asarray(x))
    parts = fed if isinstance(fed, list) else [fed]
    if len(parts) != len(inputs):
        raise UserError(f"the network has {len(inputs)} inputs, and the grid is that of {len(parts)}")
    pairs = zip(parts, grid.formats, inputs, strict=True)
    return np.concatenate([_raw(codes, source, value) for codes, source, value in pairs], axis=1)


def _raw(x: NDArray[Any], source: FixedPoint, value: Value) -> Ints:
    if prod(x.shape[1:]) != value.size:
        raise UserError(f"input {value.layer!r} takes arrays of shape (N, {value.size}), got {x.shape}")
    codes = x.reshape(len(x), value.size)
    unique, where = np.unique(codes, return_inverse=True)
    wide = FixedPoint(62, 62 - source.fraction)
    raw = np.array([quantize(int(code), wide, value.format) for code in unique], np.int64)
    return raw[where].reshape(codes.shape)


def real(raw: Ints, values: tuple[Value, ...]) -> Logits:
    """The numbers that raw integers (N, elements) of some values stand for."""
    steps = np.concatenate([np.full(value.size, value.format.lsb) for value in values])
    numbers: Logits = (raw * steps).astype(np.float32)
    return numbers
