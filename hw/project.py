"""A QKeras model becomes an HLS project: a value (files and their digest), written where the user wants it."""

from __future__ import annotations

import contextlib
import copy
import difflib
import hashlib
import io
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from hw.contract import RESERVED, Violation, accumulator_warnings, check_contract
from hw.cost import Cost, estimate_cost
from hw.reuse import kernel_sizes, nearest, valid_reuse_factors
from hw.testbench import with_checks
from qmodels.errors import UserError
from qmodels.quantize.layers import kernel_of, weighted_layers
from qmodels.runtime import runtime

#: Vitis unrolls and partitions at most this many weights of a layer; above, time-multiplex it.
MAX_UNROLLED_WEIGHTS = 4096


Backend = Literal["Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult"]
Board = Literal["pynq-z2", "zcu102", "alveo-u50", "alveo-u250", "alveo-u200", "alveo-u280"]


class LayerHardware(BaseModel):
    """What one layer has of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Literal["latency", "resource"] | None = None
    reuse_factor: int | None = Field(None, ge=1, le=1_000_000)


class HardwareConfig(BaseModel):
    """What the accelerator is generated for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = Field("Vitis", description="bitsim knows Vitis, Vivado and VivadoAccelerator; csim all")
    board: Board = Field("pynq-z2", description="VivadoAccelerator only: the board, which also decides the part")
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    part: str = Field("xcu250-figd2104-2L-e", pattern=r"^[A-Za-z0-9_-]+$", description="FPGA part")
    clock_period_ns: float = Field(5.0, ge=0.5, le=1000.0)
    project_name: str = Field("accelerator", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")
    reuse_factor: int = Field(1, ge=1, le=1_000_000, description="multiplications per multiplier")
    strategy: Literal["auto", "latency", "resource"] = Field(
        "auto",
        description=f"auto: resource for layers of more than {MAX_UNROLLED_WEIGHTS} weights, latency for the rest",
    )

    layers: dict[str, LayerHardware] = Field({}, description="strategy and reuse factor of single layers, by name")

    @field_validator("project_name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{name!r} is a word of C++ or hls4ml; choose another name for the top function")
        return name


@dataclass(frozen=True)
class HlsProject:
    """The files of an HLS project by relative path. Same model and config: same bytes, same digest."""

    name: str
    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths and contents."""
        total = hashlib.sha256()
        for path in sorted(self.files):
            content = self.files[path]
            total.update(f"{path}\0{len(content)}\0".encode() + content)
        return total.hexdigest()

    def write(self, folder: Path) -> None:
        """Write all files below `folder`; a path that would lead out of it is refused."""
        for relative, content in self.files.items():
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                raise ValueError(f"{relative}: not a path inside the project")
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if target.suffix == ".sh":
                target.chmod(0o755)


def convert(model: Any, config: HardwareConfig, output_dir: Path, *, trace: bool = False) -> Any:
    """hls4ml's ModelGraph of a QKeras model, after all its passes, with bit-exact precision inference.

    Args:
        model: a QKeras model that fulfils the contract.
        config: backend, part, clock, io type.
        output_dir: where `graph.write()` would put the project.
        trace: let the C simulation record every layer's output.

    Raises:
        UserError: the model breaks the exactness contract, or hls4ml cannot convert it.
    """
    check_contract(model, config.backend)
    check_layers(model, config)
    try:
        return _convert(model, config, output_dir, trace)
    except OSError:  # a full disk is no fault of the model
        raise
    except Exception as error:  # hls4ml raises bare Exception for layers it does not know
        raise UserError(
            f"model {model.name}: hls4ml cannot convert it ({type(error).__name__}: {str(error)[:300]}); see "
            f"https://fastmachinelearning.org/hls4ml for the layers it supports"
        ) from error


def _convert(model: Any, config: HardwareConfig, output_dir: Path, trace: bool) -> Any:
    with legacy_keras(), _quiet():
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        # granularity "name" and bit_exact=True together: one without the other differs silently.
        hls_config = config_from_keras_model(model, granularity="name", backend=config.backend)
        _apply_strategy(model, hls_config, config)
        if trace:
            for layer in hls_config["LayerName"].values():
                layer["Trace"] = True
        target = {"board": config.board} if config.backend == "VivadoAccelerator" else {"part": config.part}
        graph = convert_from_keras_model(
            model,
            hls_config=hls_config,
            backend=config.backend,
            io_type=config.io_type,
            clock_period=config.clock_period_ns,
            project_name=config.project_name,
            output_dir=str(output_dir),
            bit_exact=True,
            **target,
        )
    _tighten_weights(graph)
    return graph


def _tighten_weights(graph: Any) -> None:
    """Give every weight the fewest integer bits that hold its values.

    hls4ml 1.3.0 (`utils/qinterval.py`, minimal_kif) counts a zero as needing zero integer bits, so a kernel below one
    half that holds a zero, as most do, gets a wider type than its values: 3-bit codes of step 1/64 become 6 bits.
    """
    for layer in graph.get_layers():
        for weight in layer.get_weights():
            old = weight.type.precision
            if not hasattr(old, "integer") or not np.any(weight.data):
                continue
            fraction = old.width - old.integer
            raw = np.rint(np.asarray(weight.data, np.float64) * 2.0**fraction)
            largest = int(max(raw.max(), -raw.min() - 1, 0))
            width = max(largest.bit_length() + bool(old.signed), 1 + bool(old.signed))
            if width < old.width:
                new = copy.copy(old)  # other weights may share the old one
                new.width, new.integer = width, width - fraction
                weight.update_precision(new)


def check_layers(model: Any, config: HardwareConfig) -> None:
    """Raise UserError for a layer that the model lacks, or a reuse factor that hls4ml would silently change."""
    weighted = {layer.name: layer for layer in weighted_layers(model)}
    names = {layer.name for layer in model.layers}
    for name, own in config.layers.items():
        if name not in names:
            near = difflib.get_close_matches(name, list(weighted), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"hardware.layers: the model has no layer {name!r}{hint} (allowed: {', '.join(weighted)})")
        if name in weighted and own.reuse_factor is not None and _is_resource(weighted[name], config):
            _check_reuse(weighted[name], own.reuse_factor)


def _check_reuse(layer: Any, wanted: int) -> None:
    if type(layer).__name__.startswith("QDepthwise"):  # hls4ml has no rule for these
        return
    valid = valid_reuse_factors(*kernel_sizes(layer))
    if wanted not in valid:
        raise UserError(
            f"hardware.layers.{layer.name}.reuse_factor: {wanted} cannot be built, hls4ml would take another one; "
            f"nearest: {nearest(valid, wanted)} (allowed: {', '.join(map(str, valid))})"
        )


def _is_resource(layer: Any, config: HardwareConfig) -> bool:
    strategy = config.layers.get(layer.name, LayerHardware()).strategy or config.strategy
    weights = int(kernel_of(layer).shape.num_elements())
    return strategy == "resource" or (strategy == "auto" and weights > MAX_UNROLLED_WEIGHTS)


def _apply_strategy(model: Any, hls_config: dict[str, Any], config: HardwareConfig) -> None:
    hls_config["Model"]["ReuseFactor"] = config.reuse_factor
    for layer in weighted_layers(model):
        entry = hls_config["LayerName"][layer.name]
        weights = int(kernel_of(layer).shape.num_elements())
        resource = _is_resource(layer, config)
        entry["Strategy"] = "Resource" if resource else "Latency"
        least = -(-weights // MAX_UNROLLED_WEIGHTS) if resource else 1
        own = config.layers.get(layer.name, LayerHardware()).reuse_factor
        entry["ReuseFactor"] = own or max(config.reuse_factor, least)  # hls4ml takes the nearest valid one


@dataclass(frozen=True)
class Design:
    """An HLS project with what is known about it before any synthesis."""

    project: HlsProject
    cost: Cost
    warnings: tuple[Violation, ...]


def generate(model: Any, config: HardwareConfig) -> HlsProject:
    """The HLS project of a QKeras model, as a value.

    Raises:
        UserError: the model breaks the exactness contract.
    """
    return generate_design(model, config).project


def generate_design(model: Any, config: HardwareConfig) -> Design:
    """The HLS project, what it will cost, and what TensorFlow may not reproduce of it.

    Raises:
        UserError: the model breaks the exactness contract.
    """
    with tempfile.TemporaryDirectory(prefix="robust-hls-") as temporary:
        folder = Path(temporary) / "project"
        graph = convert(model, config, folder)
        with _quiet():
            graph.write()
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        stamp = str(graph.config.get_config_value("Stamp"))
    files = {path: content.replace(str(folder).encode(), b".") for path, content in files.items()}  # Catapult's bridge
    files = _with_checks(_mended(_normalised(files, graph, stamp), graph), config, model)
    return Design(HlsProject(config.project_name, files), estimate_cost(graph), tuple(accumulator_warnings(graph)))


def _mended(files: dict[str, bytes], graph: Any) -> dict[str, bytes]:
    """What hls4ml 1.3.0 writes wrong.

    VivadoAccelerator: the AXI wrapper of a stream takes its input for a type called `input_t`. Catapult: the test bench
    is started without its files.
    """
    (source,) = (variable.type.name for variable in graph.get_input_variables())
    mended = dict(files)
    for path, content in files.items():
        if path.endswith("_axi.cpp"):
            mended[path] = re.sub(rb"\binput_t::size\b", f"{source}::size".encode(), content)
    if "build_prj.tcl" in files:
        bench = b"$sfd/tb_data/tb_input_features.dat $sfd/tb_data/tb_output_predictions.dat"
        old = b'set /SCVerify/INVOKE_ARGS "$sfd/firmware/weights"'
        mended["build_prj.tcl"] = files["build_prj.tcl"].replace(old, old[:-1] + b" " + bench + b'"')
    return mended


def _with_checks(files: dict[str, bytes], config: HardwareConfig, model: Any) -> dict[str, bytes]:
    """The test bench compares and fails; `tb_data` is written apart, because the attacks come later."""
    bench = f"{config.project_name}_test.cpp"
    inputs, outputs = prod(model.input_shape[1:]), prod(model.output_shape[1:])
    return files | {bench: with_checks(files[bench].decode(), config.backend, inputs, outputs).encode()}


def _normalised(files: dict[str, bytes], graph: Any, stamp: str) -> dict[str, bytes]:
    """Remove what differs from run to run: the random stamp, the folder, and the pickled Keras model.

    hls4ml's own hls4ml_config.yml embeds the model behind a YAML tag that runs code when loaded; ours is plain.
    """
    files = {path: content.replace(stamp.encode(), b"csim") for path, content in files.items()}
    plain = {key: value for key, value in graph.config.config.items() if key not in ("KerasModel", "Stamp")}
    plain["OutputDir"] = "."
    files["hls4ml_config.yml"] = yaml.safe_dump(_plain(plain), sort_keys=True).encode()
    return files


def _plain(value: Any) -> Any:
    """Only what YAML knows: mappings, lists, numbers, strings, None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """hls4ml tells its progress on stdout, and leaves files open (VivadoAccelerator's list of boards)."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", "Overriding attribute")  # a 1x1 convolution becomes a pointwise one
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
