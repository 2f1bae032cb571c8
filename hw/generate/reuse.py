"""Reuse factors: which ones hls4ml's resource strategy can build, what each layer gets, and the nearest to a wish.

hls4ml takes the nearest valid factor without asking. Here a factor that cannot be built is an error.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, isqrt, prod
from typing import Any, Literal

from hw.generate.contract import Violation
from hw.generate.hardware import AMD_BACKENDS, MAX_UNROLLED_WEIGHTS, HardwareConfig, LayerHardware
from qmodels.errors import UserError, allowed_names
from qmodels.layers import WEIGHTED, is_depthwise, kernel_of

Strategy = Literal["Latency", "Resource"]
#: hls4ml makes two layers of these, named `<layer>_depthwise` and `<layer>_pointwise`, with the settings of the one.
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
_HALVES = ("depthwise", "pointwise")
_NEEDS_WEIGHTS = ("strategy", "reuse_factor", "weight_storage")


def plan_layers(model: Any, config: HardwareConfig) -> dict[str, tuple[Strategy, int]]:
    """Strategy and reuse factor of every layer with weights, by name.

    Raises:
        UserError: the config names a layer that the model lacks, sets what has no effect on a layer, or has factors
            that cannot be built (all are told).
    """
    _check_names(model, config)
    plan: dict[str, tuple[Strategy, int]] = {}
    problems = []
    for layer in _planned_layers(model):
        own = config.layers.get(layer.name, LayerHardware())
        wanted = config.reuse_factor if own.reuse_factor is None else own.reuse_factor
        strategy, multiplexed = _strategy(layer, config)
        if not multiplexed:
            plan[layer.name] = strategy, 1 if wanted == "auto" else wanted
            continue
        valid = _valid_for_all(layer)
        factor = _smallest(layer, valid) if wanted == "auto" else wanted
        if factor not in valid:
            key = "hardware.reuse_factor" if own.reuse_factor is None else f"hardware.layers.{layer.name}.reuse_factor"
            problems.append(_problem(key, layer.name, factor, valid))
        plan[layer.name] = strategy, factor
    if problems:
        raise UserError("\n".join(problems))
    return plan


def _planned_layers(model: Any) -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__.removeprefix("Q") in (*WEIGHTED, *SEPARABLE)]


def _kernels(layer: Any) -> list[Any]:
    """The kernels that hls4ml multiplies with: two of a separable convolution."""
    separable = type(layer).__name__.removeprefix("Q") in SEPARABLE
    return [layer.depthwise_kernel, layer.pointwise_kernel] if separable else [kernel_of(layer)]


def _most_weights(layer: Any) -> int:
    return max(int(kernel.shape.num_elements()) for kernel in _kernels(layer))


def _valid_for_all(layer: Any) -> list[int]:
    first, *others = (valid_reuse_factors(*sizes) for sizes in kernel_sizes(layer))
    return [factor for factor in first if all(factor in other for other in others)]


def _smallest(layer: Any, valid: list[int]) -> int:
    """The smallest valid factor that leaves no more multipliers than can be unrolled."""
    least = -(-_most_weights(layer) // MAX_UNROLLED_WEIGHTS)
    return next((factor for factor in valid if factor >= least), valid[-1])


def _problem(key: str, layer: str, wanted: int, valid: list[int]) -> str:
    where = f" in layer {layer!r}" if key == "hardware.reuse_factor" else ""
    return (
        f"{key}: {wanted} cannot be built{where}, hls4ml would take another one; nearest: {nearest(valid, wanted)} "
        f"(allowed: auto, {', '.join(map(str, valid))})"
    )


def _check_names(model: Any, config: HardwareConfig) -> None:
    weighted = [layer.name for layer in _planned_layers(model)]
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    problems = []
    for name, own in config.layers.items():
        if name not in kinds:
            raise UserError(f"hardware.layers: the model has no layer {name!r}" + allowed_names(name, weighted))
        useless = [key for key in _NEEDS_WEIGHTS if getattr(own, key) is not None and name not in weighted]
        problems += [
            f"hardware.layers.{name}.{key}: has no effect, {kinds[name]} has no weights; leave it out "
            f"(allowed for: {', '.join(weighted)})"
            for key in useless
        ]
    if problems:
        raise UserError("\n".join(problems))


def _strategy(layer: Any, config: HardwareConfig) -> tuple[Strategy, bool]:
    """The strategy, and whether hls4ml then builds only certain reuse factors: Quartus has one strategy for all."""
    own = config.layers.get(layer.name, LayerHardware()).strategy
    wanted = own or config.strategy
    if is_depthwise(layer) and _no_depthwise_resource(config):
        if wanted == "resource":
            key = f"hardware.layers.{layer.name}.strategy" if own else "hardware.strategy"
            raise UserError(
                f"{key}: resource cannot be built for depthwise layer {layer.name!r} with {config.backend} and "
                f"{config.io_type}; set hardware.layers.{layer.name}.strategy: latency, or the other io_type"
            )
        return "Latency", False
    weights = _most_weights(layer)
    resource = wanted == "resource" or (wanted == "auto" and weights > MAX_UNROLLED_WEIGHTS)
    return "Resource" if resource else "Latency", resource or config.backend == "Quartus"


def _no_depthwise_resource(config: HardwareConfig) -> bool:
    """Whether hls4ml 1.3.0 lacks the product (nnet_sepconv2d.h, nnet_sepconv_stream.h): its C simulation aborts."""
    missing = {"Catapult": "io_stream", **dict.fromkeys(AMD_BACKENDS, "io_parallel")}
    return missing.get(config.backend) == config.io_type


def unroll_warnings(model: Any, plan: dict[str, tuple[Strategy, int]]) -> list[Violation]:
    """Layers that the config leaves more multipliers than Vitis unrolls and partitions."""
    found = []
    for layer in _planned_layers(model):
        weights, reuse = _most_weights(layer), plan[layer.name][1]
        if -(-weights // reuse) > MAX_UNROLLED_WEIGHTS:
            problem = f"{weights} weights at reuse factor {reuse} are more than {MAX_UNROLLED_WEIGHTS} multipliers"
            fix = "leave strategy and reuse_factor at auto, or take a larger factor"
            silently = "Vitis stops, or works for many hours"
            found.append(Violation(layer.name, "reuse_factor", problem, fix, silently, severity="reported"))
    return found


def check_reuse(graph: Any, plan: dict[str, tuple[Strategy, int]]) -> None:
    """Hold hls4ml's graph against the plan: it may know a rule that we do not.

    Raises:
        UserError: a layer has another reuse factor than planned.
    """
    for name, (_, wanted) in plan.items():
        built = [name] if name in graph.graph else [f"{name}_{half}" for half in _HALVES]
        for layer in (graph.graph[part] for part in built if part in graph.graph):
            got = int(layer.get_attr("reuse_factor"))
            if got != wanted:
                key = f"hardware.layers.{name}.reuse_factor"
                raise UserError(f"{key}: {wanted} cannot be built; nearest that hls4ml builds: {got}")


def valid_reuse_factors(n_in: int, n_out: int) -> list[int]:
    """Reuse factors of a layer with `n_in` inputs and `n_out` outputs per position, ascending.

    hls4ml 1.3.0, `FPGABackend._validate_reuse_factor`; it goes over all numbers, we over the divisors.
    """
    total = n_in * n_out
    small = [factor for factor in range(1, isqrt(total) + 1) if total % factor == 0]
    divisors = sorted({*small, *(total // factor for factor in small)})
    return [factor for factor in divisors if _is_valid(n_in, n_out, factor)]


def _is_valid(n_in: int, n_out: int, factor: int) -> bool:
    multipliers = ceil(n_in * n_out / min(n_in, factor))
    return (multipliers % n_out == 0 or factor >= n_in) and (factor % n_in == 0 or factor < n_in)


def nearest(valid: list[int], wanted: int) -> int:
    """The valid factor closest to `wanted`; the smaller of two."""
    place = bisect_left(valid, wanted)
    around = valid[max(place - 1, 0) : place + 1]
    return min(around, key=lambda factor: (abs(factor - wanted), factor))


def kernel_sizes(layer: Any) -> list[tuple[int, int]]:
    """Inputs and outputs per position of every kernel, as hls4ml counts them: a depthwise one as if every output had
    all inputs."""
    found = []
    for kernel in _kernels(layer):
        *inputs, outputs = (int(size) for size in kernel.shape)
        depthwise = kernel is getattr(layer, "depthwise_kernel", None)
        found.append((prod(inputs), outputs * inputs[-1] if depthwise else outputs))
    return found
