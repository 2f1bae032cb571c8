"""Weights from a file into a model that is built; only arrays are read."""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from qmodels.errors import UserError
from qmodels.loading.files import Kind, Stored, member
from qmodels.loading.hdf5 import MAX_BYTES, check_content, check_readable
from qmodels.loading.limits import MAX_NUMBERS
from qmodels.loading.pruning import is_pruning_state, is_wrapper
from qmodels.loading.tree import Json, is_model, name_of
from qmodels.runtime import runtime

#: A model's weights, and what an optimizer keeps for each of them; of a SavedModel, and in any file.
_MAX_STORED = 4 * MAX_NUMBERS
_BYTES_OF_A_WEIGHT, _BYTES_AROUND = 64, 16 << 20
_SNAKE = (re.compile(r"\W+"), re.compile(r"(.)([A-Z][a-z]+)"), re.compile(r"([a-z])([A-Z])"))


@dataclass(frozen=True)
class Place:
    """Where a file keeps one layer's weights."""

    layer: tuple[str, ...]  # its name, after those of the models around it
    group: str  # in the layout of HDF5 models
    path: str  # in the layout of `.keras` and `.weights.h5`
    wrapped: bool  # by a pruning wrapper, which has weights of its own


def places(architecture: Json, outer: tuple[str, ...] = (), path: str = "") -> Iterator[Place]:
    """Where the layers of an architecture, as it is stored, have their weights.

    `.keras` files count layers by class: layers/dense, layers/dense_1.
    """
    count: dict[str, int] = {}
    for layer in architecture["config"]["layers"]:
        kind = _snake_case(str(layer["class_name"]))
        number = count[kind] = count.get(kind, -1) + 1
        own = f"{path}layers/{kind}" + (f"_{number}" if number else "")
        wrapped = is_wrapper(layer)
        inner = layer["config"]["layer"] if wrapped else layer
        if wrapped:
            own += "/layer"
        if is_model(inner):
            yield from places(inner, (*outer, name_of(inner)), f"{own}/")
        elif layer["class_name"] != "InputLayer":  # which a Sequential model does not list
            yield Place((*outer, name_of(inner)), name_of(layer), own, wrapped)


def load_weights(model: Any, stored: Stored, weights: Path | None, found: list[Place] | None) -> None:
    """Fill a model with a file's weights.

    Args:
        model: built from the file's architecture.
        stored: the file.
        weights: of an architecture `.json`.
        found: layer by layer, where the architecture was translated; None: as Keras 2 does it.

    Raises:
        UserError: the weights are not the model's.
    """
    if stored.kind is Kind.SAVED_MODEL:
        _load_checkpoint(model, stored.path / "variables" / "variables")
        return
    count = sum(prod(weight.shape) for weight in model.weights)
    with _as_hdf5(stored, weights, min(MAX_BYTES, _BYTES_OF_A_WEIGHT * count + _BYTES_AROUND)) as file:
        if found is None:
            model.load_weights(file)
        else:
            _load_layers(model, file, found)


def check_finite(model: Any, path: Path) -> None:
    """See that all weights are numbers.

    Raises:
        UserError: some are NaN or infinite; the layer is named.
    """
    for layer in leaves(model).values():
        for variable, values in zip(layer.weights, layer.get_weights(), strict=True):
            wrong = int(np.size(values) - np.isfinite(values).sum())
            if wrong:
                what = variable.name.rsplit("/", 1)[-1].split(":")[0]
                raise UserError(
                    f"{path}: layer {layer.name} has weights that are not finite ({wrong} of {np.size(values)} in "
                    f"{what} are NaN or infinite); train it again, with a lower learning rate, and save it then"
                )


def leaves(model: Any, outer: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The layers of a model and of the models inside it, by their names from outside to inside."""
    found: dict[tuple[str, ...], Any] = {}
    for layer in model.layers:
        inner = hasattr(layer, "layers") and isinstance(layer, runtime().keras.Model)
        found |= leaves(layer, (*outer, layer.name)) if inner else {(*outer, layer.name): layer}
    return found


@contextlib.contextmanager
def _as_hdf5(stored: Stored, weights: Path | None, most: int) -> Iterator[Path]:
    """The weights as a file whose name tells Keras the layout: `.weights.h5` or another `.h5`; `most`: its bytes."""
    import h5py

    with tempfile.TemporaryDirectory(prefix="robust-hls-") as folder:
        source = (weights or stored.path).resolve()
        if stored.kind is Kind.ARCHIVE:
            source = Path(folder) / "content"
            with zipfile.ZipFile(stored.path) as archive:
                source.write_bytes(member(archive, "model.weights.h5", most))
        if stored.kind is not Kind.HDF5 and not stored.ours:  # of an .h5 model this has happened
            check_readable(source)
        with h5py.File(source, "r") as file:
            check_content(file, most)
            layout = "legacy.h5" if "layer_names" in file.attrs or "model_weights" in file else "model.weights.h5"
        link = Path(folder) / layout
        link.symlink_to(source)
        yield link


def _load_layers(model: Any, file: Path, found: list[Place]) -> None:
    import h5py

    layers = leaves(model)
    with h5py.File(file, "r") as archive:
        for place in found:
            layer = layers.pop(place.layer)
            arrays = _legacy(archive, place) if file.name == "legacy.h5" else _counted(archive, place)
            wanted, given = [tuple(item.shape) for item in layer.weights], [item.shape for item in arrays]
            if wanted != given:
                raise ValueError(f"layer {layer.name!r} needs weights of shapes {wanted}; the file has {given}")
            layer.set_weights(arrays)
    if missing := [layer.name for layer in layers.values() if layer.weights]:
        raise ValueError(f"no weights for {', '.join(missing)}")


def _legacy(archive: Any, place: Place) -> list[Any]:
    if len(place.layer) > 1:
        raise ValueError("a model inside a model, which is read from .keras files only; save it with model.save()")
    group = (archive["model_weights"] if "model_weights" in archive else archive)[place.group]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs["weight_names"]]
    return [np.asarray(group[name]) for name in names if not (place.wrapped and is_pruning_state(name))]


def _counted(archive: Any, place: Place) -> list[Any]:
    group = archive.get(f"{place.path}/vars") or archive.get(f"{place.path}/cell/vars") or {}
    return [np.asarray(group[str(number)]) for number in range(len(group))]


def _load_checkpoint(model: Any, prefix: Path) -> None:
    """A SavedModel's variables, by the names of its objects: the graph is not read."""
    numbers = sum(prod(shape) for _, shape in runtime().tf.train.list_variables(str(prefix)))
    if numbers > _MAX_STORED:
        raise ValueError(f"it has {numbers} numbers; at most {_MAX_STORED} are read")
    model.load_weights(str(prefix)).assert_existing_objects_matched()


def _snake_case(name: str) -> str:
    """Keras' own rule, by which its files name layers."""
    name = _SNAKE[0].sub("", name)
    name = _SNAKE[1].sub(r"\1_\2", name)
    return _SNAKE[2].sub(r"\1_\2", name).lower()
