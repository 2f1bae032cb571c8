"""The zoo: published sizes, one seed one model, and clear words where images do not fit."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

from qmodels.architectures import ModelConfig, build_float
from qmodels.errors import UserError
from qmodels.layers import kernel_of, weighted_layers
from qmodels.quantize.model import check_quantizable


def multiply_adds(model: Any) -> int:
    total = 0
    for layer in weighted_layers(model):
        kernel = int(prod(kernel_of(layer).shape))
        total += kernel * (prod(layer.output_shape[1:-1]) if len(layer.output_shape) > 2 else 1)
    return total


@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "million", "weights"),
    [
        # MLPerf Tiny: 12.5 and 7.5 million multiply-adds
        ("resnet8", (32, 32, 3), 10, 12.5, 77_360),
        ("mobilenet_v1_025", (96, 96, 3), 2, 7.49, 208_112),
        # He et al., table 6: 0.46 million weights, here with 1x1 shortcuts; 69 million multiply-adds
        ("wrn32", (32, 32, 3), 10, 69.0, 464_432),
        ("coffee_cnn", (224, 224, 3), 4, 31.36, 249_984),
    ],
)
def test_the_networks_have_their_published_sizes(
    architecture: Any, shape: tuple[int, ...], classes: int, million: float, weights: int
) -> None:
    model = build_float(ModelConfig(architecture=architecture, width=1.0), shape, classes, seed=0)
    check_quantizable(model)
    assert multiply_adds(model) / 1e6 == pytest.approx(million, rel=0.01)
    assert sum(int(prod(kernel_of(layer).shape)) for layer in weighted_layers(model)) == weights


@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "parameters"),
    [  # as "David and Goliath" (arXiv:2404.05688) counts them: moving statistics too
        ("resnet8", (32, 32, 3), 10, 78_666),
        ("mobilenet_v1_025", (96, 96, 3), 2, 221_794),
        ("coffee_cnn", (224, 224, 3), 4, 250_436),
    ],
)
def test_parameters_are_those_of_the_source(
    architecture: Any, shape: tuple[int, ...], classes: int, parameters: int
) -> None:
    model = build_float(ModelConfig(architecture=architecture), shape, classes, seed=0)
    assert model.count_params() == parameters


def test_wide_resnet_has_32_layers_and_k_times_the_filters() -> None:
    model = build_float(ModelConfig(architecture="wrn32"), (8, 8, 3), 10, seed=0)
    convolutions = [layer for layer in weighted_layers(model) if not layer.name.endswith("_short")]
    assert len(convolutions) == 32
    filters = [layer.output_shape[-1] for layer in convolutions]
    assert (filters[0], filters[1], filters[11], filters[21]) == (16, 64, 128, 256)


def test_coffee_needs_large_images() -> None:
    with pytest.raises(UserError, match=r"coffee_cnn needs images of 140x140 pixels or more, got \(139, 200, 3\)"):
        build_float(ModelConfig(architecture="coffee_cnn"), (139, 200, 3), 4, seed=0)
    config = ModelConfig(architecture="coffee_cnn", width=0.125)
    assert build_float(config, (140, 140, 1), 4, seed=0).output_shape == (None, 4)


def test_one_seed_gives_one_model() -> None:
    config = ModelConfig(architecture="resnet8", width=0.125)
    one, two, other = (build_float(config, (8, 8, 1), 3, seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("architecture", ["resnet8", "wrn32"])
def test_images_too_small_are_told(architecture: Any) -> None:
    with pytest.raises(UserError, match=rf"{architecture} needs images of 4x4 pixels or more, got \(3, 4, 1\)"):
        build_float(ModelConfig(architecture=architecture), (3, 4, 1), 3, seed=0)


def test_a_cnn_has_its_own_kernel_and_stride_and_any_number_of_layers() -> None:
    sizes: dict[str, Any] = {"kernel_size": 5, "stride": 3, "padding": "valid"}
    model = build_float(
        ModelConfig(architecture="cnn", filters=(6, 8), hidden=(12, 7), **sizes), (28, 28, 1), 10, seed=0
    )
    check_quantizable(model)
    shapes = [tuple(kernel_of(layer).shape) for layer in weighted_layers(model)]
    assert shapes == [(5, 5, 1, 6), (5, 5, 6, 8), (2 * 2 * 8, 12), (12, 7), (7, 10)]
    with pytest.raises(UserError, match="too small for conv3 with padding valid"):
        build_float(ModelConfig(architecture="cnn", filters=(6, 8, 8), **sizes), (28, 28, 1), 10, seed=0)
