"""Weight codes: nearest levels, the hardware type that holds them, stored bits, and the same numbers as before."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qmodels.quantize.codebook import unit_levels
from qmodels.quantize.constants import signed_digits
from qmodels.quantize.fit import fit_code
from qmodels.quantize.uniform import choose_format, snap
from qmodels.quantize.weights import (
    MAX_TYPE_BITS,
    CodebookConfig,
    WeightCode,
    WeightConfig,
    level_bits,
    power_of_two_levels,
    reshaped_spectral_norm,
    uniform_levels,
)

KERNELS = arrays(np.float64, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-8, 8, width=16))
CONFIGS = st.builds(
    WeightConfig,
    method=st.sampled_from(["uniform", "power-of-two", "codebook"]),
    weight_bits=st.sampled_from([2, 3, 4, 8, 16]),
    granularity=st.sampled_from(["per-tensor", "per-channel"]),
    clip=st.sampled_from(["max", "mse", "dw2"]),
)


@given(KERNELS, st.integers(2, 16), st.sampled_from(["max", "mse"]))
def test_uniform_per_tensor_is_the_fixed_point_format_bit_for_bit(kernel: np.ndarray, bits: int, clip: str) -> None:
    fmt = choose_format(kernel, bits, "max" if clip == "max" else "mse")
    code = fit_code(kernel, WeightConfig(weight_bits=bits, clip="max" if clip == "max" else "mse"))
    np.testing.assert_array_equal(code.round(kernel), snap(kernel, fmt))
    assert code.hardware == fmt


@given(KERNELS, CONFIGS)
@settings(max_examples=50)
def test_what_every_code_keeps_to(kernel: np.ndarray, config: WeightConfig) -> None:
    depthwise = kernel.ndim == 4
    code = fit_code(kernel, config, depthwise=depthwise)
    rounded = code.round(kernel)
    np.testing.assert_array_equal(code.round(rounded), rounded)
    np.testing.assert_array_equal(code.levels[code.codes(kernel)] * code.step, rounded)
    code.hardware.to_raw(rounded)  # raises when one is not representable
    assert code.bits <= config.weight_bits and len(code.levels) <= 2**config.weight_bits and 0 in code.levels
    assert code.hardware.width <= MAX_TYPE_BITS
    again = WeightCode.from_json(json.loads(json.dumps(code.as_json())))
    np.testing.assert_array_equal(again.round(kernel), rounded)
    np.testing.assert_array_equal(again.levels, code.levels)
    shape = {False: kernel.shape[-1:], True: kernel.shape[-2:]}[depthwise]
    assert code.step.shape == (shape if config.granularity == "per-channel" else ())


@given(KERNELS, CONFIGS)
@settings(max_examples=40)
def test_no_level_is_nearer(kernel: np.ndarray, config: WeightConfig) -> None:
    code = fit_code(kernel, config.model_copy(update={"weight_bits": min(config.weight_bits, 4)}))
    distances = np.abs(kernel[..., None] - code.levels * code.step[..., None])
    np.testing.assert_allclose(np.abs(code.round(kernel) - kernel), distances.min(axis=-1), rtol=0, atol=0)


@pytest.mark.parametrize(("method", "granularity"), product(["uniform", "power-of-two"], ["per-tensor", "per-channel"]))
def test_dw2_is_never_worse_in_its_own_measure(method: str, granularity: str) -> None:
    kernel = np.random.default_rng(1).standard_t(3, (3, 3, 6, 10))
    norms = {}
    for clip in ("max", "mse", "dw2"):
        settings_ = {"method": method, "granularity": granularity, "clip": clip}
        code = fit_code(kernel, WeightConfig.model_validate(settings_))
        norms[clip] = reshaped_spectral_norm(code.round(kernel) - kernel)
    assert norms["dw2"] <= min(norms.values())


def test_channels_of_different_size_get_different_steps() -> None:
    kernel = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 0.25, 4.0]
    config = WeightConfig(granularity="per-channel")
    code = fit_code(kernel, config)
    assert code.step[1] < code.step[0] < code.step[2]
    per_tensor = fit_code(kernel, config.model_copy(update={"granularity": "per-tensor"}))
    errors = [((item.round(kernel) - kernel) ** 2).sum() for item in (code, per_tensor)]
    assert errors[0] < errors[1]
    assert code.hardware.width == 3 + int(np.log2(code.step.max() / code.step.min()))


def test_stored_bits_by_hand() -> None:
    """Three-bit codes; three channels whose steps span 2^2, two bits each; a codebook's table of 8 x 5 bits."""
    steps = np.array([0.25, 0.5, 1.0])
    assert WeightCode("uniform", uniform_levels(3), np.array(0.5)).stored_bits(30) == 90
    assert WeightCode("uniform", uniform_levels(3), steps).stored_bits(30) == 90 + 3 * 2
    table = np.array([-16, -7, -3, 0, 3, 7, 11, 15])
    assert WeightCode("codebook", table, np.array(0.5)).stored_bits(30) == 90 + 8 * 5


def test_a_codebook_without_mu_is_uniform_up_to_its_scale() -> None:
    np.testing.assert_array_equal(unit_levels(4, 0.0)[0] * 8, uniform_levels(4))


def test_a_cheaper_grid_costs_at_most_the_slack() -> None:
    kernel = np.random.default_rng(0).normal(size=(200, 20))
    found = {}
    for slack in (0.0, 0.1):
        code = fit_code(kernel, WeightConfig(method="codebook", codebook=CodebookConfig(slack=slack)))
        difference = code.round(kernel) - kernel
        found[slack] = np.linalg.norm(difference), signed_digits(code.levels[code.codes(kernel)]).mean()
    assert found[0.1][0] <= 1.1 * found[0.0][0] * (1 + 1e-9)
    assert found[0.1][1] < found[0.0][1]


@given(st.integers(-(2**20), 2**20))
def test_signed_digits_are_those_of_the_canonical_form(value: int) -> None:
    rest, digits = abs(value), 0
    while rest:
        if rest & 1:
            rest -= 2 - rest % 4  # ±1 so that the next digit is 0
            digits += 1
        rest >>= 1
    assert int(signed_digits(np.array([value]))[0]) == digits


def test_levels() -> None:
    np.testing.assert_array_equal(power_of_two_levels(3), [-4, -2, -1, 0, 1, 2, 4])
    assert len(power_of_two_levels(16)) == len(power_of_two_levels(5)) == 31
    assert [level_bits(np.array(pair)) for pair in ([-4, 3], [-4, 4], [0, 0], [-1, 0], [-5, 0])] == [3, 4, 1, 1, 4]


@pytest.mark.parametrize("levels", [[], [1, 1], [2, 1]])
def test_levels_that_are_none(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="sorted and distinct"):
        WeightCode("uniform", np.array(levels), np.array(1.0))


def test_a_step_that_is_no_power_of_two() -> None:
    with pytest.raises(ValueError, match="powers of two"):
        WeightCode("uniform", uniform_levels(2), np.array([0.5, 0.3]))


def test_dense_kernel_is_the_same_with_and_without_blocks() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 5, 1))
    norms = [np.linalg.norm(kernel[..., channel, 0]) for channel in range(5)]
    assert reshaped_spectral_norm(kernel, depthwise=True) == pytest.approx(max(norms))
