"""HDF5 files that libhdf5 itself does not survive, and what one may hold."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.damaged import CRASHES, HANGS, content_of, damaged
from helpers.models import qkeras_model

from qmodels.errors import UserError
from qmodels.loading import load_model
from qmodels.loading.hdf5 import check_content, check_readable
from qmodels.storage import save_model


@pytest.mark.parametrize(("text", "told"), [(HANGS, "never ends"), (CRASHES, "crashes")])
def test_a_file_that_libhdf5_does_not_survive(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"own.h5: not a readable .h5 model .*HDF5's own library {told} on it"):
        load_model(damaged(tmp_path, text))


def test_weights_that_libhdf5_does_not_survive(tmp_path: Path) -> None:
    model = qkeras_model()
    (tmp_path / "own.json").write_text(model.to_json())
    damaged(tmp_path, CRASHES, "own.weights.h5")
    with pytest.raises(UserError, match=r"own.weights.h5: does not contain the weights of .*: the file is damaged"):
        load_model(tmp_path / "own.json")
    save_model(model, tmp_path / "own.keras")
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.weights.h5"] = content_of(CRASHES)
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"own.keras: cannot be loaded .*: the file is damaged: HDF5's own library"):
        load_model(tmp_path / "own.keras")


def test_weights_that_unpack_to_gigabytes_are_not_unpacked(tmp_path: Path) -> None:
    save_model(qkeras_model(), tmp_path / "own.keras")
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != "model.weights.h5"}
    with zipfile.ZipFile(tmp_path / "own.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("model.weights.h5", bytes(40 << 20))
    with pytest.raises(UserError, match=r"model.weights.h5 unpacks to 41943040 bytes; at most 167\d+ are read"):
        load_model(tmp_path / "own.keras")


def file_with(**datasets: Any) -> h5py.File:
    file = h5py.File(BytesIO(), "w")
    for name, settings in datasets.items():
        file.create_dataset(name, **settings)
    return file


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shape": (10**6, 10**6), "dtype": "f4", "chunks": True}, "at most 1600000000 bytes of numbers are read"),
        ({"shape": (30_000, 30_000), "dtype": "f8", "chunks": True}, "at most 1600000000 bytes"),
        ({"shape": (3,), "dtype": "S100000000"}, r"/a contains \|S100000000, no numbers"),
        ({"data": ["text"]}, "/a contains object, no numbers"),
    ],
)
def test_what_is_too_large_or_no_number(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_content(file_with(a=settings))


def test_links_and_circles() -> None:
    file = file_with(a={"data": np.zeros(3)})
    check_content(file)
    file["b"] = h5py.SoftLink("/a")
    with pytest.raises(ValueError, match="//b is a link"):
        check_content(file)
    del file["b"]
    file["b"] = file["a"]
    with pytest.raises(ValueError, match="//b is elsewhere in the file too"):
        check_content(file)
    del file["b"]
    file.create_group("g")["up"] = file
    with pytest.raises(ValueError, match="/g/up is elsewhere"):
        check_content(file)


def test_every_good_file_is_readable(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = json.dumps({"a": 1})
        file.create_dataset("g/packed", data=np.zeros((300, 300)), chunks=(100, 100), compression="gzip")
        file.create_dataset("g/flat", data=np.arange(3))
        file.create_dataset("g/empty", shape=None, dtype="f4")
        file.create_dataset("one", data=1.0)
    check_readable(tmp_path / "a.h5")
