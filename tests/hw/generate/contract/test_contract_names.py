"""Names that the generated C++ cannot have are told before there is any."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.models import qkeras_model, weight_quantizers

from hw.generate.contract import contract, repair_model
from hw.generate.contract.names import RESERVED, is_free_name, name_problem
from qmodels.runtime import runtime

CPP = "asm and or not xor nullptr constexpr decltype static_cast wchar_t alignas thread_local NULL".split()
BENCH = "in e fin fout fpr pr iline pline cstr current predictions argc std ap_int".split()
NUMBERED = "w2 b2 b12 layer2_out layer2_t config2 relu_config4 weight2".split()
INSIDE = [
    "output",
    "model",
    "conv1",
    "fc_2",
    "Input",
    "q_dense_12",
    "inputs",
    "b1_conv",
    "layer1_relu",
    "in",
    "e",
    "w2",
    "std",
    "config",
]


@pytest.mark.parametrize("name", [*CPP, *BENCH, *NUMBERED, "input", "1st", "a-b", "a b", "a/b", "", "é", "_x"])
def test_names_that_are_no_cpp_names(name: str) -> None:
    assert not is_free_name(name)
    assert f"layer name {name!r} cannot be used: hls4ml makes it a C++ name" in name_problem(name)


@pytest.mark.parametrize("name", ["conv1", "fc_2", "Input", "q_dense_12", "inputs", "image", "input_1", "x", "pixels"])
def test_names_that_are(name: str) -> None:
    assert is_free_name(name)


@pytest.mark.parametrize("name", INSIDE)
def test_a_layer_behind_the_input_is_only_the_first_part_of_names(name: str) -> None:
    assert is_free_name(name, inside=True)


@pytest.mark.parametrize("name", [*sorted(RESERVED)[::9], "layer2", "weight3", "bias11", "model_default", "a.b"])
def test_but_not_a_word_nor_a_numbered_type(name: str) -> None:
    assert not is_free_name(name, inside=True)


def named(image: str, hidden: str, sequential: bool) -> Any:
    q, keras = runtime().qkeras, runtime().keras
    x = source = keras.Input((4,), name=image)
    body = [
        q.QActivation("quantized_bits(9,0,alpha=1)", name="grid"),
        q.QDense(3, name=hidden, **weight_quantizers()),
    ]
    if sequential:
        return keras.Sequential([source, *body], name="own")
    for layer in body:
        x = layer(x)
    return keras.Model(source, x, name="own")


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("image", ["in", "e", "w2"])
def test_the_models_input_is_a_variable(image: str, sequential: bool) -> None:
    assert contract(named("image", image, sequential)) == ()
    (found,) = contract(named(image, "logits", sequential))
    assert (found.layer, found.setting, found.repair) == (image, "name", "name")
    assert "the name cannot be used: hls4ml makes it a C++ name" in found.problem
    repaired = repair_model(named(image, "logits", sequential))
    assert contract(repaired.model) == () and image not in repaired.model.input_names


@pytest.mark.parametrize(("name", "refused"), [("fc_weight", True), ("fc_bias", True), ("fc_relu", False)])
def test_a_layer_is_not_called_like_a_type_of_another(name: str, refused: bool) -> None:
    q = runtime().qkeras
    model = qkeras_model(
        *(q.QDense(4, name=layer, **weight_quantizers()) for layer in ("fc", name)),
        q.QActivation("quantized_relu(4,1)", name="fc_accum"),
    )
    assert [violation.layer for violation in contract(model)] == [name] * refused
