"""Every public way to break hls4ml's exactness is told before conversion; repairs keep what the model computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.models import HARDWARE, STREAM, Toolbox, grid_images, qkeras_model, weight_quantizers

from hw.accelerator import Accelerator
from hw.generate.contract import accumulator_warnings, check_contract, contract, output_change, repair_model
from hw.generate.contract.weight_values import covering_grid
from hw.generate.convert import convert
from hw.generate.hardware import HardwareConfig
from hw.simulate.bitsim import BitSim
from hw.simulate.exactness import require_exact
from qmodels.errors import UserError
from qmodels.runtime import runtime
from qmodels.storage import save_model
from qmodels.victims import KerasVictim

Build = Callable[[], Any]
SHAPE = (4, 4, 1)


def q() -> Any:
    return runtime().qkeras


def layers() -> Any:
    return runtime().keras.layers


def kernel(text: str, **more: Any) -> Build:
    return lambda: qkeras_model(kernel_quantizer=q().get_quantizer(text), **more)


def body(build: Build) -> Build:
    return lambda: qkeras_model(build())


def activation(text: str) -> Build:
    return body(lambda: q().QActivation(text, name="act"))


def pooled(pooling: str) -> Any:
    keras = runtime().keras
    image = keras.Input(SHAPE, name="image")
    x = q().QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = getattr(layers(), pooling)(name="pool")(x)
    x = layers().Flatten(name="flatten")(x)
    return keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="own")


def without_grid(first: str | None = None) -> Any:
    keras = runtime().keras
    image = keras.Input(SHAPE, name="image")
    x = q().QActivation(first, name="first")(image) if first else image
    x = layers().Flatten(name="flatten")(x)
    return keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="own")


#: What breaks it; layer, setting, words of what hls4ml would do, and how it is repaired (None: not at all).
BREAKS = {
    "no input quantizer": (without_grid, "", "input", "almost every output differs", "input"),
    "relu on the input": (lambda: without_grid("quantized_relu(8,0)"), "", "input", "unexpected input layer", "input"),
    "alpha auto": (kernel("quantized_bits(4,0,alpha='auto')"), "logits", "kernel_quantizer.alpha", "0.07 off", None),
    "alpha auto_po2": (
        kernel("quantized_bits(4,0,alpha='auto_po2')"),
        "logits",
        "kernel_quantizer.alpha",
        "C++ that does not compile",
        "fold",
    ),
    "alpha None": (kernel("quantized_bits(4,0)"), "logits", "kernel_quantizer.alpha", "C++ that does not", "fold"),
    "quantized_po2": (kernel("quantized_po2(4)"), "logits", "kernel_quantizer", "does not compile", "fold"),
    "binary": (kernel("binary(alpha=1)"), "logits", "kernel_quantizer", "accumulator overflows", "fold"),
    "an unknown quantizer": (kernel("quantized_ulaw(4)"), "logits", "kernel_quantizer", "ap_fixed<16,6>", None),
    "no weight quantizer": (
        lambda: qkeras_model(bias_quantizer=None),
        "logits",
        "bias_quantizer",
        "ap_fixed<16,6>",
        None,
    ),
    "float weights": (body(lambda: layers().Dense(4, name="plain")), "plain", "class", "ap_fixed<16,6>", None),
    "batch normalization": (
        body(lambda: layers().BatchNormalization(name="norm")),
        "norm",
        "class",
        "outputs differ",
        None,
    ),
    "symmetric sigmoid": (
        activation("quantized_sigmoid(5,True)"),
        "act",
        "quantized_sigmoid.symmetric",
        "a third",
        None,
    ),
    "leaky relu": (activation("quantized_relu(6,1,0,0.25)"), "act", "quantized_relu.negative_slope", "a quarter", None),
    "a relu of whole numbers": (
        activation("quantized_relu(1,1)"),
        "act",
        "quantized_relu.integer",
        "neither rounds nor saturates",
        None,
    ),
    "whole signed numbers": (
        activation("quantized_bits(4,3,alpha=1)"),
        "act",
        "quantized_bits.integer",
        "neither rounds nor saturates",
        None,
    ),
    "float tanh": (
        body(lambda: layers().Activation("tanh", name="act")),
        "act",
        "activation",
        "read from a table",
        None,
    ),
    "softmax": (
        body(lambda: layers().Activation("softmax", name="mid")),
        "mid",
        "activation",
        "read from tables",
        None,
    ),
    "softmax at the end": (lambda: qkeras_model(activation="softmax"), "logits", "activation", "tables", "head"),
    "a layer named input": (
        body(lambda: q().QDense(4, name="input", **weight_quantizers())),
        "input",
        "name",
        "does not compile",
        "name",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.filterwarnings("ignore:The initializer HeNormal is unseeded:UserWarning")
def test_a_break_names_layer_setting_consequence_and_fix(name: str) -> None:
    build, layer, setting, silently, repair = BREAKS[name]
    (found,) = contract(build())
    assert (found.layer, found.setting, found.repair) == (layer, setting, repair)
    assert silently in found.silently
    assert found.fix and found.fix in str(found)


@pytest.mark.parametrize("text", ["quantized_relu(1,0)", "quantized_relu(2,1)", "quantized_bits(2,0,alpha=1)"])
def test_one_fractional_bit_is_enough(text: str) -> None:
    assert contract(activation(text)()) == ()


@pytest.mark.gxx
def test_few_levels_behind_the_input_are_exact() -> None:
    """A 1x1 convolution and a quantizer of one bit behind the input: what is left of the image are two levels."""
    keras = runtime().keras
    image = keras.Input(SHAPE, name="image")
    x = q().QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = q().QConv2D(1, 1, kernel_quantizer=q().quantized_bits(2, 1, alpha=1), use_bias=False, name="scale")(x)
    x = layers().Flatten(name="flatten")(q().QActivation("quantized_relu(1,0)", name="levels")(x))
    model = keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="few")
    model.get_layer("scale").set_weights([np.ones((1, 1, 1, 1), np.float32)])
    every = np.arange(256, dtype=np.uint8).reshape(16, *SHAPE)
    csim = Accelerator(model, STREAM).compile(optimize=False)
    require_exact(KerasVictim(model, "quantized"), csim, every)
    require_exact(csim, Accelerator(model, STREAM), every)


@pytest.mark.parametrize("backend", ["Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult"])
def test_what_is_exact_is_let_through(toolbox: Toolbox, backend: str) -> None:
    assert contract(toolbox.quantized.model, backend) == ()
    allowed = "quantized_bits(4,0,alpha=0.25)", "ternary(alpha=1)"
    for text in allowed:
        assert contract(qkeras_model(kernel_quantizer=q().get_quantizer(text)), backend) == ()


def test_backends_that_cannot_be_exact_say_so() -> None:
    for build in (lambda: pooled("AveragePooling2D"), activation("quantized_sigmoid(6)")):
        model = build()
        assert contract(model, "Vitis") == ()
        (found,) = contract(model, "Catapult")
        assert found.setting == "backend" and "Catapult" in found.problem
    with pytest.raises(UserError, match="not exact on the backend Catapult"):
        check_contract(pooled("GlobalAveragePooling2D"), "Catapult")


@pytest.mark.filterwarnings("ignore:The initializer HeNormal is unseeded:UserWarning")
def test_all_violations_are_told_at_once() -> None:
    keras = runtime().keras
    image = keras.Input(SHAPE, name="image")
    x = layers().Flatten(name="flatten")(image)
    x = q().QDense(4, kernel_quantizer=q().binary(alpha=1), bias_quantizer=None, name="input")(x)
    model = keras.Model(image, layers().Softmax(name="probabilities")(x), name="own")
    with pytest.raises(UserError) as caught:
        check_contract(model)
    told = str(caught.value)
    assert told.startswith("model own: 5 settings break exactness:\n  - layer 'input': the name cannot be used")
    for part in (
        "bias_quantizer is missing",
        "binary is not reproduced",
        "'probabilities': softmax",
        "first layer must",
    ):
        assert part in told
    assert told.endswith("4 of 5 can be fixed without changing the model's outputs: add --repair")


@pytest.mark.parametrize("text", ["quantized_bits(4,0,alpha='auto_po2')", "quantized_bits(3,0)", "quantized_po2(4)"])
@pytest.mark.filterwarnings("ignore:The initializer HeNormal is unseeded:UserWarning")
def test_a_folded_scale_gives_the_same_bits_in_keras_and_in_the_accelerator(text: str) -> None:
    model = kernel(text)()
    spread = np.random.default_rng(1).normal(size=(16, 3)) * 2.0 ** np.arange(-3, 3, 2)  # a scale for every output
    model.get_layer("logits").set_weights([spread, np.array([0.3, -0.6, 0.1])])
    images = grid_images(200, SHAPE)
    expected = model(images).numpy()
    repaired = repair_model(model)
    check_contract(repaired.model)
    assert output_change(model, repaired, images).largest_difference == 0.0
    simulated = BitSim.from_graph(convert(repaired.model, HARDWARE).graph).predict(images)
    np.testing.assert_array_equal(simulated, expected)
    assert len(repaired.repairs) == 1 and "folded into the weights" in repaired.repairs[0]


def test_a_float_scale_is_not_folded() -> None:
    model = kernel("quantized_bits(4,0,alpha='auto')")()
    repaired = repair_model(model)
    assert repaired.repairs == ()
    with pytest.raises(UserError, match="alpha='auto'"):
        check_contract(repaired.model)


@pytest.mark.parametrize("sequential", [False, True])
def test_the_input_quantizer_changes_nothing_on_device_inputs(sequential: bool) -> None:
    model = without_grid()
    if sequential:
        keras = runtime().keras
        model = keras.Sequential([keras.Input(SHAPE), *without_grid().layers[1:]], name="own")
    images = grid_images(200, SHAPE)
    expected = model(images).numpy()
    repaired = repair_model(model)
    change = output_change(model, repaired, images)
    assert (change.images, change.largest_difference, change.changed_predictions) == (200, 0.0, 0)
    simulated = BitSim.from_graph(convert(repaired.model, HARDWARE).graph).predict(images)
    np.testing.assert_array_equal(simulated, expected)


@pytest.mark.parametrize("how", ["setting", "Activation", "Softmax", "QActivation"])
def test_logits_instead_of_softmax(how: str) -> None:
    if how == "setting":
        model = qkeras_model(activation="softmax")
    else:
        keras, plain = runtime().keras, qkeras_model()
        last = {
            "Activation": lambda: layers().Activation("softmax", name="p"),
            "Softmax": lambda: layers().Softmax(name="p"),
            "QActivation": lambda: q().QActivation("softmax", name="p"),
        }[how]()
        model = keras.Model(plain.input, last(plain.output), name="own")
    repaired = repair_model(model)
    check_contract(repaired.model)
    images = grid_images(50, SHAPE)
    np.testing.assert_allclose(model(images).numpy().sum(axis=1), 1, rtol=1e-5)
    assert np.abs(repaired.model(images).numpy().sum(axis=1) - 1).max() > 0.1
    change = output_change(model, repaired, images)
    assert change.compared == "softmax of the new logits"
    assert change.largest_difference < 1e-6 and change.changed_predictions == 0


@pytest.mark.filterwarnings("ignore:The initializer HeNormal is unseeded:UserWarning")
def test_generate_with_repair_says_what_it_did(cli: Cli) -> None:
    quantizer = q().quantized_bits(4, 0, alpha="auto_po2")
    model = qkeras_model(shape=(8, 8, 1), classes=10, kernel_quantizer=quantizer, activation="softmax")
    save_model(model, cli.folder / "own.keras")
    told = cli.refuses("generate", "--model", "own.keras")
    assert "2 of 2 can be fixed without changing the model's outputs: add --repair" in told
    outcome = cli("generate", "--model", "own.keras", "--repair")
    assert outcome.status == 0, outcome.err
    assert "repaired: layer 'logits': kernel_quantizer alpha='auto_po2' folded into the weights, now" in outcome.out
    assert "repaired: layer 'logits': softmax stripped, the model ends in logits" in outcome.out
    assert "repaired: softmax of the new logits: largest difference " in outcome.out
    assert "0 of 360 predictions changed" in outcome.out


@pytest.mark.filterwarnings("ignore:The initializer HeNormal is unseeded:UserWarning")
def test_an_accumulator_beyond_float32_is_told() -> None:
    wide = {"kernel_quantizer": q().quantized_bits(16, 0, alpha=1), "bias_quantizer": q().quantized_bits(8, 0, alpha=1)}
    graph = convert(qkeras_model(**wide), HardwareConfig()).graph
    (warning,) = accumulator_warnings(graph)
    assert warning.layer == "logits" and "float32 holds 24" in str(warning)
    assert accumulator_warnings(convert(qkeras_model(), HardwareConfig()).graph) == []


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ([0.5, -1.0], (2, 1)),
        ([1.0, -1.0], (2, 2)),  # +1 needs another integer bit than -1
        ([-2.0, 1.0], (2, 2)),
        ([0.375], (4, 1)),
        ([0.0], (2, 1)),
        ([3.0, 0.25], (5, 3)),
        ([2.0**-23], (24, 1)),
        ([2.0**-24], None),
        ([1 / 3], None),
        ([float("nan")], None),
    ],
)
def test_the_narrowest_grid(values: list[float], grid: tuple[int, int] | None) -> None:
    found = covering_grid(np.array(values))
    if grid is None:
        assert found is None
        return
    assert found is not None
    assert found.to_raw(np.array(values)) is not None
    assert (found.width, found.integer) == grid
