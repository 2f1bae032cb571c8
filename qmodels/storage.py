"""Files that appear whole or not at all, and Keras models that run no code when loaded."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmodels.errors import ARCHIVE_ERRORS, UserError
from qmodels.runtime import runtime
from qmodels.whitelist import refuse_code

MODEL_SUFFIXES = (".keras", ".h5", ".json")


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


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place, whole, when the block succeeds, and is removed when not.

    Raises:
        UserError: the place is not writable, or the disk is full.
    """
    fresh: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield fresh
        fresh.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    except OSError as error:
        raise UserError(f"{target}: writing failed ({error.strerror or error}); make room, then --resume") from None
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity, which JSON lacks, are refused."""
    write_bytes(target, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def finite_or_none(value: float) -> float | None:
    """For JSON, which lacks NaN (nothing was measured) and infinity (no bound)."""
    return value if math.isfinite(value) else None


def save_model(model: Any, target: Path) -> None:
    """Save a Keras or QKeras model as `.keras`, atomically."""
    with atomic_path(target) as temporary:
        model.save(temporary)


def load_model(path: Path, weights: Path | None = None) -> Any:
    """Load a `.keras` or `.h5` model, or an architecture `.json` with its weights; QKeras layers are known.

    Args:
        path: the model. Nothing in it runs: classes that are not Keras' or QKeras' own are refused.
        weights: of an architecture `.json`: an `.h5` of `model.save_weights()`; default: the one beside it.

    Raises:
        UserError: the file is missing, unreadable, or names a class that could run code.
    """
    if path.suffix not in MODEL_SUFFIXES:
        raise UserError(f"{path}: unknown model format {path.suffix!r}; allowed: {', '.join(MODEL_SUFFIXES)}")
    architecture = _architecture(path)
    refuse_code(architecture, path)
    stored = weights_file(path, weights)
    custom: dict[str, Any] = {}
    runtime().qkeras.utils._add_supported_quantized_objects(custom)
    models = runtime().keras.models
    try:
        if stored is None:
            return models.load_model(path, custom_objects=custom, compile=False)
        model = models.model_from_json(json.dumps(architecture), custom_objects=custom)
    except Exception as error:  # a damaged or foreign file makes Keras, h5py and zipfile raise almost anything
        raise UserError(f"{path}: cannot be loaded as a Keras 2 / QKeras model: {str(error)[:300]}") from None
    try:
        model.load_weights(stored)
    except Exception as error:
        raise UserError(f"{stored}: does not hold the weights of {path}: {str(error)[:300]}") from None
    return model


def weights_file(path: Path, weights: Path | None = None) -> Path | None:
    """The weights that belong to an architecture `.json`; None for formats that hold their own.

    Raises:
        UserError: there are none, or `weights` is given for a model that has its own.
    """
    if path.suffix != ".json":
        if weights is not None:
            raise UserError(f"{weights}: {path.name} holds its own weights; weights go with an architecture .json")
        return None
    beside = [path.with_name(path.stem + ending) for ending in (".weights.h5", "_weights.h5", ".h5")]
    for candidate in [weights] if weights is not None else beside:
        if candidate.is_file():
            return candidate
    looked_for = ", ".join(str(candidate) for candidate in ([weights] if weights is not None else beside))
    raise UserError(f"{path}: its weights are missing (looked for {looked_for}); save them with model.save_weights()")


def _architecture(path: Path) -> Any:
    """The model's configuration as plain JSON, without building it."""
    try:
        if path.suffix == ".json":
            architecture = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(architecture, dict) or "class_name" not in architecture:
                raise ValueError("no Keras architecture")
            return architecture
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
        how = "model.to_json()" if path.suffix == ".json" else "model.save()"
        raise UserError(f"{path}: not a readable {path.suffix} model ({error}); save it with {how}") from None
