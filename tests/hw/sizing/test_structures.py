"""Designs without a conversion: the swapped graph is the converted one, in weights, types, cost and bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import HARDWARE, SMALL, STREAM, Toolbox, grid_codes, grid_images, normalised
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw.accelerator import Accelerator
from hw.cost import estimate_cost
from hw.generate.hardware import HardwareConfig
from hw.generate.swap import LayerWeights, SwappableGraph, relu_format
from hw.simulate.bitsim import BitSim
from hw.sizing.structures import differences
from qmodels.errors import UserError
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.quantize.many import ManyQuantizations
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.victims import KerasVictim

RESOURCE = HardwareConfig(strategy="resource", io_type="io_stream")
MODES = {
    "cnn, parallel": ("cnn4", HARDWARE),
    "cnn, resource and stream": ("cnn4", RESOURCE),
    "cnn, codes and types": ("cnn4", HardwareConfig(weight_storage="codes", precision={"accum": "fixed<30,14>"})),
    "branches": ("resnet8", STREAM),
    "depthwise": ("mobilenet_v1_025", HARDWARE),
}


def _float_model(name: str, toolbox: Toolbox) -> Any:
    return toolbox.float_model if name == "cnn4" else fold_batch_norm(normalised(SMALL[name]))


def _quantization(**changes: Any) -> QuantizationConfig:
    return QuantizationConfig.model_validate({"calibration_samples": 60} | changes)


def _per_layer(first: str, last: str, relu: str) -> QuantizationConfig:
    layers = {
        first: {"weight_bits": 5, "granularity": "per-channel"},
        last: {"method": "codebook", "weight_bits": 3},
        relu: {"activation_bits": 4},
    }
    return _quantization(weight_bits=3, activation_bits=6, bias_bits=6, layers=layers)


@pytest.mark.parametrize("mode", [pytest.param(m, marks=pytest.mark.slow if "," not in m else ()) for m in MODES])
def test_a_swapped_graph_is_the_converted_one(mode: str, toolbox: Toolbox) -> None:
    name, hardware = MODES[mode]
    model, images, x = _float_model(name, toolbox), grid_images(60), grid_codes(20)
    many = ManyQuantizations(model, images)
    weighted = [layer.name for layer in model.layers if hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel")]
    relu = next(layer.name for layer in model.layers if layer.name in many.round(_quantization()).relus)
    first, wanted = _quantization(weight_bits=4), _per_layer(weighted[0], weighted[-1], relu)
    quantized = quantize_model(model, first, images).model
    swapped = SwappableGraph(Accelerator(quantized, hardware).graph, quantized, hardware)
    for config in (first, wanted):
        rounded = many.round(config)
        swapped.put({n: LayerWeights(w.digest, w.kernel, w.bias) for n, w in rounded.layers.items()}, rounded.relus)
    converted = Accelerator(quantize_model(model, wanted, images).model, hardware)
    assert differences(swapped.graph, converted.graph) == []
    assert estimate_cost(swapped.graph, converted.codebooks) == estimate_cost(converted.graph, converted.codebooks)
    np.testing.assert_array_equal(BitSim.from_graph(swapped.graph).logits(x), converted.logits(x))


_bits = st.fixed_dictionaries({name: st.integers(2, 8) for name in ("conv1", "conv2", "fc1", "logits")})
_widths = st.fixed_dictionaries({name: st.integers(2, 8) for name in ("conv1_relu", "conv2_relu", "fc1_relu")})


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=_bits, widths=_widths, method=st.sampled_from(["uniform", "power-of-two", "codebook"]))
def test_rounding_once_for_many_gives_the_models_own_weights_and_formats(
    toolbox: Toolbox, bits: dict[str, int], widths: dict[str, int], method: str
) -> None:
    layers = {name: {"weight_bits": b} for name, b in bits.items()}
    layers |= {name: {"activation_bits": b} for name, b in widths.items()}
    config = _quantization(method=method, layers=layers)
    images = toolbox.data.train.values
    rounded = _many(toolbox).round(config)
    quantized = quantize_model(toolbox.float_model, config, images)
    for formats in quantized.formats:
        if formats.activation is not None:
            got = rounded.relus[formats.layer]
            assert (got.width, got.integer) == (formats.activation.width, formats.activation.integer)
            assert got.width == widths[formats.layer]
        else:
            kernel, bias = quantized.model.get_layer(formats.layer).get_weights()
            np.testing.assert_array_equal(rounded.layers[formats.layer].kernel, kernel)
            np.testing.assert_array_equal(rounded.layers[formats.layer].bias, bias)


_kept: list[ManyQuantizations] = []


def _many(toolbox: Toolbox) -> ManyQuantizations:
    """One for all examples: what it remembers of one must not spoil the next."""
    if not _kept:
        _kept.append(ManyQuantizations(toolbox.float_model, toolbox.data.train.values))
    return _kept[0]


def test_a_layer_that_cannot_be_inferred_again_is_refused(toolbox: Toolbox) -> None:
    own = Accelerator(toolbox.quantized.model)
    own.graph.graph["fc1_relu"].attributes["activation"] = "tanh"
    with pytest.raises(UserError, match="its types cannot be inferred again"):
        SwappableGraph(own.graph, toolbox.quantized.model, HARDWARE)


def test_the_rounded_relu_is_named_as_hls4ml_has_it(toolbox: Toolbox) -> None:
    formats = Accelerator(toolbox.quantized.model).formats
    relu = next(item for item in toolbox.quantized.formats if item.layer == "conv1_relu").activation
    assert relu is not None
    assert formats["conv1_relu"] == relu_format(relu.width, relu.integer)


def test_bits_of_a_relu_change_what_the_accelerator_says(toolbox: Toolbox) -> None:
    x = grid_codes(40)
    config = _quantization(weight_bits=4, layers={"fc1_relu": {"activation_bits": 2}})
    narrow, wide = (quantize_model(toolbox.float_model, c, grid_images(60)).model for c in (config, _quantization()))
    logits = [KerasVictim(model, "quantized").logits(x) for model in (narrow, wide)]
    assert not np.array_equal(*logits)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ({"fc1": {"activation_bits": 4}}, "quantization.layers.fc1.activation_bits: has no effect"),
        ({"fc1_relu": {"weight_bits": 4}}, "quantization.layers.fc1_relu.weight_bits: has no effect"),
        ({"nowhere": {"weight_bits": 4}}, "'nowhere' is no layer with weights and no ReLU"),
    ],
)
def test_settings_without_effect_are_refused(toolbox: Toolbox, layers: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        quantize_model(toolbox.float_model, _quantization(layers=layers), grid_images(60))
