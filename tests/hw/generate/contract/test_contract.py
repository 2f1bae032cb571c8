"""The exactness contract, rule by rule: what is accepted was measured exact, what is refused was measured wrong."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.models import qkeras_model, weight_quantizers

from hw.generate.contract import check_contract
from qmodels.errors import UserError
from qmodels.runtime import runtime


def q() -> Any:
    return runtime().qkeras


def layers() -> Any:
    return runtime().keras.layers


@pytest.mark.parametrize(
    "build",
    [
        lambda: qkeras_model(),
        lambda: qkeras_model(q().QActivation("quantized_relu(6,2)", name="relu")),
        lambda: qkeras_model(q().QActivation("quantized_bits(6,2,alpha=1)", name="round")),
        lambda: qkeras_model(q().QActivation("quantized_bits(6,2)", name="round")),
        lambda: qkeras_model(q().QActivation("quantized_bits(6,2,keep_negative=0,alpha=1)", name="positive")),
        lambda: qkeras_model(q().QActivation("quantized_bits(6,2,1,alpha=1)", name="symmetric")),
        lambda: qkeras_model(q().QActivation("quantized_tanh(6)", name="tanh")),
        lambda: qkeras_model(q().QActivation("quantized_sigmoid(6)", name="sigmoid")),
        lambda: qkeras_model(layers().Activation("relu", name="relu")),
        lambda: qkeras_model(q().QDense(4, name="hidden", activation="quantized_relu(4)", **weight_quantizers())),
        lambda: qkeras_model(kernel_quantizer=q().ternary(alpha=1)),
        lambda: qkeras_model(kernel_quantizer=q().quantized_bits(4, 0, alpha=0.25)),
        lambda: qkeras_model(kernel_quantizer=q().quantized_bits(4, 0, alpha=2.0)),
        lambda: qkeras_model(use_bias=False, bias_quantizer=None),
    ],
)
def test_what_is_exact_is_accepted(build: Any) -> None:
    check_contract(build())


def test_a_sequential_model_is_judged_like_a_functional_one() -> None:
    keras = runtime().keras
    body = [q().QActivation("quantized_bits(9,0,alpha=1)"), layers().Flatten(), q().QDense(3, **weight_quantizers())]
    check_contract(keras.Sequential([keras.Input((4, 4, 1)), *body]))


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (lambda: qkeras_model(q().QActivation("quantized_bits(6,2,alpha=0.5)", name="a")), r"alpha=0\.5"),
        (lambda: qkeras_model(q().QActivation("quantized_relu(6,2,0,0.5)", name="a")), r"negative_slope=0\.5"),
        (lambda: qkeras_model(q().QActivation("quantized_po2(4)", name="a")), "quantized_po2 is not reproduced"),
        (lambda: qkeras_model(q().QActivation("binary(alpha=1)", name="a")), "binary is not reproduced"),
        (lambda: qkeras_model(kernel_quantizer=None), "kernel_quantizer is missing"),
        (lambda: qkeras_model(bias_quantizer=None), "bias_quantizer is missing"),
        (lambda: qkeras_model(kernel_quantizer=q().quantized_bits(4, 0, alpha="auto_po2")), "alpha='auto_po2'"),
        (lambda: qkeras_model(kernel_quantizer=q().quantized_bits(4, 0, alpha=3.0)), r"alpha=3\.0"),
        (lambda: qkeras_model(activation="softmax"), "softmax is never bit-exact"),
        (
            lambda: qkeras_model(layers().Activation("sigmoid", name="a")),
            "sigmoid is never bit-exact in hls4ml; use",
        ),
        (lambda: qkeras_model(layers().Dense(4, name="a")), "Dense has float weights; use QDense"),
    ],
)
def test_what_is_not_exact_is_refused_with_layer_and_setting(build: Any, rule: str) -> None:
    with pytest.raises(UserError, match=rf"^layer '(a|logits)': .*{rule}"):
        check_contract(build())


@pytest.mark.parametrize("first", ["relu", "dense"])
def test_the_input_must_be_rounded_first(first: str) -> None:
    keras = runtime().keras
    rounds = q().QActivation("quantized_relu(8,0)", name="first")
    dense = q().QDense(3, name="first", activation=q().quantized_bits(9, 0, alpha=1), **weight_quantizers())
    model = keras.Sequential([keras.Input((4,)), rounds if first == "relu" else dense])
    with pytest.raises(
        UserError, match=r"the first layer must be QActivation\(quantized_bits\(.*, alpha=1\)\).*'first'"
    ):
        check_contract(model)
