"""Settings that hls4ml 1.3.0 leaves out or cannot do; the same for a float layer and its QKeras twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qmodels.layers import MOVING, calls_of

#: What a merge of two tensors may be.
MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
#: Settings that leave no layer-by-layer view of the model: a layer called more than once, a model in the model.
CALLS, NESTED = "calls", "layers"
_PICKING = (*MOVING, "Permute", "MaxPooling1D", "MaxPooling2D")  # their outputs are some of their inputs
_RELU = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}


@dataclass(frozen=True)
class Limit:
    """A setting of one layer that the accelerator would not have."""

    layer: str
    setting: str
    problem: str
    fix: str
    silently: str  # what hls4ml does with it when nobody checks


def limits(model: Any) -> Iterator[Limit]:
    """What of a model's layers hls4ml leaves out or cannot do, whatever they are quantized to."""
    calls = calls_of(model)
    for layer in model.layers:
        for check in _CHECKS:
            yield from check(layer, calls[layer.name])


def _shared(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    if len(calls) > 1:
        problem = f"it is called {len(calls)} times, and an accelerator has every layer once"
        fix = "make one layer for every call"
        yield Limit(layer.name, CALLS, problem, fix, "only the first call is there: most outputs differ")


def _nested(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    if hasattr(layer, "layers"):
        problem = f"{type(layer).__name__} is a model in the model, and its layers are not checked"
        fix = "build the model from its layers, one by one"
        yield Limit(
            layer.name, NESTED, problem, fix, "its quantizers are lost: outputs differ, or the conversion stops"
        )


def _relu(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    if type(layer).__name__ != "ReLU":
        return
    for setting, plain in _RELU.items():
        value = getattr(layer, setting)
        value = float(value) if value is not None else None
        if value != plain:
            problem = f"ReLU with {setting}={value!r} is not reproduced by hls4ml"
            yield Limit(layer.name, f"ReLU.{setting}", problem, "use a plain ReLU()", f"{setting} is left out")


def _dense(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    if type(layer).__name__.removeprefix("Q") != "Dense":
        return
    rank = max((len(tensor.shape) - 1 for call in calls for tensor in call.keras_inputs), default=1)
    if rank > 1:
        kind = type(layer).__name__
        problem = f"{kind} on an input of {rank} axes becomes a convolution without its quantizers"
        fix = f"put Flatten before it, or use {kind.replace('Dense', f'Conv{min(rank, 3) - 1}D')} with kernel_size=1"
        yield Limit(layer.name, "input_rank", problem, fix, "its weights are no longer rounded: most outputs differ")


def _convolution(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    kind = type(layer).__name__
    if "Conv" not in kind:
        return
    if any(rate != 1 for rate in getattr(layer, "dilation_rate", ())):
        problem = f"{kind} with dilation_rate={tuple(layer.dilation_rate)} is not known to hls4ml"
        yield Limit(layer.name, "dilation_rate", problem, "use dilation_rate=1", "the conversion stops")
    if getattr(layer, "depth_multiplier", 1) != 1:
        problem = f"{kind} with depth_multiplier={layer.depth_multiplier} is not known to hls4ml"
        yield Limit(layer.name, "depth_multiplier", problem, "use depth_multiplier=1", "the conversion stops")
    if getattr(layer, "groups", 1) != 1:
        problem = f"{kind} with groups={layer.groups} is not known to hls4ml"
        fix = "use groups=1, or a depthwise convolution"
        yield Limit(layer.name, "groups", problem, fix, "the conversion stops")


def _pooling(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    """hls4ml pads with the type's top bit: the smallest signed number, but half of the range of an unsigned one."""
    kind = type(layer).__name__
    if kind in ("MaxPooling1D", "MaxPooling2D") and any(_pads(layer, call) and _unsigned(call) for call in calls):
        problem = f"{kind} with padding='same' behind a ReLU or sigmoid pads with a number above zero"
        fix = "use padding='valid', or pools that divide the image"
        yield Limit(layer.name, "padding", problem, fix, "the border is at least half of the range: outputs differ")


def _pads(layer: Any, call: Any) -> bool:
    pixels = call.keras_inputs[0].shape[1:-1]
    sizes = zip(pixels, layer.pool_size, layer.strides, strict=True)
    return layer.padding == "same" and any((-(-n // step) - 1) * step + size > n for n, size, step in sizes)


def _unsigned(call: Any) -> bool:
    """Whether a layer's input comes from a ReLU or a sigmoid, maybe by layers that only move it."""
    source, index, _ = call.keras_inputs[0]._keras_history
    kind = type(source).__name__
    if kind in _PICKING:
        return _unsigned(source.inbound_nodes[index])
    activation = getattr(source, "quantizer", None) or getattr(source, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    unsigned_bits = name == "quantized_bits" and not getattr(activation, "keep_negative", True)
    return kind == "ReLU" or unsigned_bits or name in ("relu", "quantized_relu", "quantized_sigmoid")


def _reshape(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    if type(layer).__name__ == "Reshape" and -1 in layer.target_shape:
        problem = f"Reshape to {tuple(layer.target_shape)}: hls4ml does not work out the -1"
        shape = tuple(calls[0].outputs.shape[1:]) if calls else "the sizes"
        yield Limit(layer.name, "target_shape", problem, f"write {shape}", "the conversion stops")


def _merge(layer: Any, calls: list[Any]) -> Iterator[Limit]:
    kind = type(layer).__name__
    if kind not in MERGES:
        return
    inputs = max((len(call.keras_inputs) for call in calls), default=2)
    if inputs > 2:
        problem = f"{kind} of {inputs} tensors is not known to hls4ml"
        yield Limit(
            layer.name, "inputs", problem, f"use one {kind} of two tensors after another", "the conversion stops"
        )
    if kind == "Concatenate" and layer.axis != -1:
        problem = f"Concatenate along axis={layer.axis} is not reproduced by hls4ml"
        fix = "use axis=-1, the channels"
        yield Limit(layer.name, "Concatenate.axis", problem, fix, "the conversion stops")


_CHECKS: tuple[Callable[[Any, list[Any]], Iterator[Limit]], ...] = (
    _shared,
    _nested,
    _relu,
    _dense,
    _convolution,
    _pooling,
    _reshape,
    _merge,
)
