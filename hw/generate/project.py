"""A QKeras model becomes an HLS project: a value (files and their digest), written where the user wants it."""

from __future__ import annotations

import contextlib
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
from typing import Any

import yaml

from hw.cost import Cost, estimate_cost
from hw.generate.codes import choose_codebooks, store_codes, with_header
from hw.generate.contract import Violation, accumulator_warnings, check_contract
from hw.generate.hardware import HardwareConfig
from hw.generate.precision import override_precisions, tighten_weights
from hw.generate.reuse import check_reuse, plan_layers, unroll_warnings
from hw.generate.testbench import with_checks
from qmodels.errors import UserError
from qmodels.runtime import runtime

__all__ = ["Design", "HardwareConfig", "HlsProject", "convert", "generate", "generate_design", "legacy_keras"]


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
    return _converted(model, config, output_dir, trace)[0]


def _converted(model: Any, config: HardwareConfig, output_dir: Path, trace: bool) -> tuple[Any, list[Violation]]:
    check_contract(model, config.backend)
    if config.project_name in model.input_names:
        raise UserError(
            f"hardware.project_name: {config.project_name!r} is also the model's input, and both become C++ names; "
            "choose another project name"
        )
    plan = plan_layers(model, config)
    try:
        graph = _convert(model, config, plan, output_dir, trace)
    except OSError:  # a full disk is no fault of the model
        raise
    except Exception as error:  # hls4ml raises bare Exception for layers it does not know
        raise UserError(
            f"model {model.name}: hls4ml cannot convert it ({type(error).__name__}: {str(error)[:300]}); see "
            f"https://fastmachinelearning.org/hls4ml for the layers it supports"
        ) from error
    check_reuse(graph, plan)
    tighten_weights(graph)
    inferred = accumulator_warnings(graph)  # of the sums' own sizes, not of those the config gives them
    return graph, [*override_precisions(graph, config), *inferred, *unroll_warnings(model, plan)]


def _convert(
    model: Any, config: HardwareConfig, plan: Mapping[str, tuple[str, int]], output_dir: Path, trace: bool
) -> Any:
    with legacy_keras(), _quiet():
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        # granularity "name" and bit_exact=True together: one without the other differs silently.
        hls_config = config_from_keras_model(model, granularity="name", backend=config.backend)
        hls_config["Model"]["ReuseFactor"] = 1 if config.reuse_factor == "auto" else config.reuse_factor
        for name, (strategy, reuse) in plan.items():
            hls_config["LayerName"][name] |= {"Strategy": strategy, "ReuseFactor": reuse}
        if trace:
            for layer in hls_config["LayerName"].values():
                layer["Trace"] = True
        target = {"board": config.board} if config.backend == "VivadoAccelerator" else {"part": config.part}
        return convert_from_keras_model(
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
        graph, told = _converted(model, config, folder, trace=False)
        codebooks = choose_codebooks(graph, config)
        cost = estimate_cost(graph, codebooks, adders=True)
        store_codes(graph, codebooks)
        with _quiet():
            graph.write()
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        stamp = str(graph.config.get_config_value("Stamp"))
    files = {path: content.replace(str(folder).encode(), b".") for path, content in files.items()}  # Catapult's bridge
    files = with_header(_mended(_normalised(files, graph, stamp), graph), codebooks)
    return Design(HlsProject(config.project_name, _with_checks(files, config, model)), cost, tuple(told))


def _mended(files: dict[str, bytes], graph: Any) -> dict[str, bytes]:
    """What hls4ml 1.3.0 writes wrong.

    VivadoAccelerator: the AXI wrapper of a stream takes its input for a type called `input_t`. Catapult: the test bench
    is started without its files, and an input stream that is reshaped is bound, by a static reference, to the channel
    of the first call.
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
        top = f"firmware/{graph.config.get_project_name()}.cpp"
        mended[top] = re.sub(rb"\bstatic (auto& \w+ = )", rb"\1", files[top])
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
