"""The batch-normalized networks on their way to hardware: folded, quantized, converted, and exact to the last bit.

All backends, io types and strategies are in `benchmarks/projects.py`; here are the cells that are fast.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.models import HARDWARE, SMALL, SMALL_BITS, STREAM, grid_codes, grid_images, normalised

from hw.accelerator import Accelerator
from hw.generate.contract import check_contract, contract
from hw.generate.hardware import HardwareConfig
from qmodels.architectures import ModelConfig
from qmodels.grid import IMAGE_GRID
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.prequantized import prequantize
from qmodels.victims import KerasVictim

IMAGES = grid_codes(60)


@cache
def quantized(name: str) -> Any:
    return quantize_model(normalised(SMALL[name]), SMALL_BITS, grid_images(100, seed=1)).model


def outputs(name: str) -> np.ndarray[Any, Any]:
    """Of the QKeras model; they differ from image to image, so that comparing them means something."""
    logits: np.ndarray[Any, Any] = quantized(name)(IMAGE_GRID.to_values(IMAGES)).numpy()
    assert len(np.unique(logits, axis=0)) > len(IMAGES) // 2
    return logits


@pytest.mark.gxx
@pytest.mark.parametrize("config", [HARDWARE, STREAM], ids=["io_parallel", "io_stream"])
@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v1_025", pytest.param("wrn32", marks=pytest.mark.slow)])
def test_bitsim_is_exact(name: str, config: HardwareConfig) -> None:
    check_contract(quantized(name))
    np.testing.assert_array_equal(Accelerator(quantized(name), config).logits(IMAGES), outputs(name))


@pytest.mark.gxx
def test_the_c_simulation_of_a_residual_network_is_exact() -> None:
    simulation = Accelerator(quantized("resnet8"), STREAM).compile(optimize=False)
    np.testing.assert_array_equal(simulation.logits(IMAGES), outputs("resnet8"))


def test_the_prequantized_view_is_exact() -> None:
    np.testing.assert_array_equal(
        prequantize(quantized("resnet8"))(IMAGE_GRID.to_values(IMAGES)).numpy(), outputs("resnet8")
    )


def test_coffee_at_its_smallest_size_is_exact() -> None:
    shape = (140, 140, 1)
    model = normalised(ModelConfig(architecture="coffee_cnn", width=0.125), shape, classes=4)
    bits = SMALL_BITS.model_copy(update={"calibration_samples": 10, "weight_bits": 6})
    model = quantize_model(model, bits, grid_images(10, shape, seed=1)).model
    images = grid_codes(6, shape)
    expected = model(IMAGE_GRID.to_values(images)).numpy()
    assert len(np.unique(expected, axis=0)) == len(images)
    np.testing.assert_array_equal(Accelerator(model, STREAM).logits(images), expected)


def wide(config: ModelConfig) -> tuple[Any, np.ndarray[Any, Any]]:
    """A model of 8-bit weights and 16-bit activations, and what it means, in float64, for IMAGES."""
    bits = QuantizationConfig(weight_bits=8, activation_bits=16, calibration_samples=100)
    assert bits.has_wide_sums
    model = quantize_model(normalised(config), bits, grid_images(100, seed=1)).model
    widths = {
        int(layer.quantizer.bits) for layer in model.layers if "quantized_relu" in str(getattr(layer, "quantizer", ""))
    }
    assert widths == {16}
    return model, KerasVictim(prequantize(model, double=True), "quantized").logits(IMAGES)


@pytest.mark.slow  # in the default run a whole flow does the same: hw/experiment/test_wide_activations.py
@pytest.mark.gxx
def test_activations_of_16_bits_are_exact() -> None:
    model, expected = wide(ModelConfig(architecture="mlp", hidden=(12,)))
    accelerator = Accelerator(model, HARDWARE)
    np.testing.assert_array_equal(accelerator.logits(IMAGES), expected)
    np.testing.assert_array_equal(accelerator.compile(optimize=False).logits(IMAGES), expected)


def test_bitsim_of_a_residual_network_with_activations_of_16_bits_is_exact() -> None:
    model, expected = wide(SMALL["resnet8"])
    np.testing.assert_array_equal(Accelerator(model, STREAM).logits(IMAGES), expected)


@pytest.mark.slow
@pytest.mark.gxx
def test_the_c_simulation_of_a_residual_network_with_activations_of_16_bits_is_exact() -> None:
    model, expected = wide(SMALL["resnet8"])
    np.testing.assert_array_equal(Accelerator(model, STREAM).compile(optimize=False).logits(IMAGES), expected)


def test_float64_is_needed_beyond_the_bits_of_float32() -> None:
    """16-bit activations, all ones: sums of 24 bits and more, odd ones among them, are not in float32."""
    model, _ = wide(ModelConfig(architecture="mlp", hidden=(64, 64)))
    for layer in model.layers:
        if layer.get_weights():
            kernel, bias = layer.get_weights()
            layer.set_weights([np.full_like(kernel, kernel.max()), bias])
    single, double = (
        KerasVictim(prequantize(model, double=wanted), "quantized").logits(IMAGES) for wanted in (False, True)
    )
    found = Accelerator(model, HARDWARE).logits(IMAGES)
    np.testing.assert_array_equal(found, double)
    assert double.dtype == single.dtype == np.float32
    assert (single != double).any()


def test_catapult_is_refused_for_its_average_pooling() -> None:
    (found,) = contract(quantized("resnet8"), "Catapult")
    assert (found.layer, found.setting) == ("pool", "backend")
