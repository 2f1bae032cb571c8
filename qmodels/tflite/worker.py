"""The process in which TensorFlow Lite's interpreter runs: a damaged file can crash this one, never ours.

Run as a script, by `qmodels/tflite/process.py`. It loads the interpreter's own library and no TensorFlow, so it starts
in a third of a second, and TensorFlow's operators ("flex"), which may touch files, do not exist in it. Messages are a
line of JSON, with the bytes of an array behind it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import resource
import sys
import types
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

WRAPPER = "interpreter_wrapper._pywrap_tensorflow_interpreter_wrapper"
#: Processor seconds that building the interpreter may take; a damaged file may ask for anything.
BUILD_SECONDS = 4
#: Address space, likewise; the library alone maps one gigabyte.
BUILD_BYTES = 12 << 30
#: Images that are computed at once, if the file allows it: more do not fit into a processor's cache.
BATCH = 32
#: Operators with a random or remembered result: the outputs would be no function of the inputs.
UNSTEADY = ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "VAR_HANDLE", "READ_VARIABLE", "CALL_ONCE")
#: Operators that turn logits into probabilities, by what we call them.
HEADS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
#: Operators behind those that only change the type or the shape of a result.
PASSING = ("QUANTIZE", "DEQUANTIZE", "RESHAPE")
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class Refused(Exception):
    """The file is no classifier that we can attack; the message says why."""


class Missing(Exception):
    """There is no interpreter that could read it; the message says how to get one."""


def main() -> None:
    """Take a file, describe it, then compute batches until the pipe closes."""
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    hello = json.loads(asked.readline())
    sys.path[:] = hello["path"]
    content = bytearray(asked.read(hello["bytes"]))
    try:
        with _limited():
            file = _File(content)
            network = _Network(bytes(content), hello["threads"], file)
        _send(answers, file.describe() | network.describe())
    except Refused as reason:
        _send(answers, {"refused": str(reason)})
        return
    except Missing as reason:
        _send(answers, {"missing": str(reason)})
        return
    except MemoryError:
        _send(answers, {"refused": "its arrays do not fit into memory"})
        return
    except Exception as error:  # the flatbuffer's reader and the interpreter raise almost anything
        _send(answers, {"refused": f"the interpreter cannot read it ({type(error).__name__}: {str(error)[:200]})"})
        return
    while line := asked.readline():
        size = int(np.prod(network.shape[1:])) * json.loads(line)["samples"] * network.dtype.itemsize
        x = np.frombuffer(asked.read(size), network.dtype)
        outputs = np.ascontiguousarray(network.outputs(x.reshape(-1, *network.shape[1:])))
        _send(answers, {"shape": outputs.shape, "bytes": outputs.nbytes})
        answers.write(outputs.tobytes())
        answers.flush()


def _send(pipe: BinaryIO, message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


class _limited:
    """Bounds on processor time and memory while the block runs."""

    def __enter__(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._set(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + BUILD_SECONDS)
        with contextlib.suppress(OSError, ValueError):  # not every system has this limit
            self._set(resource.RLIMIT_AS, BUILD_BYTES)

    def __exit__(self, *_: object) -> None:
        for limit in (resource.RLIMIT_CPU, resource.RLIMIT_AS):
            with contextlib.suppress(OSError, ValueError):
                self._set(limit, resource.getrlimit(limit)[1])

    def _set(self, limit: int, wanted: int) -> None:
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


class _File:
    """The flatbuffer: what there is to know of it without running it. The logits become its output."""

    def __init__(self, content: bytearray) -> None:
        schema = importlib.import_module(f"{_package()}.schema_py_generated")
        model = schema.Model.GetRootAs(content, 0)
        if model.SubgraphsLength() != 1:
            raise Refused(f"it has {model.SubgraphsLength()} subgraphs (control flow); one is allowed")
        self._graph = graph = model.Subgraphs(0)
        if (graph.InputsLength(), graph.OutputsLength()) != (1, 1):
            raise Refused(
                f"it has {graph.InputsLength()} inputs and {graph.OutputsLength()} outputs; one each is allowed"
            )
        self._types = _names(schema.TensorType)
        self._operators = list(self._read(model, _names(schema.BuiltinOperator)))
        for name, _, _ in self._operators:
            if name.startswith("CUSTOM") or name in UNSTEADY:
                raise Refused(f"it has an operator {name}; built-in ones without memory or chance are allowed")
        self.head = self._expose_logits()

    def _read(self, model: Any, names: dict[int, str]) -> Any:
        """Name, inputs and outputs of every operator."""
        for number in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(number)
            code = model.OperatorCodes(operator.OpcodeIndex())
            custom = code.CustomCode()
            kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            name = f"CUSTOM {custom.decode(errors='replace')[:60]!r}" if custom else kind
            ends = (
                [end(place) for place in range(length)]
                for end, length in (
                    (operator.Inputs, operator.InputsLength()),
                    (operator.Outputs, operator.OutputsLength()),
                )
            )
            yield name, *ends

    def _expose_logits(self) -> str:
        """Make what a softmax or sigmoid at the end reads the graph's output; its name, or "" if there is none."""
        places = self._graph.OutputsAsNumpy()  # a view: writing changes the file's bytes
        tensor = int(places[0])
        made_by = {end: (name, inputs) for name, inputs, outputs in self._operators for end in outputs}
        for _ in range(len(PASSING) + 1):
            name, inputs = made_by.get(tensor, ("", []))
            if name in HEADS:
                places[0] = inputs[0]
                return HEADS[name]
            if name not in PASSING:
                return ""
            tensor = inputs[0]
        return ""

    def describe(self) -> dict[str, Any]:
        """The head that was taken off, and the types (activations, weights) of the products."""
        found = []
        for name, inputs, _ in self._operators:
            if name in PRODUCTS:
                found.append([self._types[self._graph.Tensors(tensor).Type()] for tensor in inputs[:2]])
        return {"head": self.head, "products": found}


