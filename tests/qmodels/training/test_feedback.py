from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from qmodels.data import Split
from qmodels.training import FeedbackConfig, class_margins
from qmodels.training.feedback import class_levels, generate_examples, samples_of_level

CONFIG = FeedbackConfig()


def test_ten_classes_give_1090_samples_and_43600_examples():
    levels = class_levels(np.arange(10.0), CONFIG)
    assert levels == ("low",) * 5 + ("medium",) * 3 + ("high",) * 2
    samples = sum(samples_of_level(level, CONFIG) for level in levels)
    assert samples == 2 * 20 + 3 * 100 + 5 * 150 == 1090
    assert samples * CONFIG.top_directions == 43_600


@pytest.mark.parametrize(
    ("classes", "counts"), [(2, (0, 1, 1)), (3, (1, 0, 2)), (4, (1, 1, 2)), (10, (2, 3, 5)), (100, (20, 30, 50))]
)
def test_every_class_has_one_level(classes, counts):
    levels = class_levels(np.random.default_rng(0).random(classes), CONFIG)
    assert tuple(levels.count(level) for level in ("high", "medium", "low")) == counts


def test_the_most_robust_class_is_high():
    scores = np.array([3.0, 9.0, 1.0, 2.0, 8.0, 4.0, 5.0, 6.0, 7.0, 0.0])
    levels = class_levels(scores, CONFIG)
    assert {label for label, level in enumerate(levels) if level == "high"} == {1, 4}
    assert {label for label, level in enumerate(levels) if level == "low"} == {0, 2, 3, 5, 9}


def halfspaces(x):
    """Two classes, told apart by the mean of the image: 0 below one half, 1 above."""
    mean = x.reshape(len(x), -1).mean(axis=1)
    return np.stack([0.5 - mean / 256, mean / 256 - 0.5], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def grey():
    """Flat images of 16 pixels, safely off the boundary; every tenth carries a wrong label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    level = np.where(y == 1, rng.integers(150, 180, 200), rng.integers(80, 110, 200))
    x = np.broadcast_to(level.astype(np.uint8)[:, None, None, None], (200, 4, 4, 1)).copy()
    wrong = np.arange(200) % 10 == 0
    return Split(x, np.where(wrong, 1 - y, y).astype(np.int64))


def test_examples_lie_at_1_5_to_2_margins_on_the_grid_with_the_label_kept(grey):
    config = FeedbackConfig(low_samples=5, medium_samples=3, top_directions=4, t_max=4.0, tolerance=0.001)
    made = generate_examples(halfspaces, grey, ("low", "medium"), config, seed=0, round_=1)
    assert made.examples == (5 * 4, 3 * 4)
    assert np.array_equal(np.bincount(made.split.y), made.examples)
    assert made.split.x.dtype == np.uint8
    right = halfspaces(grey.x).argmax(axis=1) == grey.y
    # An unclipped example moved the mean from its sample's level to 1.5 to 2 times the distance to one half.
    steps = made.split.x.astype(np.float64)
    means = made.split.values.reshape(len(steps), -1).mean(axis=1)
    inside = (steps.reshape(len(steps), -1) > 0).all(axis=1) & (steps.reshape(len(steps), -1) < 255).all(axis=1)
    assert inside.sum() >= 4
    for mean, label in zip(means[inside], made.split.y[inside], strict=True):
        levels = grey.values[right & (grey.y == label), 0, 0, 0]
        factors = (mean - levels) / (0.5 - levels)
        assert ((factors > 1.45) & (factors < 2.05)).any()
        assert (mean > 0.5) != (label == 1)  # beyond the boundary, label kept


def test_examples_are_a_pure_function_of_seed_and_round(grey):
    config = FeedbackConfig(low_samples=3, medium_samples=3, t_max=4.0)
    one, same, other_seed, other_round = (
        generate_examples(halfspaces, grey, ("low", "medium"), config, seed=seed, round_=round_).split
        for seed, round_ in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    assert np.array_equal(one.x, same.x) and np.array_equal(one.y, same.y)
    assert not np.array_equal(one.x, other_seed.x) and not np.array_equal(one.x, other_round.x)


def test_directions_without_a_margin_are_not_used(grey):
    config = FeedbackConfig(low_samples=5, medium_samples=5, t_max=0.5)
    made = generate_examples(halfspaces, grey, ("low", "medium"), config, seed=0, round_=1)
    assert 0 < sum(made.examples) < 10 * config.top_directions
    blind = generate_examples(
        lambda x: halfspaces(grey.x[:1] + 0 * x), grey, ("low", "medium"), config, seed=0, round_=1
    )
    assert sum(blind.examples) == 0 and blind.split.x.shape == (0, 4, 4, 1)


def test_class_margins_skip_misclassified_samples_and_rank_the_nearer_class_lower(grey):
    far = Split(np.where(grey.y[:, None, None, None] == 1, 243, grey.x).astype(np.uint8), grey.y)
    config = FeedbackConfig(probe_samples=20, t_max=4.0, top_directions=5)
    zero, one = class_margins(halfspaces, far, config, classes=2, seed=0)
    right = halfspaces(far.x).argmax(axis=1) == far.y
    assert right.any() and not right.all()
    assert 0 < zero.samples < 20
    assert zero.mean < one.mean
    assert zero.min <= zero.mean and zero.std >= 0


def test_a_class_never_classified_correctly_has_margin_zero(grey):
    margins = class_margins(lambda x: np.tile(np.float32([0, 1]), (len(x), 1)), grey, CONFIG, classes=2, seed=0)
    assert (margins[0].samples, margins[0].mean) == (0, 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"high_share": 0.6}, "high_share .* at most 1"),
        ({"factor_min": 3.0}, "factor_min 3 is above factor_max 2"),
        ({"topdirections": 40}, "topdirections"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        FeedbackConfig(**settings)
