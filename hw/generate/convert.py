"""A QKeras model becomes hls4ml's graph, after all of hls4ml's passes and ours."""

from __future__ import annotations

import contextlib
import copy
import io
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hw.generate.contract import (
    ConversionSettings,
    Exactness,
    Violation,
    accumulator_warnings,
    check_contract,
    contract,
    conversion_settings,
    set_activation_types,
    set_input_types,
    teach_bit_exact,
)
from hw.generate.hardware import HardwareConfig
from hw.generate.precision import override_precisions, tighten_weights
from hw.generate.reuse import check_reuse, plan_layers, unroll_warnings
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.layers import is_quantized
from qmodels.runtime import runtime


class Converted(NamedTuple):
    """hls4ml's ModelGraph, and what TensorFlow may not reproduce of it."""

    graph: Any
    warnings: tuple[Violation, ...]


def convert(
    model: Any, config: HardwareConfig, *, exactness: Exactness = "required", input_formats: Sequence[FixedPoint] = ()
) -> Converted:
    """Convert a Keras or QKeras model, with bit-exact precision inference where hls4ml can. Nothing is written.

    Args:
        model: one that fulfils the contract; with "reported", one whose accelerator is well defined.
        config: backend, part, clock, io type, ...
        exactness: "required": the accelerator gives the model's bits. "reported": it may differ from the model.
        input_formats: of every input, or one for all, for a model whose first layer does not round them.

    Raises:
        UserError: the model breaks the exactness contract, or hls4ml cannot convert it.
    """
    check_contract(model, config.backend, exactness=exactness)
    found = contract(model, config.backend)
    if config.project_name in model.input_names:
        raise UserError(
            f"hardware.project_name: {config.project_name!r} is also the model's input, and both become C++ names; "
            "choose another project name"
        )
    plan = plan_layers(model, config)
    try:
        graph = _convert(model, config, plan, conversion_settings(found), input_formats)
    except OSError:  # a full disk is no fault of the model
        raise
    except Exception as error:  # hls4ml raises bare Exception for layers it does not know
        raise UserError(
            f"model {model.name}: hls4ml cannot convert it ({type(error).__name__}: {str(error)[:300]}); see "
            f"https://fastmachinelearning.org/hls4ml for the layers it supports"
        ) from error
    check_reuse(graph, plan)
    if not _has_own_types(model, config):
        tighten_weights(graph)
    inferred = accumulator_warnings(graph)  # of the sums' own sizes, not of those the config gives them
    told = (*found, *override_precisions(graph, config), *inferred, *unroll_warnings(model, plan))
    return Converted(graph, told)


def _convert(
    model: Any,
    config: HardwareConfig,
    plan: Mapping[str, tuple[str, int]],
    settings: ConversionSettings,
    input_formats: Sequence[FixedPoint],
) -> Any:
    with legacy_keras(), quiet():
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        # granularity "name" and bit_exact=True together: one without the other differs silently.
        teach_bit_exact()
        hls_config = config_from_keras_model(model, granularity=settings.granularity, backend=config.backend)
        set_activation_types(hls_config, model)
        own = _has_own_types(model, config)
        if input_formats and not settings.bit_exact:
            set_input_types(hls_config, model, input_formats)
        if own:
            overlay(hls_config, config.hls4ml_types)
        hls_config["Model"]["ReuseFactor"] = 1 if config.reuse_factor == "auto" else config.reuse_factor
        for name, (strategy, reuse) in plan.items():
            hls_config["LayerName"][name] |= {"Strategy": strategy, "ReuseFactor": reuse}
        exact = settings.bit_exact and not own
        return convert_from_keras_model(model, hls_config=hls_config, bit_exact=exact, **project_arguments(config))


def project_arguments(config: HardwareConfig) -> dict[str, Any]:
    """What hls4ml's converters take of a hardware config, whatever they convert."""
    return {
        "backend": config.backend,
        "io_type": config.io_type,
        "clock_period": config.clock_period_ns,
        "project_name": config.project_name,
        "output_dir": ".",  # hw/generate/writing.py sets the real one
        **({"board": config.board} if config.backend == "VivadoAccelerator" else {"part": config.part}),
    }


def _has_own_types(model: Any, config: HardwareConfig) -> bool:
    """Whether the types are its user's: those of a quantized model follow from its quantizers."""
    return bool(config.hls4ml_types) and not is_quantized(model)


def overlay(entry: dict[str, Any], chosen: Mapping[str, Any]) -> None:
    """Put chosen settings over hls4ml's, section by section. A type for a whole layer stays one."""
    for key, value in chosen.items():
        if isinstance(value, Mapping) and isinstance(entry.get(key), dict):
            overlay(entry[key], value)
        else:
            entry[key] = copy.deepcopy(value)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """hls4ml tells its progress on stdout, and leaves files open (VivadoAccelerator's list of boards)."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # Files left open, attributes overridden (a 1x1 convolution becomes a pointwise one), and that a softmax or a
        # float scale is not exact, which the contract says in its own words.
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def legacy_keras() -> Iterator[None]:
    """hls4ml picks its front end by `import keras`, which would find Keras 3: show it tf_keras instead."""
    missing = object()
    saved = sys.modules.get("keras", missing)
    sys.modules["keras"] = runtime().keras
    try:
        yield
    finally:
        if saved is missing:
            del sys.modules["keras"]
        else:
            sys.modules["keras"] = saved  # type: ignore[assignment]
