from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmodels.grid import IMAGE_GRID
from qmodels.training import measure_margins, random_directions

LADDER = {"t_start": 0.05, "t_max": 4.0}


def linear(weights, bias):
    return lambda x: (x.reshape(len(x), -1) @ weights + bias).astype(np.float32)


def linear_margins(weights, bias, x, y, directions):
    """Closed form: along d, class c overtakes y at t = (f_y - f_c) / ((w_c - w_y) d) where that is positive."""
    signed = np.concatenate([directions, -directions]).astype(np.float64)
    logits = x.reshape(len(x), -1).astype(np.float64) @ weights + bias
    slopes = signed @ weights
    margins = np.full((len(x), len(signed)), np.inf)
    for i, label in enumerate(y):
        gap = logits[i, label] - logits[i]
        rate = slopes - slopes[:, label : label + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(rate > 0, gap / rate, np.inf)
        t[:, label] = np.inf
        margins[i] = t.min(axis=1)
    return margins


def problem(seed, dimension=12, classes=4, count=6):
    rng = np.random.default_rng(seed)
    weights, bias = rng.standard_normal((dimension, classes)), rng.standard_normal(classes)
    x = rng.random((count, 3, dimension // 3, 1)).astype(np.float32)
    y = linear(weights, bias)(x).argmax(axis=1)
    return weights, bias, x, y, random_directions(20, dimension, rng)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), growth=st.sampled_from([1.1, 1.5, 3.0]), batch=st.sampled_from([7, 64, 1000]))
def test_margins_of_a_linear_model_match_the_closed_form(seed, growth, batch):
    weights, bias, x, y, directions = problem(seed)
    exact = linear_margins(weights, bias, x, y, directions)
    found = measure_margins(
        linear(weights, bias), x, y, directions, growth=growth, tolerance=0.01, batch_size=batch, **LADDER
    ).values
    inside, outside = exact < 3.999, exact > 4.001
    assert np.isinf(found[outside]).all()
    ratio = found[inside] / exact[inside]
    # The upper end of the bracket: never below the margin (but for rounding), at most 1 % above.
    assert (ratio > 1 - 1e-3).all() and (ratio < 1.0102 + 1e-3).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), smallest=st.integers(1, 40))
def test_the_smallest_margins_are_the_same_when_only_they_are_measured(seed, smallest):
    weights, bias, x, y, directions = problem(seed)
    exact = np.sort(linear_margins(weights, bias, x, y, directions), axis=1)[:, :smallest]
    pruned = measure_margins(linear(weights, bias), x, y, directions, tolerance=0.01, smallest=smallest, **LADDER)
    everything = measure_margins(linear(weights, bias), x, y, directions, tolerance=0.01, **LADDER)
    assert (np.isfinite(pruned.values).sum(axis=1) <= smallest).all()
    found = np.sort(pruned.values, axis=1)[:, :smallest]
    inside = exact < 3.999
    np.testing.assert_allclose(found[inside], exact[inside], rtol=0.012)
    assert pruned.evaluations <= everything.evaluations


def test_the_label_is_wrong_at_the_margin_that_is_returned():
    weights, bias, x, y, directions = problem(1)
    model = linear(weights, bias)
    values = measure_margins(model, x, y, directions, **LADDER).values
    sample, row = np.nonzero(np.isfinite(values))
    assert len(sample)
    steps = np.concatenate([directions, -directions])[row] * values[sample, row][:, None]
    points = x[sample] + steps.reshape(-1, *x.shape[1:])
    assert (model(points).argmax(axis=1) != y[sample]).all()


def test_a_misclassified_sample_has_margin_zero():
    weights, bias, x, y, directions = problem(2)
    y[0] = (y[0] + 1) % 4
    values = measure_margins(linear(weights, bias), x, y, directions, **LADDER).values
    assert (values[0] == 0).all() and (values[1:] > 0).all()


def test_nan_logits_are_no_margin():
    _, _, x, y, directions = problem(3)
    values = measure_margins(lambda images: np.full((len(images), 4), np.nan), x, y, directions, **LADDER).values
    assert np.isinf(values).all()


def test_on_the_grid_the_model_sees_only_device_inputs():
    weights, bias, x, y, directions = problem(4)
    seen = []

    def spy(images):
        seen.append(images.copy())
        return linear(weights, bias)(images)

    measure_margins(spy, x, y, directions, snap=IMAGE_GRID.nearest, **LADDER)
    assert np.concatenate(seen).dtype == np.uint8


@pytest.mark.parametrize(("count", "dimension"), [(100, 784), (100, 64), (5, 5)])
def test_directions_are_orthonormal_within_each_basis(count, dimension):
    directions = random_directions(count, dimension, np.random.default_rng(0))
    assert directions.shape == (count, dimension) and directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    for start in range(0, count, dimension):
        block = directions[start : start + dimension]
        np.testing.assert_allclose(block @ block.T, np.eye(len(block)), atol=1e-5)
    assert len(np.unique(directions.round(5), axis=0)) == count
