"""Mends of a model's structure. Each edits the draft, keeps what the model computes, and says what it did."""

from __future__ import annotations

from hw.generate.contract.activations import head_of
from hw.generate.contract.draft import Draft, quantizer_text
from hw.generate.contract.names import free_name
from qmodels.architectures import INPUT_GRID
from qmodels.formats import FixedPoint
from qmodels.quantize.model import input_bits


def rename(draft: Draft, layer: str) -> str:
    """A name that C++ and hls4ml take."""
    inside = draft.entry(layer)["class_name"] != "InputLayer"
    new = free_name(layer, [name for name in draft.names if name != layer], inside=inside)
    draft.rename(layer, new)
    return f"layer {layer!r}: renamed to {new!r}"


def strip_head(draft: Draft, layer: str) -> str:
    """A softmax or sigmoid at the end: the model ends in logits."""
    head = head_of(draft.layers[layer])
    if draft.entry(layer)["class_name"] in ("Softmax", "Activation", "QActivation"):
        draft.remove(layer)
        return f"layer {layer!r}: {head} removed, the model ends in logits"
    draft.config(layer)["activation"] = "linear"
    return f"layer {layer!r}: {head} stripped, the model ends in logits"


def split_merge(draft: Draft, layer: str) -> str:
    """hls4ml merges two tensors: a chain of such merges, from the first to the last."""
    entry = draft.entry(layer)
    sources, config = draft.sources(layer), {key: value for key, value in entry["config"].items() if key != "name"}
    for step in range(2, len(sources)):
        pair = draft.sources(layer)[:2]
        draft.insert_before(layer, f"{layer}_{step}", entry["class_name"], pair, **config)
    return f"layer {layer!r}: {entry['class_name']} of {len(sources)} tensors split into a chain of two at a time"


def last_axis(draft: Draft, layer: str) -> str:
    """The last axis by its own name, -1."""
    draft.config(layer)["axis"] = -1
    return f"layer {layer!r}: axis written as -1, the same axis"


def write_shape(draft: Draft, layer: str) -> str:
    """A Reshape's -1 as the number it stands for."""
    shape = list(draft.layers[layer].output_shape[1:])
    draft.config(layer)["target_shape"] = shape
    return f"layer {layer!r}: target_shape written as {tuple(shape)}, the same shape"


def write_pointwise(draft: Draft, layer: str) -> str:
    """A dense layer on rows or pictures as the convolution of kernel size one that it is."""
    axes = len(draft.layers[layer].input_shape) - 2
    kind, entry = f"QConv{axes}D", draft.entry(layer)
    draft.become(layer, kind)
    config = entry["config"]
    config |= {"filters": config.pop("units"), "kernel_size": [1] * axes}
    kernel, *bias = draft.weights[layer]
    draft.weights[layer] = [kernel.reshape(*[1] * axes, *kernel.shape), *bias]
    return f"layer {layer!r}: QDense on an input of {axes + 1} axes written as {kind} with kernel_size=1, the same sums"


def plain_pool(draft: Draft, layer: str) -> str:
    """QKeras' average pooling whose factor is exact, as Keras' and the rounding behind it."""
    own, entry = draft.layers[layer], draft.entry(layer)
    kind = type(own).__name__.removeprefix("Q")
    draft.become(layer, kind)
    for setting in ("average_quantizer", "activation"):
        entry["config"].pop(setting, None)
    done = f"layer {layer!r}: Q{kind} is now {kind}"
    if own.activation is None:
        return done
    text = quantizer_text(own.activation, layer)
    name = draft.insert_behind(layer, f"{layer}_activation", "QActivation", activation=text)
    return f"{done}, and its activation layer {name!r}, QActivation({text})"


def pad_causal(draft: Draft, layer: str) -> str:
    """Causal padding as a ZeroPadding1D of its own, which hls4ml places right whatever the stride."""
    config = draft.config(layer)
    (size,), (source,) = config["kernel_size"], draft.sources(layer)
    name = draft.insert_before(layer, f"{layer}_padding", "ZeroPadding1D", [source], padding=[size - 1, 0])
    config["padding"] = "valid"
    return f"layer {layer!r}: causal padding written as layer {name!r}, ZeroPadding1D(({size - 1}, 0))"


def insert_grid(draft: Draft, layer: str, fmt: FixedPoint) -> str:
    """A quantizer that rounds a model's input to the data's format: the identity on such data."""
    text = grid_quantizer(fmt)
    name = draft.insert_behind(layer, INPUT_GRID, "QActivation", activation=text)
    return f"layer {name!r}: inserted, QActivation({text}) rounds the input {layer!r}"


def grid_quantizer(fmt: FixedPoint) -> str:
    """`quantized_bits` whose grid has the format's step and holds all its numbers.

    Raises:
        UserError: float32 does not hold such numbers.
    """
    return "quantized_bits({},{},alpha=1)".format(*input_bits(fmt))
