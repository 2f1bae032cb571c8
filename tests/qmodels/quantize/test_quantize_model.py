"""The QKeras twin: b-bit kernels, activations calibrated on the images given and no others, hls4ml's types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import BITS, HARDWARE, Toolbox, grid_images

from hw.generate.contract import check_contract
from hw.generate.convert import convert
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.layers import kernel_of, weighted_layers
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.uniform import snap
from qmodels.runtime import runtime

LAYERS = ("conv1", "conv2", "fc1", "logits")


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_kernel_has_at_most_two_to_the_b_values(toolbox: Toolbox, bits: int) -> None:
    config = BITS.model_copy(update={"weight_bits": bits})
    quantized = quantize_model(toolbox.float_model, config, toolbox.data.train.values)
    for layer in weighted_layers(quantized.model):
        stored = kernel_of(layer).numpy()
        used = layer.kernel_quantizer_internal(kernel_of(layer)).numpy()
        np.testing.assert_array_equal(used, stored)  # the quantizer is the identity on the stored codes
        assert 2 <= len(np.unique(used)) <= 2**bits


def test_hls4ml_finds_the_b_bits_again(toolbox: Toolbox) -> None:
    graph = convert(toolbox.quantized.model, HARDWARE).graph
    widths = {layer.name: layer.weights["weight"].type.precision.width for layer in graph.get_layers() if layer.weights}
    assert set(widths) >= set(LAYERS)
    assert all(widths[name] <= BITS.weight_bits for name in LAYERS), widths


def test_the_twin_fulfils_the_contract_and_keeps_the_layers(toolbox: Toolbox) -> None:
    check_contract(toolbox.quantized.model)
    names = [layer.name for layer in toolbox.quantized.model.layers]
    assert names == [layer.name for layer in toolbox.float_model.layers]


def test_the_formats_told_are_those_of_the_model(toolbox: Toolbox) -> None:
    formats = {item.layer: item for item in toolbox.quantized.formats}
    assert set(formats) == {*LAYERS, "conv1_relu", "conv2_relu", "fc1_relu"}
    for name in LAYERS:
        kernel, bias = toolbox.quantized.model.get_layer(name).get_weights()
        original, _ = toolbox.float_model.get_layer(name).get_weights()
        fmt = formats[name].weight
        assert fmt is not None
        np.testing.assert_array_equal(kernel, snap(original.astype(np.float64), fmt).astype(np.float32))
        assert formats[name].distinct_weights == len(np.unique(kernel))
        error = np.linalg.norm(kernel - original) / np.linalg.norm(original)
        assert formats[name].relative_error == pytest.approx(error, rel=1e-4)
        bias_format = formats[name].bias
        assert bias_format is not None
        bias_format.to_raw(bias)
    for plain in (item.as_json() for item in toolbox.quantized.formats):
        for key in ("weight", "bias", "activation"):
            assert plain[key] is None or FixedPoint.parse(plain[key])


def activation_formats(toolbox: Toolbox, images: np.ndarray, config: QuantizationConfig = BITS) -> list[Any]:
    return [item.activation for item in quantize_model(toolbox.float_model, config, images).formats]


def test_activations_are_calibrated_on_the_images_given_and_no_others(toolbox: Toolbox) -> None:
    x = toolbox.data.train.values
    dark = x / np.float32(64)
    assert activation_formats(toolbox, dark) != activation_formats(toolbox, x)
    few = BITS.model_copy(update={"calibration_samples": 10})
    spoiled = np.concatenate([x[:10], np.ones_like(x) * np.float32(255 / 256)])
    assert activation_formats(toolbox, spoiled, few) == activation_formats(toolbox, x[:10], few)


def test_outputs_stay_close_at_eight_bits(toolbox: Toolbox) -> None:
    config = QuantizationConfig(weight_bits=8, activation_bits=8, bias_bits=16, clip="max")
    quantized = quantize_model(toolbox.float_model, config, toolbox.data.train.values).model
    x = toolbox.data.test.values
    expected, got = toolbox.float_model(x).numpy(), quantized(x).numpy()
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_outputs_are_multiples_of_the_last_step(toolbox: Toolbox) -> None:
    """So float32 has computed them exactly."""
    logits = toolbox.quantized.model(grid_images(50)).numpy().astype(np.float64)
    assert np.array_equal(logits * 2**24, np.rint(logits * 2**24))


def test_weights_too_small_for_float32_are_told(toolbox: Toolbox) -> None:
    keras = runtime().keras
    model = keras.models.clone_model(toolbox.float_model)
    model.set_weights([weights * np.float32(1e-9) for weights in toolbox.float_model.get_weights()])
    with pytest.raises(UserError, match="too small or too wide for exact float32 arithmetic; rescale the layer"):
        quantize_model(model, BITS, toolbox.data.train.values)


def test_activations_keep_a_fractional_bit_however_large_they_are(toolbox: Toolbox) -> None:
    """Without one, hls4ml neither rounds nor saturates; the contract refuses it."""
    model = runtime().keras.models.clone_model(toolbox.float_model)
    model.set_weights([weights * np.float32(100) for weights in toolbox.float_model.get_weights()])
    quantized = quantize_model(model, BITS, toolbox.data.train.values)
    integers = [item.activation.integer for item in quantized.formats if item.activation is not None]
    assert integers == [BITS.activation_bits - 1] * 3
    check_contract(quantized.model)
