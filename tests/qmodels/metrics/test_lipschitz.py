from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmodels.architectures import ModelConfig, build_float
from qmodels.errors import UserError
from qmodels.metrics import lipschitz
from qmodels.metrics.lipschitz import Norms, difference_norms, matrix_norms, operator_norms, weight_norms
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.runtime import runtime


def brute_force(layer, input_shape):
    """The layer's matrix, one TensorFlow call per unit vector."""
    units = np.eye(int(np.prod(input_shape)), dtype=np.float32).reshape(-1, *input_shape)
    out = layer(units).numpy() - layer(np.zeros_like(units[:1])).numpy()
    return out.reshape(len(units), -1).T.astype(np.float64)


def exact(matrix):
    return Norms(*(np.linalg.norm(matrix, p) for p in (1, 2, np.inf)))


def built(layer, input_shape, seed=0):
    keras = runtime().keras
    image = keras.Input(input_shape)
    model = keras.Model(image, layer(image))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.standard_normal(weights.shape) for weights in layer.get_weights()])
    return model, layer


LAYERS = {
    "dense": (lambda k: k.layers.Dense(7), (9,)),
    "same": (lambda k: k.layers.Conv2D(3, 3, padding="same"), (6, 5, 2)),
    "valid": (lambda k: k.layers.Conv2D(3, (3, 2), padding="valid"), (6, 5, 2)),
    "strided-same-even": (lambda k: k.layers.Conv2D(3, 3, strides=2, padding="same"), (6, 8, 2)),
    "strided-same-odd": (lambda k: k.layers.Conv2D(3, (3, 4), strides=(2, 3), padding="same"), (7, 8, 2)),
    "strided-valid": (lambda k: k.layers.Conv2D(3, 3, strides=2, padding="valid"), (8, 7, 1)),
    "stride-beyond-kernel": (lambda k: k.layers.Conv2D(2, 1, strides=3, padding="same"), (7, 8, 2)),
    "dilated": (lambda k: k.layers.Conv2D(2, 3, dilation_rate=2, padding="same"), (7, 6, 2)),
    "grouped": (lambda k: k.layers.Conv2D(6, 3, groups=2, padding="same"), (5, 5, 4)),
    "depthwise": (lambda k: k.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), (5, 5, 3)),
    "conv1d": (lambda k: k.layers.Conv1D(4, 3, strides=2, padding="same"), (9, 3)),
    "causal": (lambda k: k.layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_operator_norms_match_the_brute_force_matrix(name):
    make, input_shape = LAYERS[name]
    model, layer = built(make(runtime().keras), input_shape)
    (norms,) = weight_norms(model)
    np.testing.assert_allclose(norms.operator, exact(brute_force(layer, input_shape)), rtol=1e-5)


def test_reshaped_norms_are_those_of_the_kernel_as_a_matrix():
    model, layer = built(runtime().keras.layers.Conv2D(4, 3, padding="same"), (6, 6, 2))
    (norms,) = weight_norms(model)
    matrix = layer.kernel.numpy().reshape(18, 4).T
    np.testing.assert_allclose(norms.reshaped, exact(matrix), rtol=1e-6)
    # One norm does not stand for the other: a pixel takes part in up to nine patches.
    assert norms.operator.two > 1.2 * norms.reshaped.two


def test_a_depthwise_layer_is_block_diagonal_when_reshaped():
    model, layer = built(runtime().keras.layers.DepthwiseConv2D(3), (5, 5, 3))
    (norms,) = weight_norms(model)
    per_channel = layer.depthwise_kernel.numpy().reshape(9, 3)
    assert norms.reshaped.two == pytest.approx(np.linalg.norm(per_channel, axis=0).max(), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), size=st.integers(3, 7), kernel=st.integers(1, 3), stride=st.integers(1, 3),
    channels=st.integers(1, 3),
)  # fmt: skip
def test_the_iterative_singular_value_equals_the_exact_one(seed, size, kernel, stride, channels):
    weights = np.random.default_rng(seed).standard_normal((kernel, kernel, channels, 3))
    where = lipschitz.Convolution((size, size, channels), (stride, stride), (1, 1), ((kernel // 2,) * 2,) * 2)
    dense = operator_norms(weights, where)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lipschitz, "SMALL", 1)
        iterative = operator_norms(weights, where)
    np.testing.assert_allclose(iterative, dense, rtol=1e-8)


def test_a_whole_image_convolution_uses_the_iterative_path():
    weights = np.random.default_rng(0).standard_normal((3, 3, 4, 8)) / 6
    where = lipschitz.Convolution((14, 14, 4), (1, 1), (1, 1), ((1, 1), (1, 1)))
    norms = operator_norms(weights, where)
    columns = [lipschitz.convolve(unit.reshape(14, 14, 4), weights, where).ravel() for unit in np.eye(14 * 14 * 4)]
    np.testing.assert_allclose(norms, exact(np.stack(columns, axis=1)), rtol=1e-8)


@pytest.mark.parametrize("scale", [0.5, 1.0, -3e-3])
def test_a_scaled_identity_has_one_singular_value(scale):
    where = lipschitz.Convolution((28, 28, 1), (1, 1), (1, 1), ((0, 0), (0, 0)))
    assert operator_norms(np.full((1, 1, 1, 1), scale), where).two == pytest.approx(abs(scale))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_matrix_norms_bound_every_vector(seed, rows, columns):
    rng = np.random.default_rng(seed)
    matrix, vector = rng.standard_normal((rows, columns)), rng.standard_normal(columns)
    for p, norm in zip((1, 2, np.inf), matrix_norms(matrix), strict=True):
        assert np.linalg.norm(matrix @ vector, p) <= norm * np.linalg.norm(vector, p) * (1 + 1e-9)


def test_more_bits_mean_a_smaller_difference_and_equal_models_none():
    model = build_float(ModelConfig(filters=(3, 4), hidden=(8,)), (8, 8, 1), 10, 0)
    images = np.random.default_rng(0).random((50, 8, 8, 1)).astype(np.float32)
    means = []
    for bits in (2, 3, 5, 8):
        twin = quantize_model(model, QuantizationConfig(weight_bits=bits), images).model
        norms = difference_norms(model, twin)
        assert [item.layer for item in norms] == ["conv1", "conv2", "fc1", "logits"]
        means.append(np.mean([item.reshaped.two for item in norms]))
    assert means == sorted(means, reverse=True) and means[0] > 4 * means[3] > 0
    assert all(item.operator == item.reshaped == Norms(0, 0, 0) for item in difference_norms(model, model))


def test_a_qkeras_kernel_counts_after_its_quantizer():
    q = runtime().qkeras
    model, layer = built(q.QDense(3, kernel_quantizer=q.quantized_bits(3, 0, alpha=1)), (4,))
    (norms,) = weight_norms(model)
    levels = np.clip(np.rint(layer.kernel.numpy() * 4), -4, 3) / 4
    np.testing.assert_allclose(norms.operator, exact(levels.T), rtol=1e-6)


def test_models_with_other_layers_are_refused():
    one = build_float(ModelConfig(architecture="mlp", hidden=(4,)), (4, 4, 1), 3, 0)
    two = build_float(ModelConfig(architecture="mlp", hidden=(4, 4)), (4, 4, 1), 3, 0)
    with pytest.raises(UserError, match="same layers"):
        difference_norms(one, two)


def test_the_flat_record_names_view_and_norm():
    model, _ = built(runtime().keras.layers.Dense(2, name="fc1"), (3,))
    (norms,) = weight_norms(model)
    record = norms.as_dict()
    assert set(record) == {
        "layer", "kind", "reshaped_1", "reshaped_2", "reshaped_inf", "operator_1", "operator_2", "operator_inf",
    }  # fmt: skip
    assert record["layer"] == "fc1" and record["operator_2"] == record["reshaped_2"] > 0
