"""Our side of the process in which the TensorFlow Lite interpreter runs."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import ToolMissing, UserError

WORKER = Path(__file__).with_name("worker.py")
MAGIC = b"TFL3"  # at the fifth byte
MAX_BYTES = 1 << 28
BUILD_SECONDS = 60.0  # on a busy machine; the worker itself ends after four of processor time
CALL_SECONDS = 600.0  # for one call's part
PART_BYTES = 1 << 24  # of inputs that are sent at once
Head = Literal["", "softmax", "sigmoid"]


@dataclass(frozen=True)
class Tensor:
    """An end of the network: number = scale * (stored - zero); scale 0: real numbers."""

    shape: tuple[int, ...]  # of one sample
    dtype: np.dtype[Any]
    scale: float
    zero: int

    @classmethod
    def from_json(cls, plain: dict[str, Any], path: Path) -> Tensor:
        """As the worker describes it."""
        if len(plain["scales"]) > 1:
            raise UserError(f"{path}: its input or output has a scale for each channel; allowed: one for all")
        scale, zero = (plain["scales"] or [0.0])[0], (plain["zeros"] or [0])[0]
        dtype = np.dtype(plain["dtype"])
        if dtype.kind != "f" and not (0 < scale < np.inf):
            raise UserError(
                f"{path}: its {dtype} input or output has no scale: the file does not say what number it means"
            )
        return cls(tuple(plain["shape"]), dtype, 0.0 if dtype.kind == "f" else scale, zero)


class Interpreter:
    """One file in one process. It ends with this object, and with us."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        """Start the process and have the file looked at and built.

        Args:
            path: a `.tflite` file; only its content counts.
            threads: of the interpreter.

        Raises:
            UserError: it is no such file, is damaged, or has what a classifier need not have.
            ToolMissing: there is no interpreter.
        """
        self.path, content = path, read_content(path)
        self._lock = threading.Lock()
        # -I: nothing of the user's Python set-up is read; where the packages are is told.
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for us
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._ended = weakref.finalize(self, _end, self._child)
        self._unread = b""
        found = self._ask({"threads": threads, "bytes": len(content), "path": sys.path}, content, BUILD_SECONDS)
        if "missing" in found:
            self._ended()
            raise ToolMissing(f"{path}: {found['missing']}")
        if "refused" in found:
            self._ended()
            raise UserError(f"{path}: {found['refused']}")
        self.input, self.output = (Tensor.from_json(found[end], path) for end in ("input", "output"))
        self.head: Head = found["head"]
        self.batched: bool = found["batched"]
        self.products: list[list[str]] = found["products"]

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """What the network stores as outputs (N, ...) for stored inputs (N, ...).

        Raises:
            UserError: the interpreter crashed or does not end.
        """
        step = max(1, PART_BYTES // max(1, x[:1].nbytes))
        return np.concatenate([self._run(x[start : start + step]) for start in range(0, len(x), step)])

    def _run(self, x: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            sent = np.ascontiguousarray(x, self.input.dtype).tobytes()
            reply = self._ask({"samples": len(x)}, sent, CALL_SECONDS)
            stored = self._read(int(reply["bytes"]), monotonic() + CALL_SECONDS)
        return np.frombuffer(stored, self.output.dtype).reshape(reply["shape"])

    def _ask(self, request: dict[str, Any], content: bytes, seconds: float) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died: the reply tells
                self._child.stdin.write(json.dumps(request).encode() + b"\n" + content)
                self._child.stdin.flush()
            return dict(json.loads(self._line(monotonic() + seconds)))
        except BaseException:  # Ctrl-C too: it is in the middle of something
            self._ended()
            raise

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._unread:
            self._more(deadline)
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _read(self, size: int, deadline: float) -> bytes:
        while len(self._unread) < size:
            self._more(deadline)
        part, self._unread = self._unread[:size], self._unread[size:]
        return part

    def _more(self, deadline: float) -> None:
        assert self._child.stdout is not None
        handle = self._child.stdout.fileno()
        if not select.select([handle], [], [], max(0.0, deadline - monotonic()))[0]:
            raise UserError(f"{self.path}: the TensorFlow Lite interpreter does not end on it; the file is damaged")
        part = os.read(handle, 1 << 20)
        if not part:
            raise UserError(f"{self.path}: the TensorFlow Lite interpreter {_how_it_ended(self._child)}")
        self._unread += part


def read_content(path: Path) -> bytes:
    """The bytes of a `.tflite` file; UserError if it cannot be read or is none, by its mark."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: has {path.stat().st_size >> 20} MB; allowed: up to {MAX_BYTES >> 20}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if content[4:8] != MAGIC:
        raise UserError(f"{path}: no TensorFlow Lite file (its mark {MAGIC.decode()} is missing), or a damaged one")
    return content


def is_tflite(path: Path | None) -> bool:
    """Whether a model file is TensorFlow Lite's, by its suffix or its mark."""
    if path is None or path.is_dir():
        return False
    if path.suffix.lower() == ".tflite":
        return True
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == MAGIC
    except OSError:
        return False


def _how_it_ended(child: subprocess.Popen[bytes]) -> str:
    status = child.wait()
    if status >= 0:
        return f"cannot be started (exit status {status}): is tensorflow or ai-edge-litert installed?"
    if -status == signal.SIGXCPU:
        return "does not come to an end when it builds the network; the file is damaged"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"crashed on it ({name}); the file is damaged" + (
        "; or memory is short" if -status == signal.SIGKILL else ""
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
