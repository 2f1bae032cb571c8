"""One gradient model stands for many designs: the bits and gradients of each design's own prequantized model."""

from __future__ import annotations

import numpy as np
from helpers.models import Toolbox, grid_images, outputs_and_gradient

from hw.sizing.gradients import GradientModels, GradientState
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.prequantized import prequantize


def test_swapping_weights_and_formats_gives_each_designs_bits_and_gradients(toolbox: Toolbox) -> None:
    models, x = GradientModels(), grid_images(40)
    designs = []
    for weight_bits, activation_bits in ((2, 4), (5, 8)):
        config = QuantizationConfig(weight_bits=weight_bits, activation_bits=activation_bits, calibration_samples=100)
        quantized = quantize_model(toolbox.float_model, config, toolbox.data.train.values).model
        designs.append((outputs_and_gradient(prequantize(quantized), x), GradientState(quantized)))
    loaded = {id(models.load(state)) for _, state in designs}
    assert len(loaded) == 1  # one structure, traced once
    for (logits, gradient), state in designs:
        got_logits, got_gradient = outputs_and_gradient(models.load(state).model, x)
        np.testing.assert_array_equal(got_logits, logits)
        np.testing.assert_array_equal(got_gradient, gradient)


def test_another_structure_is_another_model(toolbox: Toolbox) -> None:
    from qmodels.architectures import ModelConfig, build_float

    other = build_float(
        ModelConfig(filters=(3, 4), hidden=(8,)), toolbox.data.input_shape, toolbox.data.classes, seed=0
    )
    config = QuantizationConfig(calibration_samples=50)
    states = [
        GradientState(quantize_model(model, config, toolbox.data.train.values).model)
        for model in (toolbox.float_model, other)
    ]
    assert states[0].structure != states[1].structure
