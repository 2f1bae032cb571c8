"""hls4ml's graph becomes an HLS project. It can be written again and again: the graph is left as it was found."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, get_args

import yaml

from hw.generate.codes import Codebook, stored_codes, with_header
from hw.generate.convert import quiet
from hw.generate.hardware import Backend
from hw.generate.project import HlsProject, Ports, Shape
from hw.generate.testbench import with_checks
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.runtime import without_keras_3

#: Whose projects we know, in lower case as hls4ml has them.
BACKENDS = tuple(name.lower() for name in get_args(Backend))
#: hls4ml keeps the state of these in static variables, in every io type.
_STATEFUL = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")


def write_project(graph: Any, codebooks: Mapping[str, Codebook] | None = None, *, traced: bool = False) -> HlsProject:
    """The HLS project of an hls4ml `ModelGraph` after its passes.

    Args:
        graph: holding values, not codes.
        codebooks: of kernels that are stored as codes, by the weight variable's name.
        traced: let the C simulation record every layer's output.

    Raises:
        UserError: hls4ml cannot write it.
    """
    check_all_written(graph)
    books = codebooks or {}
    recorded = _recorded(graph) if traced else {}
    with tempfile.TemporaryDirectory(prefix="robust-hls-") as temporary, stored_codes(graph, books):
        folder = Path(temporary) / "project"
        with _going_to(graph, folder), _recording(graph, recorded):
            _write(graph)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = {path: content.replace(str(folder).encode(), b".") for path, content in files.items()}  # Catapult's bridge
    files = with_header(_mended(_normalised(files, graph), graph), books)
    return HlsProject(graph.config.get_project_name(), _with_checks(files, graph), _ports(graph, recorded))


def check_all_written(graph: Any) -> None:
    """Refuse a layer that hls4ml writes no C++ for: what reads its result reads memory that nobody has written.

    Raises:
        UserError: names the layer. Seen with `ternary` activations, and with depthwise convolutions on Quartus.
    """
    for layer in graph.get_layers():
        if layer.class_name == "Input" or layer.get_attr("function_cpp", None):
            continue
        kinds = [kind.__name__ for kind in type(layer.get_output_variable()).__mro__]
        if "InplaceTensorVariable" not in kinds:  # in place: a second name of what it reads
            backend = graph.config.get_config_value("Backend")
            raise UserError(
                f"layer {layer.name!r} ({layer.class_name}): hls4ml writes no C++ for it on {backend}, so the "
                "accelerator would compute with unwritten memory; replace the layer, or try another backend"
            )


def layer_formats(graph: Any) -> dict[str, FixedPoint]:
    """Format of every layer's output, by layer name; without those whose type is no fixed-point number."""
    found = {}
    for layer in graph.get_layers():
        with contextlib.suppress(ValueError, AttributeError):
            found[str(layer.name)] = FixedPoint.from_hls4ml(layer.get_output_variable().type.precision)
    return found


def _write(graph: Any) -> None:
    try:
        with quiet(), without_keras_3():
            graph.write()
    except OSError:  # a full disk is no fault of the model
        raise
    except Exception as error:
        raise UserError(
            f"hls4ml cannot write the project for {graph.config.get_config_value('Backend')} "
            f"({type(error).__name__}: {str(error)[:300]}); try another backend, io_type or reuse factor"
        ) from error


@contextlib.contextmanager
def _going_to(graph: Any, folder: Path) -> Iterator[None]:
    """Where hls4ml's writer puts the files; afterwards again where the graph's owner had said.

    The Keras model is taken out meanwhile. The writer would store it in the folder of whichever project was written
    first with `keras` loaded: it registers a function for that in PyYAML, for the whole process.
    """
    config = graph.config.config
    said = {key: config[key] for key in ("OutputDir", "KerasModel") if key in config}
    config["OutputDir"] = str(folder)
    config.pop("KerasModel", None)
    try:
        yield
    finally:
        config.update(said)


@contextlib.contextmanager
def _recording(graph: Any, recorded: Mapping[str, Shape]) -> Iterator[None]:
    """Which layers the C++ records: hls4ml's writer looks at its config and at the layers' attributes."""
    saved = graph.config.trace_output, {layer.name: layer.get_attr("trace", False) for layer in graph.get_layers()}
    graph.config.trace_output = bool(recorded)
    for layer in graph.get_layers():
        layer.set_attr("trace", layer.name in recorded)
    try:
        yield
    finally:
        graph.config.trace_output = saved[0]
        for layer in graph.get_layers():
            layer.set_attr("trace", saved[1][layer.name])


def _recorded(graph: Any) -> dict[str, Shape]:
    """Layers with one result, by name, and its shape: the C++ keeps one array a name, and a clone has two results."""
    return {
        layer.name: tuple(int(size) for size in layer.get_output_variable().shape)
        for layer in graph.get_layers()
        if layer.get_attr("function_cpp", None) and len(layer.get_variables()) == 1
    }


def _ports(graph: Any, recorded: Mapping[str, Shape]) -> Ports:
    def shapes(variables: Any) -> tuple[Shape, ...]:
        return tuple(tuple(int(size) for size in variable.shape) for variable in variables)

    stateful = any(layer.class_name in _STATEFUL for layer in graph.get_layers())
    reentrant = graph.config.get_config_value("IOType") == "io_parallel" and not stateful
    return Ports(shapes(graph.get_input_variables()), shapes(graph.get_output_variables()), reentrant, recorded)


def _mended(files: dict[str, bytes], graph: Any) -> dict[str, bytes]:
    """What hls4ml 1.3.0 writes wrong.

    VivadoAccelerator: the AXI wrapper of a stream takes its input for a type called `input_t`. Catapult: the test bench
    is started without its files, and an input stream that is reshaped is bound, by a static reference, to the channel
    of the first call.
    """
    source = graph.get_input_variables()[0].type.name
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


def _with_checks(files: dict[str, bytes], graph: Any) -> dict[str, bytes]:
    """The test bench compares and fails; `tb_data` is written apart, because the attacks come later.

    A line of `tb_data` holds the numbers of all inputs, one after the other. hls4ml's own stays where there are several
    outputs, and for backends that we do not know.
    """
    inputs, outputs = graph.get_input_variables(), graph.get_output_variables()
    backend = str(graph.config.get_config_value("Backend"))
    if len(outputs) != 1 or backend.lower() not in BACKENDS:
        return files
    bench = f"{graph.config.get_project_name()}_test.cpp"
    numbers = sum(prod(variable.shape) for variable in inputs)
    checked = with_checks(files[bench].decode(), backend, numbers, prod(outputs[0].shape))
    return files | {bench: checked.encode()}


def _normalised(files: dict[str, bytes], graph: Any) -> dict[str, bytes]:
    """Remove what differs from run to run: the random stamp, the folder, and the Keras model.

    hls4ml's own hls4ml_config.yml has YAML tags that run code when loaded; ours is plain.
    """
    stamp = str(graph.config.get_config_value("Stamp"))
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
