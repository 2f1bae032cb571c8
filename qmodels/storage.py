"""Files that appear whole or not at all, and Keras models that run no code when loaded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmodels.data import ARCHIVE_ERRORS
from qmodels.errors import UserError
from qmodels.runtime import runtime

MODEL_SUFFIXES = (".keras", ".h5")
#: Where the classes of a saved model may come from; anything else could run code of its author's.
_TRUSTED_MODULES = ("keras", "tf_keras", "qkeras", "builtins", "tensorflow.python.keras")
_UNSAFE_CLASSES = ("Lambda", "SlicingOpLambda", "TFOpLambda")


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that is renamed to it when the block succeeds, and removed when not.

    Raises:
        UserError: the folder is not writable, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot write there ({error.strerror}); choose another --out") from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or error  # h5py gives only a text
        raise UserError(f"{target}: writing failed ({reason}); the file was left as it was") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity, which JSON lacks, are refused."""
    write_bytes(target, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def model_digest(model: Any) -> str:
    """SHA-256 of a model's architecture and weights (a saved file also holds the date)."""
    total = hashlib.sha256(model.to_json().encode())
    for weights in model.get_weights():
        total.update(weights.tobytes())
    return total.hexdigest()


def save_model(model: Any, target: Path) -> None:
    """Save a Keras or QKeras model as `.keras`, atomically."""
    with atomic_path(target) as temporary:
        model.save(temporary)


def load_model(path: Path) -> Any:
    """Load a `.keras` or `.h5` model; QKeras layers are known.

    Raises:
        UserError: the file is missing, unreadable, or holds a layer that could run code.
    """
    if path.suffix not in MODEL_SUFFIXES:
        raise UserError(f"{path}: unknown model format {path.suffix!r}; allowed: {', '.join(MODEL_SUFFIXES)}")
    _refuse_code(_architecture(path), path)
    custom: dict[str, Any] = {}
    runtime().qkeras.utils._add_supported_quantized_objects(custom)
    try:
        return runtime().keras.models.load_model(path, custom_objects=custom, compile=False)
    except Exception as error:  # a damaged or foreign file makes Keras, h5py and zipfile raise almost anything
        raise UserError(f"{path}: cannot be loaded as a Keras 2 / QKeras model: {str(error)[:300]}") from None


def _architecture(path: Path) -> Any:
    """The model's configuration as plain JSON, without building it."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        import h5py

        with h5py.File(path, "r") as archive:
            stored = archive.attrs.get("model_config")
            if stored is None:
                raise UserError(f"{path}: holds weights only; save the whole model with model.save()")
            return json.loads(stored)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, KeyError, ValueError, TypeError, RecursionError, *ARCHIVE_ERRORS) as error:
        raise UserError(f"{path}: not a readable {path.suffix} model ({error}); save it with model.save()") from None


def _refuse_code(node: Any, path: Path) -> None:
    if isinstance(node, dict):
        name, module = node.get("class_name"), node.get("module")
        if name in _UNSAFE_CLASSES or name == "__lambda__":
            layer = (node.get("config") or {}).get("name", name) if isinstance(node.get("config"), dict) else name
            raise UserError(
                f"{path}: layer {layer!r} is a {name}, which would run code from the file; it is not loaded"
            )
        if isinstance(module, str) and module.split(".")[0] not in _TRUSTED_MODULES:
            raise UserError(f"{path}: {name!r} comes from module {module!r}; only Keras and QKeras classes are loaded")
        for child in node.values():
            _refuse_code(child, path)
    elif isinstance(node, list):
        for child in node:
            _refuse_code(child, path)
