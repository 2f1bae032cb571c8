"""What kind of model a file is, by its content, and what it says before anything of it is built."""

from __future__ import annotations

import importlib
import json
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from qmodels.errors import ARCHIVE_ERRORS, UserError
from qmodels.loading.hdf5 import check_readable
from qmodels.loading.limits import MAX_ARCHITECTURE
from qmodels.loading.tree import Json, plain
from qmodels.runtime import runtime

#: What may be loaded, for messages.
FORMATS = (".keras", ".h5", ".json with its weights", "a SavedModel folder of Keras 2")
METADATA = "keras_metadata.pb"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_SUFFIXES = {".keras": "model.save()", ".h5": "model.save()", ".hdf5": "model.save()", ".json": "model.to_json()"}
_SAVE = "save it with model.save('own.keras') in Keras 2"
_FOREIGN = {b"TFL3": "a TensorFlow Lite model", b"\x80": "a Python pickle", b"\x93NUMPY": "a NumPy array"}


class Kind(Enum):
    """How a model is stored."""

    ARCHIVE = ".keras"
    HDF5 = ".h5"
    JSON = ".json"
    SAVED_MODEL = "SavedModel"


@dataclass(frozen=True)
class Stored:
    """A model file that is read, but not built."""

    path: Path
    kind: Kind
    architecture: Json
    version: str | None  # of the Keras that wrote it, where the file says so
    ours: bool = False  # we wrote it: HDF5's library may read it in this process


def kind_of(path: Path) -> Kind:
    """The kind of a model file, by its first bytes; only JSON, which has none, is known by its suffix.

    Raises:
        UserError: there is no such file, or it is no model.
    """
    if path.is_dir():
        return Kind.SAVED_MODEL
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if start.startswith(_ZIP):
        return Kind.ARCHIVE
    if start.startswith(_HDF5):
        return Kind.HDF5
    if path.suffix == ".json":
        return Kind.JSON
    foreign = next((what for magic, what in _FOREIGN.items() if start.startswith(magic) or start[4:8] == magic), "")
    if path.suffix in _SUFFIXES:
        what = foreign or ("an empty file" if not start else "neither a zip archive nor HDF5")
        raise UserError(f"{path}: not a readable {path.suffix} model ({what}); save it with {_SUFFIXES[path.suffix]}")
    told = f"; it is {foreign}" if foreign else ""
    raise UserError(f"{path}: unknown model format {path.suffix!r}{told}; allowed: {', '.join(FORMATS)}")


def read(path: Path, *, ours: bool = False) -> Stored:
    """A model's architecture as plain JSON, read with bounds; nothing is built, and no code runs.

    Args:
        path: of the file.
        ours: we wrote it.

    Raises:
        UserError: the file is damaged, or holds no Keras model.
    """
    kind = kind_of(path)
    readers = {Kind.ARCHIVE: _archive, Kind.HDF5: _hdf5, Kind.JSON: _json, Kind.SAVED_MODEL: _saved_model}
    try:
        architecture, version = readers[kind](path)
        return Stored(path, kind, _checked(architecture), version, ours)
    except (OSError, KeyError, ValueError, TypeError, RecursionError, *ARCHIVE_ERRORS) as error:
        shown = kind.value if path.suffix not in _SUFFIXES else path.suffix
        raise UserError(
            f"{path}: not a readable {shown} model ({error}); save it with {_SUFFIXES.get(shown, 'model.save()')}"
        ) from None


def weights_file(path: Path, weights: Path | None = None) -> Path | None:
    """The weights that belong to an architecture `.json`; None for formats that hold their own.

    Raises:
        UserError: there are none, or `weights` is given for a model that has its own.
    """
    if kind_of(path) is not Kind.JSON:
        if weights is not None:
            raise UserError(f"{weights}: {path.name} contains its own weights; weights go with an architecture .json")
        return None
    beside = [path.with_name(path.stem + ending) for ending in (".weights.h5", "_weights.h5", ".h5")]
    for candidate in [weights] if weights is not None else beside:
        if candidate.is_file():
            return candidate
    looked_for = ", ".join(str(candidate) for candidate in ([weights] if weights is not None else beside))
    raise UserError(f"{path}: its weights are missing (looked for {looked_for}); save them with model.save_weights()")


