"""Keras models from files of all kinds; nothing in a file runs.

A file is read (`files`), what Keras 2 does not know is written down as what it does (`keras3`, `pruning`,
`quantizers`, `names`), every class and size is checked (`whitelist`, `limits`), and only then is a model built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmodels.errors import UserError
from qmodels.loading.calls import check_calls
from qmodels.loading.files import Kind, Stored, read, weights_file
from qmodels.loading.flat import write_out
from qmodels.loading.keras3 import is_keras3, to_keras2
from qmodels.loading.limits import bounded_weights, check_outputs, check_sizes
from qmodels.loading.names import allow_names
from qmodels.loading.pruning import strip_pruning
from qmodels.loading.quantizers import check_quantizers, write_as_text
from qmodels.loading.tree import Json, is_model, nodes
from qmodels.loading.weights import Place, check_finite, load_weights, places
from qmodels.loading.whitelist import refuse_code
from qmodels.runtime import runtime

__all__ = ["LoadedModel", "load_model", "load_model_with_notes", "weights_file"]

#: What an architecture raises that is none: it may hold any JSON.
_DAMAGED = (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what was written differently to load it: one sentence each, none for most files."""

    model: Any
    notes: tuple[str, ...]


def load_model(path: Path | str, weights: Path | str | None = None, *, ours: bool = False) -> Any:
    """Load a model of Keras 2, QKeras or Keras 3 as a Keras 2 model.

    Args:
        path: a `.keras` or HDF5 file, whatever its name, an architecture `.json`, or a SavedModel folder of Keras 2.
            Nothing in it runs: classes that are not Keras' or QKeras' own are refused.
        weights: of an architecture `.json`: a file of `model.save_weights()`; default: the file next to it.
        ours: a `.keras` file that this software wrote: its arrays are not read in a process of their own first, where
            a damaged file can do no harm. That takes half a second.

    Raises:
        UserError: the file is missing, unreadable, too large, names a class that could run code, or has weights that
            are not finite.
    """
    return load_model_with_notes(Path(path), Path(weights) if weights is not None else None, ours=ours).model


def load_model_with_notes(path: Path, weights: Path | None = None, *, ours: bool = False) -> LoadedModel:
    """`load_model`, and what was written differently to load the model. None of it changes an output."""
    stored = read(path, ours=ours)
    notes: list[str] = []
    if stored.kind is Kind.HDF5 and path.suffix not in (".h5", ".hdf5"):
        notes.append(f"{path.name} is an HDF5 file, and was read as one")
    try:
        architecture, found = _understood(stored, notes)
        _check(architecture, path)
        found = _allowed_names(architecture, found, notes)
        beside = weights_file(path, weights)
        if written := write_as_text(architecture, path):
            notes.append(f"quantizers of activations are written as texts: {', '.join(written)}")
    except _DAMAGED as error:
        raise _unloadable(path, error) from None
    model = _built(architecture, path)
    try:
        load_weights(model, stored, beside, found)
    except Exception as error:  # a damaged or foreign file makes Keras, h5py and zipfile raise almost anything
        if beside is not None:
            raise UserError(f"{beside}: does not contain the weights of {path}: {_reason(error)}") from None
        raise _unloadable(path, error) from None
    check_finite(model, path)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):  # Normalization: setting its weights alone does nothing
            layer.finalize_state()
    model, changes = write_out(model)
    return LoadedModel(model, (*notes, *changes))


def _understood(stored: Stored, notes: list[str]) -> tuple[Json, list[Place] | None]:
    """The architecture in Keras 2's words, without wrappers; and where weights are, if not where Keras 2 looks."""
    architecture, found = stored.architecture, None
    if is_keras3(architecture, stored.version):
        found = list(places(architecture))
        architecture = to_keras2(architecture, stored.path)
        notes.append(f"a file of Keras 3{f' ({stored.version})' if stored.version else ''}, read as Keras 2 layers")
    before = list(places(architecture))
    if stripped := strip_pruning(architecture):
        if stored.kind is Kind.SAVED_MODEL:
            raise UserError(
                f"{stored.path}: a SavedModel of pruned layers; save it after "
                f"tfmot.sparsity.keras.strip_pruning(model) with model.save('own.keras')"
            )
        found = before
        notes.append(f"pruning wrappers are removed: {', '.join(stripped)}")
    for node in nodes(architecture):
        if isinstance(node, dict):
            node.pop("compile_config", None)  # the optimizer and losses are not needed, and may be anybody's code
            if not is_model(node):
                node.pop("build_config", None)  # layers are built where they are called, so with their name
    return architecture, found


def _check(architecture: Json, path: Path) -> None:
    """Everything about an architecture that must hold before any of it is built; loads no TensorFlow."""
    refuse_code(architecture, path)
    check_calls(architecture, path)
    check_quantizers(architecture, path)
    check_sizes(architecture, path)


def _allowed_names(architecture: Json, found: list[Place] | None, notes: list[str]) -> list[Place] | None:
    changed = allow_names(architecture)
    if not changed:
        return found
    told = ", ".join(f"{old!r} is now {new!r}" for old, new in changed.items())
    notes.append(f"TensorFlow allows letters, digits and . _ - / > \\ in names, the first a letter or digit: {told}")
    if found is None:
        return None
    return [
        Place(tuple(changed.get(name, name) for name in place.layer), place.group, place.path, place.wrapped)
        for place in found
    ]


def _built(architecture: Json, path: Path) -> Any:
    custom: dict[str, Any] = {}
    runtime().qkeras.utils._add_supported_quantized_objects(custom)
    try:
        with bounded_weights(path):
            model = runtime().keras.models.model_from_config(architecture, custom_objects=custom)
        check_outputs(model, path)
    except UserError:
        raise
    except Exception as error:  # Keras raises almost anything
        raise _unloadable(path, error) from None
    return model


def _unloadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be loaded as a Keras 2 / QKeras model: {_reason(error)}")


def _reason(error: Exception) -> str:
    """What Keras has to say, without the layer's whole config before it, or lines of its own code."""
    layer = re.search(r"using config=\{'name': ('[^']*')", str(error))
    told = str(error).rpartition("Exception encountered: ")[2]
    if "in user code:" in told and (found := re.search(r"^ *\w+(?:Error|Exception): (.*)$", told, re.MULTILINE)):
        told = found[1]
    return (f"layer {layer[1]}: " if layer else "") + " ".join(told.split())[:300]
