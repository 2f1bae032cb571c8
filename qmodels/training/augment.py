"""Random mirror images and shifts: the usual augmentation of CIFAR-10 (He et al., arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from qmodels.grid import Codes

Augmentation = Literal["none", "flip-crop"]
PADDING = 4  # pixels of zeros on each side before cropping


def flip_crop(x: Codes, rng: np.random.Generator) -> Codes:
    """Every image of a batch (N, H, W, C) mirrored with probability one half and shifted by up to `PADDING` pixels."""
    count, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    top, left = rng.integers(0, 2 * PADDING + 1, (2, count, 1))
    columns = np.arange(width)
    order = np.where(rng.random((count, 1)) < 0.5, columns[::-1], columns)
    images: Codes = padded[
        np.arange(count)[:, None, None], (top + np.arange(height))[:, :, None], (left + order)[:, None, :]
    ]
    return images
