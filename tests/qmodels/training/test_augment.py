"""Only mirror images and shifts, all of them, and the same for the same generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import grid_images

from qmodels.training.augment import PADDING, Augmentation, augmented


def shifted(image: np.ndarray[Any, Any], reach: int, top: int, left: int) -> np.ndarray[Any, Any]:
    height, width, _ = image.shape
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)))
    return padded[top : top + height, left : left + width]


@pytest.mark.parametrize(("how", "orders"), [("flip-crop", (1, -1)), ("shift", (1,))])
def test_every_result_is_a_shift_of_its_image_and_maybe_mirrored(how: Augmentation, orders: tuple[int, ...]) -> None:
    image = grid_images(1, (6, 5, 3))[0]
    reach = PADDING[how]
    places = [(top, left) for top in range(2 * reach + 1) for left in range(2 * reach + 1)]
    allowed = {shifted(image, reach, *place)[:, ::step].tobytes() for place in places for step in orders}
    made = augmented(np.stack([image] * 3000), how, np.random.default_rng(0))
    assert {found.tobytes() for found in made} == allowed


@pytest.mark.parametrize("how", ["flip-crop", "shift", "none"])
def test_every_image_keeps_its_place_and_the_generator_decides(how: Augmentation) -> None:
    images = np.stack([np.full((8, 8, 1), number, np.float32) for number in range(1, 20)])
    one, two = (augmented(images, how, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one.max(axis=(1, 2, 3)), np.arange(1, 20))
