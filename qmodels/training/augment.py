"""Random mirror images and shifts: the usual augmentation of CIFAR-10 (He et al., arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from qmodels.grid import Codes

Augmentation = Literal["none", "flip-crop", "shift"]
PADDING = {"flip-crop": 4, "shift": 1}  # pixels of zeros on each side before cropping


def augmented(x: Codes, how: Augmentation, rng: np.random.Generator) -> Codes:
    """Every image of a batch (N, H, W, C) shifted by up to `PADDING` pixels; flip-crop mirrors it half the time."""
    if how == "none":
        return x
    reach = PADDING[how]
    count, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    top, left = rng.integers(0, 2 * reach + 1, (2, count, 1))
    order = columns = np.arange(width)
    if how == "flip-crop":
        order = np.where(rng.random((count, 1)) < 0.5, columns[::-1], columns)
    images: Codes = padded[
        np.arange(count)[:, None, None], (top + np.arange(height))[:, :, None], (left + order)[:, None, :]
    ]
    return images
