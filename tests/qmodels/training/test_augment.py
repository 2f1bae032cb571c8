"""flip-crop: only mirror images and shifts, all of them, and the same for the same generator."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers.models import grid_images

from qmodels.training.augment import PADDING, flip_crop


def shifted(image: np.ndarray[Any, Any], top: int, left: int) -> np.ndarray[Any, Any]:
    height, width, _ = image.shape
    padded = np.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    return padded[top : top + height, left : left + width]


def test_every_result_is_a_mirrored_shift_of_its_image() -> None:
    image = grid_images(1, (6, 5, 3))[0]
    places = [(top, left) for top in range(2 * PADDING + 1) for left in range(2 * PADDING + 1)]
    allowed = {shifted(image, *place)[:, ::step].tobytes() for place in places for step in (1, -1)}
    made = flip_crop(np.stack([image] * 3000), np.random.default_rng(0))
    assert {found.tobytes() for found in made} == allowed


def test_every_image_keeps_its_place_and_the_generator_decides() -> None:
    images = np.stack([np.full((8, 8, 1), number, np.float32) for number in range(1, 20)])
    one, two = (flip_crop(images, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one.max(axis=(1, 2, 3)), np.arange(1, 20))
