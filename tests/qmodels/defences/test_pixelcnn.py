"""PixelDefend: the PixelCNN learns, purification stays in its ball and is one function whatever the batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from qmodels.attacks import PGD
from qmodels.data import load_data
from qmodels.defences import Defence, PixelDefendConfig, defended
from qmodels.defences.pixelcnn import Context, PixelDefend, forward, mean_bits, pixeldefend
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime
from qmodels.victims import KerasVictim

SMALL = PixelDefendConfig(reach=2, hidden=24, steps=250, batch_size=256)


@pytest.fixture(scope="module")
def purify(tmp_path_factory):
    path = tmp_path_factory.mktemp("pixelcnn") / "pixelcnn.npz"
    return pixeldefend(SMALL, IMAGE_GRID, images(), 0, path), path


def images():
    return load_data("digits", seed=0, limit_train=400, limit_test=40).train.x


def test_it_has_learned_what_digits_look_like(purify):
    one, _ = purify
    assert mean_bits(one.weights, one.context, images()[:50]) < 4  # 8 is a uniform guess, 4.09 a guess of 17 levels
    noise = IMAGE_GRID.random(50, (8, 8, 1), np.random.default_rng(0))
    assert mean_bits(one.weights, one.context, noise) > 8


def test_it_is_read_again(purify, tmp_path):
    one, path = purify
    before = path.stat().st_mtime_ns
    again = pixeldefend(SMALL, IMAGE_GRID, images(), 0, path)
    assert path.stat().st_mtime_ns == before
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, again.weights, strict=True))


@pytest.mark.parametrize("shape", [(4, 5, 1), (3, 4, 3)])
def test_a_number_sees_only_what_comes_before_it(shape):
    context = Context(shape, 2)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, *shape)).astype(np.uint8)
    places = context.places()
    for place, (row, column) in enumerate(places):
        changed = x.reshape(1, -1).copy()
        changed[0, place:] = rng.integers(0, 256, len(places) - place)
        inputs = [context.inputs(context.padded(part), context.inside(), row, column)
                  for part in (x, changed.reshape(x.shape))]  # fmt: skip
        assert inputs[0].shape == (1, context.size)
        np.testing.assert_array_equal(*inputs)
        if place:
            changed[0, place - 1] ^= 128  # its left neighbour, or the pixel's channel before
            nearer = context.inputs(context.padded(changed.reshape(x.shape)), context.inside(), row, column)
            assert column == 0 or not np.array_equal(nearer, inputs[0])


def test_purified_inputs_stay_in_the_ball_and_on_the_grid_and_are_likelier(purify):
    one, _ = purify
    rng = np.random.default_rng(0)
    noisy = np.clip(images()[:30].astype(int) + rng.integers(-30, 31, (30, 8, 8, 1)), 0, 255).astype(np.uint8)
    found = one.codes(noisy)
    assert found.dtype == np.uint8 and found.shape == noisy.shape
    assert 0 < np.abs(found.astype(int) - noisy).max() <= SMALL.epsilon_lsb
    assert mean_bits(one.weights, one.context, found) < mean_bits(one.weights, one.context, noisy)


def test_it_is_the_same_function_in_batches_of_any_size(purify):
    one, _ = purify
    x = IMAGE_GRID.random(7, (8, 8, 1), np.random.default_rng(3))
    together = one.codes(x)
    for row in range(7):
        np.testing.assert_array_equal(one.codes(x[row : row + 1])[0], together[row])
    np.testing.assert_array_equal(one.tensors(runtime().tf.constant(x, "float32")).numpy(), together)


@pytest.mark.parametrize(("shape", "reach"), [((4, 5, 1), 2), ((3, 4, 3), 2), ((5, 3, 2), 1), ((1, 4, 1), 3)])
def test_numbers_are_drawn_as_one_after_the_other(shape, reach):
    rng, context = np.random.default_rng(1), Context(shape, reach)
    sizes = (context.size, 8, 8, 256)
    pairs = [(rng.integers(-3000, 3000, (a, b)) / 4096, rng.integers(-99, 99, b) / 4096) for a, b in pairwise(sizes)]
    one = PixelDefend(IMAGE_GRID, context, tuple(part for pair in pairs for part in pair), 38)
    x = rng.integers(0, 256, (9, *shape)).astype(np.uint8)
    padded, given = context.padded(x), x.reshape(9, shape[0], -1).astype(int)
    for row, column in context.places():
        logits = forward(one.weights, context.inputs(padded, context.inside(), row, column))
        far = np.abs(np.arange(256) - given[:, row, column, None]) > one.epsilon
        padded[:, row + reach, column + context.side] = np.where(far, -np.inf, logits).argmax(axis=1) / 256
    middle = padded[:, reach:, context.side : padded.shape[2] - context.side] * 256
    np.testing.assert_array_equal(one.codes(x), middle.reshape(x.shape))
    assert (one.codes(x) != x).any()


def test_its_sums_are_exact_in_any_order(purify):
    weights, rng = purify[0].weights, np.random.default_rng(0)
    x = rng.integers(0, 257, (5, weights[0].shape[0])) / 256
    order = rng.permutation(len(weights[0]))
    shuffled = (weights[0][order], *weights[1:])
    np.testing.assert_array_equal(forward(weights, x), forward(shuffled, x[:, order]))


def test_an_attacker_goes_through_it(purify, toolbox):
    victim = KerasVictim(toolbox.float_model, "float", IMAGE_GRID)
    guarded = defended(victim, Defence((purify[0],)))
    x, y = toolbox.data.test.take(10)
    result = PGD(steps=3)(guarded, x, y, epsilon_lsb=32, seed=0)
    assert result.diagnostics.zero_gradient_share == 0
    assert result.accuracy < np.mean(guarded.logits(x).argmax(axis=1) == y)
    np.testing.assert_array_equal(result.success, guarded.logits(result.x).argmax(axis=1) != y)
