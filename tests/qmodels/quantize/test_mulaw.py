"""The µ-law: a monotone map of [-1, 1] onto itself, and its use on chosen layers only."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.models import Toolbox
from hypothesis import given
from hypothesis import strategies as st

from qmodels.errors import UserError
from qmodels.layers import kernel_of, select_layers
from qmodels.quantize.mulaw import MappingConfig, inverse_mu_law, map_weights, mu_law

MUS = st.floats(0, 1e6) | st.just(0.0) | st.sampled_from([1.0, 15.0, 255.0])
VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=30).map(np.array)


@given(VALUES, st.sampled_from([0.0, 0.5, 1.0, 15.0, 255.0, 1e4]))
def test_the_inverse_undoes_the_mapping(x: np.ndarray, mu: float) -> None:
    np.testing.assert_allclose(inverse_mu_law(mu_law(x, mu), mu), x, atol=1e-12, rtol=1e-9)


@given(VALUES, MUS)
def test_the_mapping_is_monotone_odd_and_stays_within_one(x: np.ndarray, mu: float) -> None:
    ordered = np.sort(x)
    mapped = mu_law(ordered, mu)
    assert (np.diff(mapped) >= 0).all()
    assert (np.abs(mapped) <= 1 + 1e-12).all()
    np.testing.assert_array_equal(mu_law(-ordered, mu), -mapped)


@given(VALUES, st.floats(1e-3, 1e6))
def test_the_mapping_moves_weights_outwards_and_keeps_the_ends(x: np.ndarray, mu: float) -> None:
    assert (np.abs(mu_law(x, mu)) >= np.abs(x) - 1e-12).all()
    np.testing.assert_allclose(mu_law(np.array([-1.0, 0.0, 1.0]), mu), [-1, 0, 1], atol=1e-12)


def test_a_value_by_hand() -> None:
    """F(0.2) for mu = 15 is ln(4)/ln(16) = 1/2."""
    assert mu_law(np.array([0.2]), 15.0)[0] == pytest.approx(0.5, abs=1e-15)


def weights_by_layer(model: object) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers}  # type: ignore[attr-defined]


def test_only_the_chosen_kernels_change_and_biases_never(toolbox: Toolbox) -> None:
    before = weights_by_layer(toolbox.float_model)
    mapped, layers = map_weights(toolbox.float_model, MappingConfig(mu=15, layers=("last-1", "conv1")))
    assert layers == ["conv1", "logits"]
    after = weights_by_layer(mapped)
    for name, weights in before.items():
        same = [np.array_equal(old, new) for old, new in zip(weights, after[name], strict=True)]
        assert same == ([False, True] if name in layers else [True] * len(weights)), name
    for old, new in zip(before.values(), weights_by_layer(toolbox.float_model).values(), strict=True):
        assert all(map(np.array_equal, old, new)), "the original was changed"


def test_the_largest_weight_and_all_signs_stay(toolbox: Toolbox) -> None:
    original = kernel_of(toolbox.float_model.get_layer("fc1")).numpy()
    mapped, _ = map_weights(toolbox.float_model, MappingConfig(mu=255, layers=("fc1",)))
    kernel = kernel_of(mapped.get_layer("fc1")).numpy()
    assert np.abs(kernel).max() == pytest.approx(np.abs(original).max(), rel=1e-6)
    np.testing.assert_array_equal(np.sign(kernel), np.sign(original))


def test_mu_zero_maps_nothing(toolbox: Toolbox) -> None:
    mapped, layers = map_weights(toolbox.float_model, MappingConfig(mu=0, layers=("no-such-layer",)))
    assert layers == []
    assert all(map(np.array_equal, mapped.get_weights(), toolbox.float_model.get_weights()))


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (("last-1",), ["logits"]),
        (("last-2",), ["fc1", "logits"]),
        (("last-4",), ["conv1", "conv2", "fc1", "logits"]),
        (("logits", "conv2"), ["conv2", "logits"]),
        (("fc1", "last-2", "fc1"), ["fc1", "logits"]),
        ((), []),
    ],
)
def test_layers_are_chosen_by_name_or_from_the_end(
    toolbox: Toolbox, selection: tuple[str, ...], chosen: list[str]
) -> None:
    assert select_layers(toolbox.float_model, selection) == chosen


@pytest.mark.parametrize("unknown", ["fc2", "last-0", "last-5", "last--1", "last-", "pool1", "Conv1"])
def test_an_unknown_layer_is_told_with_those_there_are(toolbox: Toolbox, unknown: str) -> None:
    with pytest.raises(UserError, match=r"is no layer with weights.*\(allowed: conv1, conv2, fc1, logits, last-1 \.\."):
        select_layers(toolbox.float_model, (unknown,))
