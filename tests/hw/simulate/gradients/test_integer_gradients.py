"""Gradients in integers against TensorFlow's: random networks, every layer that is covered, every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw import Accelerator
from hw.simulate.bitsim.kernels import library
from hw.simulate.gradients import gradients_of
from hw.simulate.gradients.balance import _met, _powers_of_two
from hw.simulate.gradients.engine import Gradients
from hw.simulate.gradients.network import Layer, NotCovered, Tensor
from hw.simulate.gradients.reading import read
from qmodels.attacks import PGD, APGDTargeted
from qmodels.grid import IMAGE_GRID
from qmodels.quantize.prequantized import prequantize
from qmodels.runtime import runtime, set_seed
from qmodels.victims import AcceleratorVictim, GradientModel
from tests.helpers.integer_networks import RandomNetwork, quantizers

pytestmark = pytest.mark.gxx
ISAS = ("native", "portable", "avx2")


def with_tensorflow(model, grid, x, upstream):
    """Outputs, and the gradient by the values."""
    tf = runtime().tf

    # A graph, since TensorFlow 2.21 writes beyond its memory in some gradients by weights (Conv2DBackpropFilter): here
    # nobody asks for them.
    @tf.function(autograph=False)
    def look(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = model(values, training=False)
            total = tf.reduce_sum(outputs * upstream)
        return outputs, tape.gradient(total, values)

    outputs, gradient = look(tf.constant(grid.to_values(x)))
    return outputs.numpy(), gradient.numpy().reshape(len(x), -1)


def with_engine(engine, grid, x, upstream):
    outputs, ticket = engine.forward(x.astype(np.float32))
    return outputs, engine.backward(upstream, ticket) / grid.step


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_random_networks(seed):
    network = RandomNetwork(seed)
    view, grid = prequantize(network.model), network.grid
    engine = Gradients(read(view, grid))
    rng = np.random.default_rng(seed)
    x = grid.random(37, view.input_shape[1:], rng)  # not a multiple of a vector's samples
    x[0], x[1] = np.broadcast_to(grid.lower, x[0].shape), np.broadcast_to(grid.upper, x[0].shape)
    upstream = rng.normal(size=(len(x), view.output_shape[-1])).astype(np.float32)
    upstream[2] = 0.0
    outputs, gradient = with_engine(engine, grid, x, upstream)
    expected, reference = with_tensorflow(view, grid, x, upstream)
    np.testing.assert_array_equal(outputs, expected)
    assert not gradient[2].any() and np.isfinite(gradient).all()
    largest = np.abs(reference).max(axis=1, keepdims=True)
    # A few roundings to 15 bits; tiny seeds of a gradient can cancel to less than the largest number seen on the way.
    assert (np.abs(gradient - reference) <= 0.01 * largest + 1e-3 * np.abs(upstream).max()).all()
    far = np.abs(reference) > 0.02 * largest + 2e-3 * np.abs(upstream).max()
    np.testing.assert_array_equal(np.sign(gradient[far]), np.sign(reference[far]))


@pytest.mark.parametrize("strides", [(1, 2), (3, 1)])
def test_strides_that_differ(strides):
    q, keras = runtime().qkeras, runtime().keras
    image = keras.Input((9, 8, 3))
    x = q.QConv2D(4, (3, 2), strides=strides, padding="same", **quantizers(3, 0))(image)
    x = q.QConv2D(5, 3, strides=strides, **quantizers(3, 2))(q.QActivation("quantized_relu(5,2)")(x))
    x = keras.layers.Flatten()(q.QActivation("quantized_relu(5,3)")(x))
    view = prequantize(keras.Model(image, q.QDense(3, **quantizers(3, 4))(x)))
    rng = np.random.default_rng(0)
    x, upstream = IMAGE_GRID.random(40, (9, 8, 3), rng), rng.normal(size=(40, 3)).astype(np.float32)
    found = with_engine(Gradients(read(view, IMAGE_GRID)), IMAGE_GRID, x, upstream)
    for one, two in zip(found, with_tensorflow(view, IMAGE_GRID, x, upstream), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3 * np.abs(two).max())


@pytest.fixture(scope="module")
def resnet():
    """A network with two branches of the same tensor, strides, padding and a mean; its accelerator."""
    q, keras = runtime().qkeras, runtime().keras
    set_seed(3)
    image = keras.Input((8, 8, 3))
    x = q.QActivation("quantized_bits(9,0,alpha=1)")(image)
    x = q.QActivation("quantized_relu(6,2)")(q.QConv2D(4, 3, padding="same", **quantizers(3, 1))(x))
    branch = q.QActivation("quantized_relu(6,2)")(q.QConv2D(6, 3, strides=2, padding="same", **quantizers(3, 2))(x))
    branch = q.QConv2D(6, 3, padding="same", **quantizers(3, 3))(branch)
    short = q.QConv2D(6, 1, strides=2, padding="same", **quantizers(3, 4))(x)
    x = q.QActivation("quantized_relu(6,3)")(keras.layers.Add()([branch, short]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(x))
    model = keras.Model(image, q.QDense(5, **quantizers(4, 5))(x))
    return Accelerator(model)


def test_every_instruction_set_gives_the_same_bits(resnet, monkeypatch):
    view, rng = resnet.gradient_model.model, np.random.default_rng(0)
    x = IMAGE_GRID.random(50, (8, 8, 3), rng)
    upstream = rng.normal(size=(50, 5)).astype(np.float32)
    found = {}
    for isa in ISAS:
        monkeypatch.setenv(library.ISA_VARIABLE, isa)
        found[isa] = with_engine(gradients_of(view, IMAGE_GRID), IMAGE_GRID, x, upstream)
    for isa in ISAS[1:]:
        for one, two in zip(found["native"], found[isa], strict=True):
            np.testing.assert_array_equal(one, two)
    assert found["native"][1].any()


def test_threads_and_batches_do_not_change_a_bit(resnet):
    view, rng = resnet.gradient_model.model, np.random.default_rng(1)
    x = IMAGE_GRID.random(70, (8, 8, 3), rng)
    upstream = rng.normal(size=(70, 5)).astype(np.float32)
    network = read(view, IMAGE_GRID)
    whole = with_engine(Gradients(network, threads=1), IMAGE_GRID, x, upstream)
    engine = Gradients(network, threads=3)
    engine._products = 10**9  # as if it were worth all threads
    parts = [with_engine(engine, IMAGE_GRID, x[i : i + 23], upstream[i : i + 23]) for i in range(0, 70, 23)]
    for which in range(2):
        np.testing.assert_array_equal(np.concatenate([part[which] for part in parts]), whole[which])


@pytest.mark.parametrize("attack", [PGD(steps=10), APGDTargeted(steps=10)], ids=lambda attack: attack.kind)
def test_attacks_are_as_strong_as_with_tensorflow(resnet, attack):
    x = IMAGE_GRID.random(200, (8, 8, 3), np.random.default_rng(2))
    y = resnet.bitsim.logits(x).argmax(axis=1)
    assert resnet.gradient_model.engine is not None
    plain = AcceleratorVictim(resnet.bitsim, GradientModel(resnet.gradient_model.model))
    with_engine, without = (
        attack(AcceleratorVictim(resnet.bitsim, source), x, y, epsilon_lsb=12, seed=0)
        for source in (resnet.gradient_model, plain.gradient_model)
    )
    assert 0.05 < without.accuracy < 0.95, "says nothing where all or none fall"
    assert abs(with_engine.accuracy - without.accuracy) <= 0.03
    assert with_engine.diagnostics == without.diagnostics


@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 5)] * 4))
def test_most_that_one_input_meets_is_of_windows_a_stride_apart(seed, sizes):
    height, width, down, right = sizes
    kernel = np.random.default_rng(seed).integers(-9, 10, (height, width, 2, 3))
    rows, columns = 4 * height + down, 4 * width + right
    met = np.zeros((rows, columns, 2), np.int64)
    for y in range(0, rows - height + 1, down):
        for x in range(0, columns - width + 1, right):
            met[y : y + height, x : x + width] += np.abs(kernel).sum(axis=3)
    tensors = [Tensor((1, 1, 2), 0, 0, 1), Tensor((5, 5, 3), 0, 0, 1)]
    layer = Layer("linear", (0,), 1, back=kernel, window=(height, width), strides=(down, right))
    assert _met(layer, tensors).tolist() == met.max(axis=(0, 1)).tolist()


def equalized(apart, outputs):
    """Channels whose weights differ by powers of two, up to `apart`, before a dense layer; the view of a model."""
    q, keras = runtime().qkeras, runtime().keras
    image = keras.Input((8, 8, 2))
    x = q.QActivation("quantized_relu(14,4)")(q.QConv2D(6, 3, strides=2, **quantizers(3, 0))(image))
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(x))
    view = prequantize(keras.Model(image, q.QDense(outputs, **quantizers(3, 4))(x)))
    powers = 2.0 ** -np.array([0, apart, 2, 5, 1, apart])
    view.layers[1].set_weights([weights * powers for weights in view.layers[1].get_weights()])
    return view, powers


def test_gradients_between_equalized_channels_keep_their_bits():
    view, powers = equalized(10, 3)
    kernel, bias = view.layers[-1].get_weights()
    view.layers[-1].set_weights([kernel / powers[:, None], bias])
    rng = np.random.default_rng(1)
    x, upstream = IMAGE_GRID.random(40, (8, 8, 2), rng), rng.normal(size=(40, 3)).astype(np.float32)
    outputs, gradient = with_engine(Gradients(read(view, IMAGE_GRID)), IMAGE_GRID, x, upstream)
    expected, reference = with_tensorflow(view, IMAGE_GRID, x, upstream)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_allclose(gradient, reference, atol=5e-4 * np.abs(reference).max())


def test_powers_of_two_of_channels():
    kernel = np.array([[0, 4, 8, 24], [0, 12, -16, 0]])[None, None]
    assert _powers_of_two(kernel).tolist() == [0, 0, 1, 1]  # one of zeros has none
    assert _powers_of_two(0 * kernel).tolist() == [0, 0, 0, 0]


def test_channels_that_stay_too_far_apart_are_left_to_tensorflow():
    with pytest.raises(NotCovered, match="differ too much"):
        read(equalized(12, 400)[0], IMAGE_GRID)


def test_what_is_not_covered_is_left_to_tensorflow():
    keras, q = runtime().keras, runtime().qkeras
    image = keras.Input((6, 6, 2))
    x = keras.layers.Flatten()(keras.layers.Activation("tanh")(q.QConv2D(3, 3, **quantizers(3, 0))(image)))
    model = prequantize(keras.Model(image, q.QDense(3, **quantizers(3, 1))(x)))
    with pytest.raises(NotCovered, match="activation"):
        read(model, IMAGE_GRID)
    source = GradientModel(model, engine=gradients_of)
    assert source.engine is None
    point = np.full((2, 6, 6, 2), 7, np.float32)
    np.testing.assert_array_equal(source.look(point), source.outputs(point))


def test_a_gradient_that_is_not_finite_stays_so_and_alone(resnet):
    rng, engine = np.random.default_rng(4), resnet.gradient_model.engine
    points = IMAGE_GRID.random(20, (8, 8, 3), rng).astype(np.float32)
    upstream = rng.normal(size=(20, 5)).astype(np.float32)
    whole = engine.backward(upstream, engine.forward(points)[1])
    upstream[3, 1], upstream[7, 0] = np.nan, np.inf
    found = engine.backward(upstream, engine.forward(points)[1])
    assert np.isnan(found[[3, 7]]).all()
    others = np.delete(np.arange(20), [3, 7])
    np.testing.assert_array_equal(found[others], whole[others])


def test_points_between_the_codes_are_refused(resnet):
    engine = resnet.gradient_model.engine
    with pytest.raises(AssertionError, match="not on the grid"):
        engine.forward(np.full((3, 8, 8, 3), 0.3, np.float32))
