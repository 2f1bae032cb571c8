"""What is reported has an accelerator: bitsim gives the bits of hls4ml's C simulation, whatever the model gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.conversion import Outputs, accelerator_of, outputs_of, signed_inputs, spread
from helpers.models import qkeras_model, weight_quantizers

from hw.generate.contract import check_contract, contract, conversion_settings, repair_model, suspects
from qmodels.errors import UserError
from qmodels.runtime import runtime

Branch = Callable[[], Sequence[Any]]
UNSEEDED = "ignore:The initializer .* is unseeded:UserWarning"


def q() -> Any:
    return runtime().qkeras


def layers() -> Any:
    return runtime().keras.layers


def bits(width: int = 5, integer: int = 0, **settings: Any) -> Any:
    return q().quantized_bits(width, integer, **{"alpha": 1, **settings})


def conv(**settings: Any) -> Any:
    return q().QConv2D(2, 2, **{"kernel_quantizer": bits(), "bias_quantizer": bits(6), **settings})


def kernel(quantizer: Callable[[], Any]) -> Branch:
    return lambda: [conv(kernel_quantizer=quantizer()), rounds("quantized_relu(6,2)")]


def rounds(text: str) -> Any:
    return q().QActivation(text)


def behind(*body: Callable[[], Any]) -> Branch:
    return lambda: [conv(), *(build() for build in body)]


def dense(**settings: Any) -> Any:
    return q().QDense(3, **{**weight_quantizers(), **settings})


#: By the setting that is reported; converted with bit_exact.
EXACTLY: dict[str, Branch] = {
    "kernel_quantizer.alpha": kernel(lambda: bits(alpha="auto")),
    "kernel_quantizer": kernel(lambda: q().quantized_ulaw(5)),
    "bias_quantizer": lambda: [conv(bias_quantizer=None), rounds("quantized_relu(6,2)")],
    "bias_quantizer.alpha": lambda: [conv(bias_quantizer=bits(6, alpha=0.25))],
    "quantized_bits.alpha": behind(lambda: rounds("quantized_bits(6,2,alpha=0.5)")),
    "quantized_relu.use_sigmoid": behind(lambda: rounds("quantized_relu(6,2,1)")),
    "quantized_tanh.use_real_tanh": behind(lambda: rounds("quantized_tanh(6,use_real_tanh=True)")),
    "quantized_sigmoid.use_real_sigmoid": behind(lambda: rounds("quantized_sigmoid(6,use_real_sigmoid=True)")),
    "quantized_relu.integer": behind(lambda: rounds("quantized_relu(6,6)")),
    "input": behind(lambda: rounds("quantized_relu(6,2)"), lambda: rounds("quantized_bits(5,2,alpha=1)")),
    "pool_size": behind(lambda: layers().AveragePooling2D(3)),
    "padding": behind(lambda: layers().ReLU(), lambda: layers().MaxPooling2D(2, padding="same")),
    "ReLU.max_value": behind(lambda: layers().ReLU(0.5)),
    "input_rank": lambda: [dense()],
    "activation": lambda: [layers().Flatten(), dense(), layers().Activation("softmax")],
    "class": lambda: [rounds("quantized_relu(6,2)"), layers().BatchNormalization()],
}
#: Converted without it: it stops at these, or gets them wrong.
PLAINLY: dict[str, Branch] = {
    "float weights": lambda: [layers().Conv2D(2, 2), layers().ReLU(), layers().Flatten(), layers().Dense(3)],
    "no kernel quantizer": lambda: [conv(kernel_quantizer=None)],
    "binary weights": kernel(lambda: q().binary(alpha=1)),
    "leaky": behind(lambda: rounds("quantized_relu(6,2,0,0.25)")),
    "tanh": behind(lambda: layers().Activation("tanh")),
    "elu": behind(lambda: layers().ELU()),
    "softplus": behind(lambda: layers().Activation("softplus")),
    "hard sigmoid": behind(lambda: layers().Activation("hard_sigmoid")),
    "slopes": behind(lambda: layers().PReLU()),
    "threshold": behind(lambda: layers().ThresholdedReLU(0.5)),
    "upsampling": lambda: [layers().UpSampling2D(2)],
    "folded, scaled": lambda: [
        q().QConv2DBatchnorm(2, 2, kernel_quantizer=bits(alpha="auto"), bias_quantizer=bits(6)),
    ],
}


def branches(kinds: dict[str, Branch], *, grid: bool = True) -> Any:
    """One model: every kind on its own way from the input to three outputs of its own."""
    keras = runtime().keras
    x = image = keras.Input((4, 4, 1), name="image")
    if grid:
        x = q().QActivation("quantized_bits(10,3,alpha=1)", name="grid")(image)
    joined = None
    for number, build in enumerate(kinds.values()):
        way = x
        for place, layer in enumerate(build()):
            layer._name = f"way{number}_{place}"
            way = layer(way)
        way = dense(name=f"end{number}")(layers().Flatten(name=f"flat{number}")(way))
        joined = way if joined is None else layers().Concatenate(name=f"join{number}")([joined, way])
    return spread(keras.Model(image, joined, name="own"))


def simulated(model: Any, folder: Path) -> Outputs:
    assert {violation.severity for violation in contract(model)} == {"reported"}
    check_contract(model, exactness="reported")
    with pytest.raises(UserError, match="With exactness: reported the accelerator is made"):
        check_contract(model)
    found = outputs_of(model, signed_inputs(5, model.input_shape[1:]))
    np.testing.assert_array_equal(found.bitsim, found.csim)
    return found


@pytest.mark.gxx
@pytest.mark.filterwarnings(UNSEEDED)
def test_reported_kinds_with_bit_exact(tmp_path: Path) -> None:
    model = branches(EXACTLY)
    told = contract(model)
    assert {violation.setting for violation in told} == set(EXACTLY)
    assert conversion_settings(told).bit_exact
    found = simulated(model, tmp_path / "project")
    assert (found.keras != found.csim).any()


@pytest.mark.gxx
@pytest.mark.filterwarnings(UNSEEDED)
@pytest.mark.parametrize("grid", [True, False])
def test_reported_kinds_without(grid: bool, tmp_path: Path) -> None:
    model = branches(PLAINLY if grid else {"dense": lambda: [layers().Flatten(), dense()]}, grid=grid)
    told = contract(model)
    ways = {violation.layer.partition("_")[0] for violation in told if violation.stops_bit_exact}
    assert len(ways) == (len(PLAINLY) if grid else 1)
    assert not conversion_settings(told).bit_exact
    simulated(model, tmp_path / "project")


#: hls4ml stops, writes C++ that does not compile, or computes what bitsim does not.
REFUSED: dict[str, Branch] = {
    "quantized_po2 activation": behind(lambda: rounds("quantized_po2(4)")),
    "hard_tanh": behind(lambda: rounds("hard_tanh")),
    "dilation": lambda: [conv(dilation_rate=2)],
    "a list of scales": kernel(lambda: bits(alpha=[0.5, 0.3])),
    "noise": lambda: [layers().GaussianNoise(0.5)],
    "depthwise normalised": lambda: [layers().DepthwiseConv2D(2), layers().BatchNormalization()],
    "swish": behind(lambda: layers().Activation("swish")),
    "the layer Softmax": behind(lambda: layers().Softmax()),
    "recurrent": lambda: [layers().Reshape((4, 4)), layers().SimpleRNN(3)],
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings(UNSEEDED)
def test_what_has_no_accelerator_is_refused_though_exactness_is_reported(name: str) -> None:
    model = branches({name: REFUSED[name]})
    assert "refused" in {violation.grade for violation in contract(model)}
    with pytest.raises(UserError) as caught:
        check_contract(model, exactness="reported")
    assert "exactness: reported" not in str(caught.value)


@pytest.mark.filterwarnings(UNSEEDED)
def test_a_scale_that_is_frozen_needs_no_report() -> None:
    """auto_po2 is refused as it is (its C++ does not compile), repaired exactly, and nothing is left to report."""
    model = spread(qkeras_model(kernel_quantizer=bits(alpha="auto_po2")))
    (found,) = contract(model)
    assert (found.severity, found.grade) == ("refused", "repairable")
    assert contract(repair_model(model).model) == ()
    scaled = repair_model(spread(qkeras_model(kernel_quantizer=bits(alpha="auto")))).model
    assert [violation.grade for violation in contract(scaled)] == ["reported"]


@pytest.mark.filterwarnings(UNSEEDED)
def test_the_gate_names_the_setting_that_probably_did_it(tmp_path: Path) -> None:
    wide = qkeras_model(kernel_quantizer=bits(16), bias_quantizer=bits(8))
    graph = accelerator_of(wide).graph
    told = suspects(wide, "logits", graph)
    assert "layer 'logits': its sums may need 2" in told and "float32 holds 24" in told
    assert "no setting of it is suspicious" in suspects(wide, "logits")
    assert "kernel_quantizer quantized_bits(16,0,0,alpha=1" in suspects(wide, "logits")

    scaled = qkeras_model(dense(name="a", kernel_quantizer=bits(alpha="auto")), q().QActivation("quantized_relu(6,2)"))
    for name in ("a", "a_alpha", scaled.layers[-2].name):  # the layer, what hls4ml makes of it, and who reads it
        assert suspects(scaled, name).startswith("probably: layer 'a': kernel_quantizer has alpha='auto'")
    assert "comes from hls4ml" in suspects(scaled, "elsewhere")