def member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A part of a zip archive that is not larger than `limit` bytes once unpacked.

    Raises:
        ValueError: it is larger.
    """
    size = archive.getinfo(name).file_size  # zipfile never unpacks more than this
    if size > limit:
        raise ValueError(f"{name} unpacks to {size} bytes; at most {limit} are read")
    return archive.read(name)


def _checked(architecture: Any) -> Json:
    """The architecture, if it has layers as Keras writes them; Keras' first versions wrote a Sequential as a list."""
    if not isinstance(architecture, dict) or "class_name" not in architecture:
        raise ValueError("no Keras architecture")
    if isinstance(architecture.get("config"), list):
        architecture["config"] = {"name": "sequential", "layers": architecture["config"]}
    _check_layers(architecture)
    return architecture


def _check_layers(model: Json) -> None:
    config = model.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise ValueError(
            f"a {str(model['class_name'])[:60]} does not say which layers it has; only models of keras.Sequential or "
            f"of the functional API, keras.Model(inputs, outputs), do"
        )
    for layer in config["layers"]:
        if not (isinstance(layer, dict) and "class_name" in layer and isinstance(layer.get("config"), dict)):
            raise ValueError("a layer without class_name or config")
        layer["config"].setdefault("name", layer.get("name", str(layer["class_name"]).lower()))
        if "layers" in layer["config"]:
            _check_layers(layer)


def _archive(path: Path) -> tuple[Any, str | None]:
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            torch = any(name.endswith("data.pkl") for name in archive.namelist())
            what = "a PyTorch file" if torch else "a zip archive without config.json"
            raise UserError(f"{path}: is {what}, no Keras model; allowed: {', '.join(FORMATS)}")
        architecture = json.loads(member(archive, "config.json", MAX_ARCHITECTURE))
        if "metadata.json" not in archive.namelist():
            return architecture, None
        return architecture, _version(json.loads(member(archive, "metadata.json", MAX_ARCHITECTURE)))


def _version(metadata: Any) -> str | None:
    found = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def _hdf5(path: Path) -> tuple[Any, str | None]:
    import h5py

    check_readable(path)
    with h5py.File(path, "r") as archive:
        stored = archive.attrs.get("model_config")
        if stored is None:
            raise UserError(f"{path}: contains only weights; save the whole model with model.save()")
        if len(stored) > MAX_ARCHITECTURE:
            raise ValueError(f"model_config has {len(stored)} bytes; at most {MAX_ARCHITECTURE} are read")
        version = archive.attrs.get("keras_version")
        return json.loads(stored), version.decode() if isinstance(version, bytes) else version


def _json(path: Path) -> tuple[Any, str | None]:
    if (size := path.stat().st_size) > MAX_ARCHITECTURE:
        raise ValueError(f"it has {size} bytes; at most {MAX_ARCHITECTURE} are read")
    architecture = json.loads(path.read_text(encoding="utf-8"))
    return architecture, _version(architecture)


def _saved_model(path: Path) -> tuple[Any, str | None]:
    """The description that Keras 2 writes beside the graph. The graph itself, which is code, is not read."""
    file = path / METADATA
    if not file.is_file():
        what = "a SavedModel without Keras' own description" if (path / "saved_model.pb").is_file() else "a folder"
        raise UserError(f"{path}: is {what} ({METADATA} is missing); {_SAVE}; allowed: {', '.join(FORMATS)}")
    if (size := file.stat().st_size) > MAX_ARCHITECTURE:
        raise ValueError(f"{METADATA} has {size} bytes; at most {MAX_ARCHITECTURE} are read")
    runtime()
    metadata = importlib.import_module("tf_keras.protobuf.saved_metadata_pb2").SavedMetadata()
    try:
        metadata.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's own class, which is not ours to import
        raise ValueError(f"{METADATA}: {error}") from None
    root = next((node.metadata for node in metadata.nodes if node.node_path == "root"), None)
    if root is None:
        raise ValueError(f"{METADATA} describes no model")
    described = plain(json.loads(root))
    return {key: described[key] for key in ("class_name", "config")}, None  # the rest tells how it was trained
