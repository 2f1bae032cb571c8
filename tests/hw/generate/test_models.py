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
from qmodels.grid import IMAGE_GRID
from qmodels.quantize.model import quantize_model
from qmodels.quantize.prequantized import prequantize

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


def test_catapult_is_refused_for_its_average_pooling() -> None:
    (found,) = contract(quantized("resnet8"), "Catapult")
    assert (found.layer, found.setting) == ("pool", "backend")
