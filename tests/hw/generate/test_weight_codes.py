"""Every way to round weights, through the whole chain: QKeras, bitsim and csim give the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.models import BITS, HARDWARE, Toolbox

from hw.accelerator import Accelerator
from hw.generate.convert import convert
from hw.simulate.exactness import probe_inputs, require_exact
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.layers import weighted_layers
from qmodels.quantize.layerwise import LayerKernel, option_of
from qmodels.quantize.model import QuantizationConfig, QuantizedModel, quantize_model
from qmodels.victims import KerasVictim

MIXED = {
    "low": {
        "conv1": {"weight_bits": 4, "granularity": "per-channel"},
        "conv2": {"method": "codebook", "weight_bits": 3},
        "fc1": {"method": "power-of-two", "weight_bits": 3, "granularity": "per-channel"},
        "logits": {"method": "codebook", "weight_bits": 2, "granularity": "per-channel"},
    },
    "high": {
        "conv1": {"method": "codebook", "weight_bits": 8, "granularity": "per-channel"},
        "conv2": {"method": "power-of-two", "weight_bits": 8},
        "fc1": {"weight_bits": 16},
        "logits": {"method": "codebook", "weight_bits": 16},
    },
}


def quantized(toolbox: Toolbox, **settings: object) -> QuantizedModel:
    # Few bits of activations: at 16 bits of weights more would not fit TensorFlow's float32.
    config = QuantizationConfig.model_validate({"activation_bits": 3, "calibration_samples": 200, **settings})
    return quantize_model(toolbox.float_model, config, toolbox.data.train.values)


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_bitsim_gives_the_bits_of_qkeras(toolbox: Toolbox, bits: int) -> None:
    """Every method and granularity in some layer."""
    layers = {
        "conv1": {"method": "codebook", "granularity": "per-channel"},
        "conv2": {"method": "power-of-two"},
        "fc1": {"method": "codebook"},
        "logits": {"method": "power-of-two", "granularity": "per-channel"},
    }
    for settings in ({"layers": layers}, {"granularity": "per-channel"}):
        model = quantized(toolbox, weight_bits=bits, **settings).model
        images = probe_inputs(IMAGE_GRID, toolbox.data.test.x[:20], 10, seed=bits)
        require_exact(KerasVictim(model, "quantized"), Accelerator(model, HARDWARE), images)


@pytest.mark.gxx
@pytest.mark.parametrize("layers", MIXED.values(), ids=MIXED)
def test_csim_gives_the_bits_of_qkeras(toolbox: Toolbox, layers: dict[str, object]) -> None:
    model = quantized(toolbox, layers=layers).model
    images = probe_inputs(IMAGE_GRID, toolbox.data.test.x[:20], 10, seed=0)
    csim = Accelerator(model, HARDWARE).compile(optimize=False)
    require_exact(csim, KerasVictim(model, "quantized"), images)
    require_exact(csim, Accelerator(model, HARDWARE), images)


def test_hls4ml_gives_every_layer_the_type_that_we_tell(toolbox: Toolbox) -> None:
    for layers in MIXED.values():
        found = quantized(toolbox, layers=layers)
        graph = convert(found.model, HARDWARE).graph
        told = {item.layer: item.weight for item in found.formats if item.weight is not None}
        widths = {
            layer.name: layer.weights["weight"].type.precision.width for layer in graph.get_layers() if layer.weights
        }
        assert {layer: widths[layer] <= fmt.width for layer, fmt in told.items()} == dict.fromkeys(told, True)


def test_the_searchs_ebops_are_those_of_the_hardware(toolbox: Toolbox) -> None:
    model = toolbox.quantized.model
    cost = {layer.layer: layer.ebops for layer in Accelerator(model, HARDWARE).cost.layers if layer.ebops}
    wanted = BITS.of_layer("conv1")
    for index, layer in enumerate(weighted_layers(toolbox.float_model)):
        kernel = LayerKernel(layer.name, layer.kernel.numpy().astype(np.float64), False, 9 if not index else 5)
        assert option_of(kernel, wanted, ebops=True).cost == cost[layer.name]


def test_a_layer_that_is_none_is_named(toolbox: Toolbox) -> None:
    told = r"quantization.layers: 'fc9' is no layer with weights and no ReLU; did you mean 'fc1'\? \(allowed: conv1"
    with pytest.raises(UserError, match=told):
        quantized(toolbox, layers={"fc9": {"weight_bits": 2}})
