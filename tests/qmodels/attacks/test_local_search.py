"""Local search on thresholded inputs, where gradients see nothing and only some features count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_victims import digits

from qmodels.attacks import LocalSearch, local_search
from qmodels.attacks.local_search import moves
from qmodels.data import Split
from qmodels.grid import IMAGE_GRID, Codes
from qmodels.runtime import runtime, set_seed
from qmodels.victims import Logits, Victim

EPSILON, HALF = 40, 128


class Thresholded:
    """A network that sees only which pixels are at least one half: in NumPy, since it is asked very often."""

    name, grid = "bitsim", IMAGE_GRID

    def __init__(self) -> None:
        keras, (x, y) = runtime().keras, digits().train
        set_seed(0)
        layers = [keras.layers.Dense(24, activation="relu"), keras.layers.Dense(10)]
        model = keras.Sequential([keras.Input((64,)), *layers])
        model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(self.seen(x), y, epochs=15, batch_size=100, verbose=0)
        # sums of so few bits are exact in floats, in any order: a batch's size changes no output
        self.weights = [np.round(64 * weight) / 64 for weight in model.get_weights()]

    def seen(self, x: Codes) -> NDArray[np.float32]:
        return (x.reshape(len(x), 64) >= HALF).astype(np.float32)

    def logits(self, x: Codes) -> Logits:
        inner, bias, outer, last = self.weights
        found: Logits = np.maximum(self.seen(x) @ inner + bias, 0) @ outer + last
        return found


@pytest.fixture(scope="module")
def victim() -> Victim:
    return Thresholded()


@pytest.fixture(scope="module")
def standing(victim: Any) -> Split:
    images = digits().test.take(60)
    return images.take(np.flatnonzero(victim.logits(images.x).argmax(axis=1) == images.y))


def test_it_finds_every_image_that_some_choice_of_pixels_breaks(victim: Victim, standing: Split) -> None:
    x, y = standing
    result = LocalSearch(queries=4000, rounds=30)(victim, x, y, epsilon_lsb=EPSILON, seed=0)
    assert result.queries <= 4000 * len(y)
    spent = np.array(result.diagnostics.queries_to_success)
    assert ((spent >= 0) == result.success).all() and spent.max() <= 4000
    tried = broken = 0
    for image, label, found in zip(x, y, result.success, strict=True):
        wide = image.astype(int)
        crossing = np.flatnonzero((np.maximum(wide - EPSILON, 0) < HALF) & (np.minimum(wide + EPSILON, 255) >= HALF))
        if len(crossing) > 13:
            continue
        choices = np.repeat(image.reshape(1, -1), 2 ** len(crossing), axis=0)
        ends = np.stack([np.maximum(wide - EPSILON, 0), np.minimum(wide + EPSILON, 255)]).reshape(2, -1)
        bits = (np.arange(len(choices))[:, None] >> np.arange(len(crossing))) & 1
        choices[:, crossing] = np.take_along_axis(ends[:, crossing], bits, axis=0)
        breakable = (victim.logits(choices.reshape(-1, 8, 8, 1)).argmax(axis=1) != label).any()
        assert found == breakable
        tried, broken = tried + 1, broken + breakable
    assert tried > 30 and 5 < broken < tried - 5


def test_what_is_found_does_not_depend_on_how_many_are_searched_together(
    victim: Victim, standing: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for together in (64, 7, 1):
        monkeypatch.setattr(local_search, "_TOGETHER", together)
        results.append(LocalSearch(queries=300, rounds=10)(victim, *standing, epsilon_lsb=EPSILON, seed=1))
    first, *others = results
    assert 0 < first.success.sum() < len(standing.y)
    for other in others:
        np.testing.assert_array_equal(other.x, first.x)
        assert other.queries == first.queries
        assert other.diagnostics.queries_to_success == first.diagnostics.queries_to_success


def test_moves_change_one_feature_to_an_end_and_never_none() -> None:
    now, low, high = np.array([3, 5, 0]), np.array([3, 0, 0]), np.array([7, 9, 0])
    assert moves(now, (low, high), inner=False).tolist() == [[0, 7], [1, 0], [1, 9]]
    inner = moves(now, (low, high)).tolist()
    assert [1, 4] in inner and [1, 6] in inner and [0, 5] in inner and not [m for m in inner if m[0] == 2]
