"""Keras models from files; no code in a file runs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from qmodels.data import ARCHIVE_ERRORS
from qmodels.errors import UserError
from qmodels.loading.whitelist import refuse_code
from qmodels.runtime import runtime

MODEL_SUFFIXES = (".keras", ".h5", ".json")


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