def _names(constants: Any) -> dict[int, str]:
    return {value: name for name, value in vars(constants).items() if isinstance(value, int)}


class _Network:
    """The interpreter, in one copy for whole batches and one for what is left over."""

    def __init__(self, content: bytes, threads: int, file: _File) -> None:
        self._make: Callable[[], Any] = lambda: _interpreter(content, threads)
        self._rest = self._make()
        self._input, self._output = int(self._rest.InputIndices()[0]), int(self._rest.OutputIndices()[0])
        self._rest.AllocateTensors()
        self.shape = tuple(int(size) for size in self._rest.TensorSize(self._input, 0))
        self.dtype = np.dtype(self._rest.TensorType(self._input, 0))
        self._output_shape = tuple(int(size) for size in self._rest.TensorSize(self._output, 0))
        if self.dtype not in (np.float32, np.int8, np.uint8, np.int16) or len(self.shape) < 2:
            raise Refused(
                f"its input is {self.dtype} of shape {self.shape}; allowed: float32, int8, uint8, int16, batched"
            )
        self._size, self._whole = self.shape[0], self._rest
        self.batched = self._can_be_batched()

    def describe(self) -> dict[str, Any]:
        ends = {"input": self._input, "output": self._output}
        return {
            name: {
                "shape": [int(size) for size in self._rest.TensorSize(tensor, 0)][1:],
                "dtype": np.dtype(self._rest.TensorType(tensor, 0)).name,
                "scales": [float(scale) for scale in self._rest.TensorQuantizationParameters(tensor, 0)[0]],
                "zeros": [int(zero) for zero in self._rest.TensorQuantizationParameters(tensor, 0)[1]],
            }
            for name, tensor in ends.items()
        } | {"batched": self.batched}

    def _can_be_batched(self) -> bool:
        """Whether a batch gives every input what it gives alone; some files have a fixed size inside."""
        rng = np.random.default_rng(0)
        probe = rng.integers(0, 2, (3 * self.shape[0], *self.shape[1:])).astype(self.dtype)
        alone = [
            self._run(self._rest, probe[i : i + self.shape[0]]).copy() for i in range(0, len(probe), self.shape[0])
        ]
        try:
            whole = self._make()
            together = self._run(self._resized(whole, len(probe)), probe)
        except (RuntimeError, ValueError):
            return False
        if together.shape[0] != len(probe) or not np.allclose(np.concatenate(alone), together, rtol=1e-4, atol=1e-5):
            return False
        self._whole, self._size = self._resized(whole, BATCH), BATCH
        return True

    def _resized(self, interpreter: Any, size: int) -> Any:
        interpreter.ResizeInputTensor(self._input, np.array((size, *self.shape[1:]), np.int32), False)
        interpreter.AllocateTensors()
        return interpreter

    def _run(self, interpreter: Any, x: Any) -> Any:
        interpreter.SetTensor(self._input, x)
        interpreter.Invoke()
        return interpreter.GetTensor(self._output)

    def outputs(self, x: Any) -> Any:
        """Outputs (N, ...) of input tensors (N, ...)."""
        parts, size = [], self._size
        for start in range(0, len(x), size):
            part = np.ascontiguousarray(x[start : start + size])
            if len(part) == size:
                parts.append(self._run(self._whole, part).copy())
            elif self.batched:
                if int(self._rest.TensorSize(self._input, 0)[0]) != len(part):
                    self._resized(self._rest, len(part))
                parts.append(self._run(self._rest, part).copy())
            else:  # filled up
                full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
                parts.append(self._run(self._whole, full)[: len(part)].copy())
        return np.concatenate(parts)


@lru_cache(maxsize=1)
def _package() -> str:
    """Where the interpreter is; TensorFlow's packages are named here without running their own code."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        return "ai_edge_litert"
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.origin is None:
        raise Missing("neither tensorflow nor ai-edge-litert is installed")
    names = ["tensorflow", "tensorflow.python"]
    names += [f"tensorflow.lite{part}" for part in ("", ".python", ".python.interpreter_wrapper")]
    for name in names:
        module = types.ModuleType(name)
        module.__path__ = [str(Path(found.origin).parent.joinpath(*name.split(".")[1:]))]
        sys.modules.setdefault(name, module)
    return "tensorflow.lite.python"


def _interpreter(content: bytes, threads: int) -> Any:
    """The library's interpreter of a file's content, with XNNPACK where it knows the operators."""
    package = _package()
    # operators: built-in; no custom ones; keep no inner tensors; delegates may be clustered
    settings = [1, [], [], False, False, threads]
    try:
        if package == "ai_edge_litert":
            made = importlib.import_module(f"{package}.interpreter").Interpreter
            return made(model_content=content, num_threads=threads)._interpreter
        create = importlib.import_module(f"{package}.{WRAPPER}").CreateWrapperFromBuffer
    except (ImportError, AttributeError, RuntimeError) as error:
        if package == "ai_edge_litert" and isinstance(error, RuntimeError):
            raise  # of the file
        told = f"the interpreter of the installed {package} cannot be loaded ({error}); pip install ai-edge-litert"
        raise Missing(told) from None
    try:
        return create(content, *settings, False)
    except TypeError:  # before 2.17
        return create(content, *settings)


if __name__ == "__main__":
    main()
