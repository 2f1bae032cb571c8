"""Every repair keeps what the model computes; repaired models are exact in Keras, hls4ml's C simulation and bitsim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.conversion import IoType, outputs_of, signed_inputs, spread
from helpers.models import weight_quantizers

from hw.generate.contract import add_input_quantizer, check_contract, contract, output_change, repair_model
from hw.generate.contract.mends import grid_quantizer
from hw.generate.contract.names import free_name, is_free_name
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.runtime import runtime

SIGNED = FixedPoint(10, 4)
GRID = "quantized_bits(10,3,alpha=1)"


def q() -> Any:
    return runtime().qkeras


def layers() -> Any:
    return runtime().keras.layers


def bits(width: int = 5, integer: int = 0, **settings: Any) -> Any:
    return q().quantized_bits(width, integer, **{"alpha": 1, **settings})


def conv(name: str, kind: str = "QConv2D", size: int = 2, **settings: Any) -> Any:
    depthwise = "Depthwise" in kind
    kernel = "depthwise_quantizer" if depthwise else "kernel_quantizer"
    settings = {kernel: bits(), "bias_quantizer": bits(6), "name": name, **settings}
    return getattr(q(), kind)(*(() if depthwise else (3,)), size, **settings)


def rounds(text: str, name: str) -> Any:
    return q().QActivation(text, name=name)


def model_of(*body: Any, shape: tuple[int, ...] = (6, 6, 2), grid: str | None = GRID, end: Any = None) -> Any:
    """`body` between an input quantizer and logits; `end` is what stands behind them."""
    keras = runtime().keras
    x = image = keras.Input(shape, name="image")
    for layer in (*([rounds(grid, "grid")] if grid else []), *body):
        x = layer(x)
    if len(x.shape) > 2:
        x = layers().Flatten(name="flat")(x)
    x = q().QDense(3, kernel_quantizer=bits(), bias_quantizer=bits(), name="logits")(x)
    return spread(keras.Model(image, end(x) if end else x, name="own"))


def merged(kind: str, count: int = 3, **settings: Any) -> Any:
    keras = runtime().keras
    image = keras.Input((4, 4, 2), name="image")
    x = rounds(GRID, "grid")(image)
    ways = [rounds("quantized_relu(4,1)", f"way{n}")(conv(f"conv{n}")(x)) for n in range(count)]
    x = layers().Flatten(name="flat")(getattr(layers(), kind)(name="merge", **settings)(ways))
    return spread(keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="own"))


def normalised(powers: bool, body: Any = None) -> Any:
    """A convolution and a BatchNormalization, whose factors are powers of two or any."""
    model = model_of(body or conv("conv"), layers().BatchNormalization(name="norm", epsilon=0.0), rounds(RELU, "relu"))
    norm = model.get_layer("norm")
    if powers:
        norm.set_weights(POWERS)
    return model


RELU = "quantized_relu(6,2)"
#: Scale, shift, mean and variance whose factors are powers of two.
POWERS = [np.array(part) for part in ([0.5, 1, 2], [0.25, -0.5, 0.125], [0.5, 0, -0.25], [1, 0.25, 4])]
KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "batchnorm": (lambda: model_of(conv("a", "QConv2DBatchnorm"), rounds(RELU, "r")), "Batchnorm is now QConv2D"),
    "batchnorm with activation": (
        lambda: model_of(conv("a", "QConv2DBatchnorm", activation=q().quantized_relu(5, 1))),
        "is now QConv2D with the folded weights",
    ),
    "batchnorm scaled by itself": (
        lambda: model_of(conv("a", "QConv2DBatchnorm", kernel_quantizer=bits(4, alpha="auto_po2"))),
        "is now QConv2D",
    ),
    "depthwise batchnorm": (lambda: model_of(conv("a", "QDepthwiseConv2DBatchnorm")), "is now QDepthwiseConv2D"),
    "powers of two behind": (lambda: normalised(True), "'norm': folded into layer 'conv'"),
    "bias alpha": (lambda: model_of(conv("a", bias_quantizer=bits(6, alpha=0.25))), "bias_quantizer alpha=0.25 folded"),
    "bias alpha above": (lambda: model_of(conv("a", bias_quantizer=bits(6, alpha=2.0))), "bias_quantizer alpha=2.0"),
    "auto_po2": (lambda: model_of(conv("a", kernel_quantizer=bits(4, alpha="auto_po2"))), "alpha='auto_po2' folded"),
    "concatenate": (lambda: merged("Concatenate"), "Concatenate of 3 tensors split into a chain"),
    "add four": (lambda: merged("Add", 4), "Add of 4 tensors split"),
    "maximum": (lambda: merged("Maximum"), "Maximum of 3 tensors split"),
    "channels by count": (lambda: merged("Concatenate", 2, axis=3), "axis written as -1"),
    "reshape": (lambda: model_of(layers().Reshape((-1, 4), name="a")), "target_shape written as (18, 4)"),
    "causal": (
        lambda: model_of(conv("a", "QConv1D", 4, strides=2, padding="causal"), shape=(9, 2)),
        "layer 'a_padding', ZeroPadding1D((3, 0))",
    ),
    "no input quantizer": (lambda: model_of(rounds(RELU, "r"), grid=None), "QActivation(quantized_bits(10,3,alpha=1))"),
    "a quantizer object": (
        lambda: model_of(conv("a/b"), q().QActivation(bits(5, 1, keep_negative=False), name="r")),
        "renamed to 'a_b'",
    ),
    "slash in a name": (lambda: model_of(conv("block/conv_1")), "'block/conv_1': renamed to 'block_conv_1'"),
    "a word": (lambda: model_of(conv("float")), "'float': renamed to 'float_layer'"),
    "the input's type": (lambda: model_of(conv("input")), "'input': renamed to 'input_layer'"),
    "the output's type": (lambda: model_of(conv("result")), "'result': renamed to 'result_layer'"),
    "another's type": (lambda: model_of(conv("logits_weight")), "renamed to 'logits_weight_layer'"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")
def test_a_repair_keeps_every_output(name: str) -> None:
    build, told = KINDS[name]
    model = build()
    assert {violation.grade for violation in contract(model)} == {"repairable"}
    repaired = repair_model(model, input_formats=[SIGNED])
    check_contract(repaired.model)
    (done,) = repaired.repairs
    assert told in done and repaired.exact
    x = signed_inputs(60, model.input_shape[1:])
    np.testing.assert_array_equal(repaired.model(x), model(x))


@pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")
def picture() -> Any:
    """One network of all that is accepted or mended in two dimensions, its names and its softmax included."""
    body = [
        layers().ZeroPadding2D(((1, 0), (2, 1)), name="pad"),
        conv("first/conv", "QConv2DBatchnorm", 3),
        rounds("quantized_bits(6,1,1,alpha=1)", "symmetric"),
        layers().Cropping2D(((1, 0), (1, 1)), name="crop"),
        conv("depth", "QDepthwiseConv2DBatchnorm"),
        rounds("quantized_bits(6,1,keep_negative=False,alpha=1)", "unsigned"),
        conv("scaled", kernel_quantizer=bits(4, alpha="auto_po2"), bias_quantizer=bits(6, alpha=0.25)),
        layers().BatchNormalization(name="norm", epsilon=0.0),
        rounds(RELU, "relu"),
        layers().MaxPooling2D(2, name="pool"),
    ]
    model = model_of(*body, grid=None, end=lambda x: layers().Softmax(name="probabilities")(q_dense("output")(x)))
    model.get_layer("norm").set_weights(POWERS)
    return model


def sequence() -> Any:
    """The same in one dimension, where tensors meet too."""
    keras = runtime().keras
    image = keras.Input((16,), name="signal")
    x = layers().Reshape((-1, 2), name="rows")(rounds("quantized_bits(10,3,1,alpha=1)", "grid")(image))
    x = layers().ZeroPadding1D((1, 2), name="around")(x)
    ways = [conv(f"way{n}", "QConv1D", n + 2, strides=2, padding="causal") for n in range(3)]
    x = layers().Concatenate(axis=2, name="join")([rounds(RELU, f"relu{n}")(way(x)) for n, way in enumerate(ways)])
    x = layers().Flatten(name="flat")(layers().Cropping1D((1, 0), name="crop")(x))
    x = layers().Activation("sigmoid", name="sigmoid")(q_dense("int", 1)(x))
    return spread(keras.Model(image, x, name="own"))


def q_dense(name: str, units: int = 3) -> Any:
    return q().QDense(units, kernel_quantizer=bits(), bias_quantizer=bits(6, 1), name=name)


@pytest.fixture(scope="module", params=[picture, sequence])
def repaired_model(request: pytest.FixtureRequest) -> Any:
    """A network with all its repairs, which change no output."""
    model = request.param()
    repaired = repair_model(model, input_formats=[SIGNED])
    assert contract(repaired.model) == () and repaired.exact
    change = output_change(model, repaired, signed_inputs(12, model.input_shape[1:]))
    assert change.largest_difference < 1e-6 and change.changed_predictions == 0
    return repaired.model


@pytest.mark.gxx
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")
def test_repaired_models_are_exact_on_every_side(repaired_model: Any, io_type: IoType) -> None:
    found = outputs_of(repaired_model, signed_inputs(12, repaired_model.input_shape[1:]), io_type)
    np.testing.assert_array_equal(found.csim, found.keras)
    np.testing.assert_array_equal(found.bitsim, found.csim)
    assert len(np.unique(found.csim)) > 20


@pytest.mark.parametrize("kind", ["QDense", "QConv2D", "QDepthwiseConv2D"])
def test_a_batch_normalization_is_rounded_again_and_told(kind: str) -> None:
    body = q_dense("a", 8) if kind == "QDense" else conv("a", kind)
    first = [layers().Flatten(name="rows")] if kind == "QDense" else []
    model = model_of(*first, body, layers().BatchNormalization(name="norm"), rounds(RELU, "relu"))
    (found,) = contract(model)
    assert (found.layer, found.repair, found.grade) == ("norm", "requantize", "repairable")
    with pytest.raises(UserError, match="1 of 1 can be fixed by rounding weights again, which changes outputs"):
        check_contract(model)
    repaired = repair_model(model)
    check_contract(repaired.model)
    assert not repaired.exact and "folded into the weights, rounded again, of layer 'a'" in repaired.repairs[0]
    x = signed_inputs(60, model.input_shape[1:])
    change = output_change(model, repaired, x)
    spread_of_outputs = np.std(model(x))
    assert 0 < change.largest_difference < spread_of_outputs


def test_a_batch_normalization_that_nothing_takes_in_is_reported() -> None:
    model = model_of(rounds(RELU, "relu"), layers().BatchNormalization(name="norm"))
    (found,) = contract(model)
    assert found.grade == "reported" and repair_model(model).repairs == ()
    check_contract(model, exactness="reported")


@pytest.mark.parametrize(
    ("fmt", "quantizer"),
    [
        (FixedPoint(8, 0, signed=False), "quantized_bits(9,0,alpha=1)"),
        (FixedPoint(16, 6), "quantized_bits(16,5,alpha=1)"),
        (FixedPoint(8, 8, signed=False), "quantized_bits(10,8,alpha=1)"),  # hls4ml rounds with a fractional bit only
        (FixedPoint(6, -2), "quantized_bits(9,0,alpha=1)"),  # QKeras has no negative integer bits
        (FixedPoint(24, 4, signed=False), "quantized_bits(25,4,alpha=1)"),
    ],
)
def test_an_input_quantizer_is_the_identity_on_its_format(fmt: FixedPoint, quantizer: str) -> None:
    assert grid_quantizer(fmt) == quantizer
    model = model_of(rounds(RELU, "r"), grid=None, shape=(3,))
    ends = np.ldexp([fmt.raw_min, fmt.raw_max, 1], -fmt.fraction).astype(np.float32)
    assert q().get_quantizer(quantizer)(ends).numpy().tolist() == ends.tolist()
    raw = np.random.default_rng(0).integers(fmt.raw_min, fmt.raw_max + 1, (50, 3))
    x = np.ldexp(raw, -fmt.fraction).astype(np.float32)
    np.testing.assert_array_equal(add_input_quantizer(model, fmt)(x), model(x))


def test_an_input_format_that_float32_does_not_hold() -> None:
    with pytest.raises(UserError, match="input format fixed<32,4,TRN,WRAP>: its quantizer would have 32 bits"):
        grid_quantizer(FixedPoint(32, 4))


def test_free_names() -> None:
    taken = ["int_layer", "fc", "gate_bias"]
    for wish in ("int", "fc", "fc_weight", "gate", "1st", "", "é", "layer2", "a/b", "model_default"):
        name = free_name(wish, taken)
        assert is_free_name(name, inside=True) and name not in [*taken, "fc_weight", "gate"]
    assert is_free_name(free_name("w2", taken, inside=False))
    assert free_name("fine", taken) == "fine"
