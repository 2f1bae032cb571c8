"""What hls4ml leaves out of a layer, and layers it does not reproduce, are told before conversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.models import qkeras_model, weight_quantizers

from hw.generate.contract import check_contract, contract, repair_model
from qmodels.errors import UserError
from qmodels.quantize.model import check_quantizable
from qmodels.runtime import runtime

Build = Callable[[], Any]
SHAPE = (4, 4, 2)
FINE = {"depthwise_quantizer", "pointwise_quantizer", "bias_quantizer"}


def q() -> Any:
    return runtime().qkeras


def layers() -> Any:
    return runtime().keras.layers


def behind_grid(*body: Any, shape: tuple[int, ...] = SHAPE) -> Any:
    """input grid, `body`, logits."""
    keras = runtime().keras
    x = image = keras.Input(shape, name="image")
    for layer in (q().QActivation("quantized_bits(9,0,alpha=1)", name="grid"), *body):
        x = layer(x)
    if len(x.shape) > 2:
        x = layers().Flatten(name="flatten")(x)
    return keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="own")


def merged(build: Build, branches: int = 2) -> Any:
    keras = runtime().keras
    image = keras.Input(SHAPE, name="image")
    x = q().QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    ways = [q().QActivation("quantized_relu(4,1)", name=f"way{n}")(x) for n in range(branches)]
    x = layers().Flatten(name="flatten")(build()(ways))
    return keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="own")


def conv(kind: str = "QConv2D", size: int = 2, **more: Any) -> Any:
    filters = () if kind == "QDepthwiseConv2D" else (2,)
    fixed = q().quantized_bits(4, 0, alpha=1)
    names = {"kernel_quantizer", "bias_quantizer"} if kind in ("QConv1D", "QConv2D", "QConv2DBatchnorm") else FINE
    if kind == "QDepthwiseConv2D":
        names = names - {"pointwise_quantizer"}
    return getattr(q(), kind)(*filters, size, name="a", **({name: fixed for name in names} | more))


def one(build: Build) -> Build:
    return lambda: behind_grid(build())


def sequence(build: Build) -> Build:
    return lambda: behind_grid(layers().Reshape((8, 4), name="rows"), build())


def activation(quantizer: str, **settings: Any) -> Build:
    return one(lambda: q().QActivation(getattr(q(), quantizer)(6, **settings), name="a"))


def shared() -> Any:
    keras = runtime().keras
    image = keras.Input((4,), name="image")
    x, twice = q().QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image), dense("a", 4)
    return keras.Model(image, dense("logits", 3)(twice(twice(x))), name="own")


def nested() -> Any:
    keras = runtime().keras
    block = keras.Sequential([keras.Input((32,)), dense("inner", 4), layers().ReLU(name="r")], name="a")
    return behind_grid(layers().Flatten(name="flat"), block)


def beside_grid() -> Any:
    keras = runtime().keras
    image = keras.Input(SHAPE, name="image")
    rounded = q().QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = layers().Concatenate(name="both")([rounded, conv(size=1)(image)])
    x = layers().Flatten(name="flatten")(x)
    return keras.Model(image, q().QDense(3, name="logits", **weight_quantizers())(x), name="own")


def pooled(quantizer: str, size: int, kind: str = "MaxPooling2D") -> Any:
    rounds = q().QActivation(quantizer, name="rounds")
    return behind_grid(
        rounds, layers().Dropout(0.1, name="drop"), getattr(layers(), kind)(size, None, "same", name="a")
    )


def dense(name: str, units: int) -> Any:
    return q().QDense(units, name=name, **weight_quantizers())


def per_channel(kind: Callable[[list[float]], Any]) -> Build:
    quantizer = lambda: q().quantized_bits(4, 0, alpha=kind([0.5, 0.25]))  # noqa: E731
    return lambda: behind_grid(
        q().QConv2D(2, 2, name="a", kernel_quantizer=quantizer(), bias_quantizer=q().quantized_bits(4, 0, alpha=1))
    )


#: What breaks it: the setting, and words of the fix.
BREAKS: dict[str, tuple[Build, str, str]] = {
    "relu max_value": (one(lambda: layers().ReLU(max_value=1.0, name="a")), "ReLU.max_value", "plain ReLU()"),
    "relu slope": (one(lambda: layers().ReLU(negative_slope=0.25, name="a")), "ReLU.negative_slope", "plain ReLU()"),
    "relu threshold": (one(lambda: layers().ReLU(threshold=1.0, name="a")), "ReLU.threshold", "plain ReLU()"),
    "real tanh": (
        activation("quantized_tanh", use_real_tanh=True),
        "quantized_tanh.use_real_tanh",
        "use_real_tanh=False",
    ),
    "real sigmoid": (
        activation("quantized_sigmoid", use_real_sigmoid=True),
        "quantized_sigmoid.use_real_sigmoid",
        "use_real_sigmoid=False",
    ),
    "symmetric sigmoid": (
        activation("quantized_sigmoid", symmetric=True),
        "quantized_sigmoid.symmetric",
        "symmetric=False",
    ),
    "dense on an image": (one(lambda: dense("a", 3)), "input_rank", "QConv2D with kernel_size=1"),
    "dense on rows": (sequence(lambda: dense("a", 3)), "input_rank", "QConv1D with kernel_size=1"),
    "a model in the model": (nested, "layers", "build the model from its layers"),
    "a layer called twice": (shared, "calls", "one layer for every call"),
    "dilation": (one(lambda: conv(dilation_rate=2)), "dilation_rate", "dilation_rate=1"),
    "groups": (one(lambda: conv(groups=2)), "groups", "groups=1"),
    "depth_multiplier": (
        one(lambda: conv("QDepthwiseConv2D", depth_multiplier=2)),
        "depth_multiplier",
        "depth_multiplier=1",
    ),
    "padded pool of unsigned": (lambda: pooled("quantized_relu(4,1)", 3), "padding", "pools that divide the image"),
    "reshape to what is left": (one(lambda: layers().Reshape((-1, 4), name="a")), "target_shape", "write (8, 4)"),
    "QActivation of no quantizer": (one(lambda: q().QActivation("relu", name="a")), "class", "use Activation for relu"),
    "Activation of a quantizer": (
        one(lambda: layers().Activation(q().quantized_relu(4, 1), name="a")),
        "class",
        "use QActivation for quantized_relu",
    ),
    "the input read beside the grid": (beside_grid, "input", "add that layer"),
    "concatenate rows": (lambda: merged(lambda: layers().Concatenate(axis=1, name="a")), "Concatenate.axis", "axis=-1"),
    "concatenate by count": (
        lambda: merged(lambda: layers().Concatenate(axis=3, name="a")),
        "Concatenate.axis",
        "axis=-1",
    ),
    "three summands": (lambda: merged(lambda: layers().Add(name="a"), 3), "inputs", "two tensors after another"),
    "upsampling": (one(lambda: layers().UpSampling2D(2, name="a")), "class", "without it"),
    "causal with a stride": (
        sequence(lambda: conv("QConv1D", strides=2, padding="causal")),
        "padding",
        "ZeroPadding1D((kernel_size - 1, 0))",
    ),
    "a scaled bias": (
        one(lambda: conv(bias_quantizer=q().quantized_bits(4, 0, alpha=0.25))),
        "bias_quantizer.alpha",
        "set alpha=1",
    ),
    "padded pool of unsigned bits": (
        lambda: pooled("quantized_bits(4,1,keep_negative=False,alpha=1)", 3),
        "padding",
        "pools that divide the image",
    ),
    "layer normalization": (one(lambda: layers().LayerNormalization(name="a")), "class", "allowed: QActivation"),
    "embedding": (one(lambda: layers().Embedding(4, 3, name="a")), "class", "allowed: QActivation"),
    "noise": (one(lambda: layers().GaussianNoise(0.5, name="a")), "class", "or use Dropout"),
    "batch norm inside": (one(lambda: conv("QConv2DBatchnorm")), "class", "fold the batch normalization"),
    "adaptive": (
        one(lambda: q().QAdaptiveActivation("quantized_relu", 6, name="a")),
        "class",
        "QActivation(quantized_relu(bits, integer))",
    ),
    "a list of scales": (per_channel(list), "kernel_quantizer.alpha", "one number for the layer"),
    "an array of scales": (per_channel(np.array), "kernel_quantizer.alpha", "one number for the layer"),
}


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")
def test_a_break_names_layer_setting_and_fix(name: str) -> None:
    build, setting, fix = BREAKS[name]
    (found,) = contract(build())
    assert (found.layer, found.setting) == ("" if setting == "input" else "a", setting)
    assert fix in found.fix and found.silently and found.problem in str(found)


@pytest.mark.parametrize(
    "build",
    [
        one(lambda: layers().ReLU(name="a")),
        activation("quantized_tanh"),
        activation("quantized_tanh", symmetric=1),
        activation("quantized_sigmoid"),
        one(lambda: layers().Dropout(0.5, name="a")),
        one(lambda: layers().Permute((2, 1, 3), name="a")),
        one(lambda: layers().MaxPooling2D(2, name="a")),
        one(lambda: layers().ZeroPadding2D(1, name="a")),
        one(lambda: layers().Cropping2D(1, name="a")),
        sequence(lambda: layers().ZeroPadding1D(1, name="a")),
        sequence(lambda: layers().Cropping1D(1, name="a")),
        one(lambda: conv()),
        one(lambda: conv("QDepthwiseConv2D")),
        one(lambda: conv("QSeparableConv2D")),
        sequence(lambda: conv("QConv1D")),
        sequence(lambda: conv("QConv1D", padding="causal")),
        lambda: pooled("quantized_relu(4,1)", 2),
        lambda: pooled("quantized_bits(6,2,alpha=1)", 3),
        *(
            lambda kind=kind: merged(lambda: getattr(layers(), kind)(name="a"))
            for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
        ),
    ],
)
def test_what_is_exact_stays_accepted(build: Build) -> None:
    assert contract(build()) == ()


def test_layers_used_in_another_model_too_are_not_called_twice() -> None:
    keras, model = runtime().keras, qkeras_model(dense("hidden", 4))
    keras.Model(model.input, model.get_layer("hidden").output)
    keras.Sequential([keras.Input((4, 4, 1)), *model.layers[1:]])(np.zeros((1, 4, 4, 1), np.float32))
    assert len(model.get_layer("hidden").inbound_nodes) > 1
    assert contract(model) == ()
    again = keras.Sequential([keras.Input((4, 4, 1)), *model.layers[1:]])
    assert contract(again) == ()


@pytest.mark.parametrize("which", ["outputs", "shared", "nested"])
def test_no_repair_of_a_model_that_it_cannot_see_through(which: str) -> None:
    keras = runtime().keras
    told = {"outputs": "it has 2 outputs", "shared": "called 2 times", "nested": "a model in the model"}
    if which == "outputs":
        plain = qkeras_model(activation="softmax")
        model = keras.Model(plain.input, [plain.output, plain.get_layer("flatten").output], name="own")
    else:
        model = shared() if which == "shared" else nested()
    with pytest.raises(UserError, match=f"no repair for such a model: .*{told[which]}"):
        repair_model(model)
    with pytest.raises(UserError) as caught:
        check_contract(model)
    assert "add --repair" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (lambda: [layers().ReLU(max_value=6.0, name="a")], "ReLU with max_value=6.0"),
        (lambda: [layers().ReLU(negative_slope=0.25, name="a")], "ReLU with negative_slope=0.25"),
        (lambda: [layers().Dense(4, name="a")], "Dense on an input of 3 axes.*Conv2D with kernel_size=1"),
        (lambda: [layers().Conv2D(2, 2, dilation_rate=2, name="a")], "dilation_rate=.2, 2."),
        (lambda: [runtime().keras.Sequential([layers().ReLU()], name="a")], "a model in the model"),
        (lambda: [layer := layers().Conv2D(2, 1, name="a"), layer], "called 2 times"),
    ],
)
def test_a_float_model_is_told_the_same_before_any_training(body: Callable[[], list[Any]], told: str) -> None:
    keras = runtime().keras
    x = image = keras.Input(SHAPE, name="image")
    for layer in (layers().Activation("linear", name="input_grid"), *body(), layers().Flatten(), layers().Dense(3)):
        x = layer(x)
    with pytest.raises(UserError, match=f"layer 'a': .*{told}"):
        check_quantizable(keras.Model(image, x, name="own"))


def acts(*quantizers: str) -> list[Any]:
    return [q().QActivation(text, name=f"act{number}") for number, text in enumerate(quantizers)]


BITS, RELU = "quantized_bits(6,2,alpha=1)", "quantized_relu(6,2)"


@pytest.mark.parametrize(
    "body",
    [
        lambda: [conv(), *acts(RELU, BITS)],
        lambda: [conv(), *acts(BITS, BITS)],
        lambda: [conv(), *acts("quantized_tanh(7)", BITS)],
        lambda: [conv(), *acts(RELU), layers().Flatten(name="flat"), q().QActivation(BITS, name="last")],
        lambda: [conv(activation=q().quantized_relu(6, 2)), *acts(BITS)],
    ],
)
def test_of_two_roundings_in_a_row_one_would_be_lost(body: Callable[[], list[Any]]) -> None:
    (found,) = contract(behind_grid(*body()))
    assert "of two roundings hls4ml keeps one" in found.problem


@pytest.mark.parametrize(
    "body",
    [
        lambda: acts(BITS),  # the input's grid, which is finer
        lambda: [conv(), *acts(BITS, RELU)],
        lambda: [conv(), *acts(RELU), layers().MaxPooling2D(2, name="pool"), q().QActivation(BITS, name="last")],
    ],
)
def test_roundings_that_stay_two(body: Callable[[], list[Any]]) -> None:
    assert contract(behind_grid(*body())) == ()


@pytest.mark.parametrize(
    ("backend", "build"),
    [
        ("Quartus", one(lambda: layers().AveragePooling2D(2, name="pool"))),
        ("Quartus", one(lambda: conv("QDepthwiseConv2D"))),
        ("Quartus", one(lambda: conv("QSeparableConv2D"))),
        ("Catapult", lambda: merged(lambda: layers().Average(name="merge"))),
    ],
)
def test_what_is_exact_on_vitis_only(backend: str, build: Build) -> None:
    assert contract(build()) == ()
    (found,) = contract(build(), backend)
    assert found.setting == "backend" and backend in found.problem
