"""Files appear whole or not at all; models come back as they were saved."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox, grid_images

from qmodels.digest import digest_of, file_digest
from qmodels.errors import UserError
from qmodels.loading import load_model
from qmodels.storage import atomic_path, save_model, write_bytes, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folder_and_readable_for_all(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b.bin", b"content")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"content"
    assert (tmp_path / "a" / "b.bin").stat().st_mode & 0o777 == 0o644
    assert names(tmp_path / "a") == ["b.bin"]


@pytest.mark.parametrize("failure", [RuntimeError("defect"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path, failure: BaseException) -> None:
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(type(failure)), atomic_path(tmp_path / "file") as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with (
        pytest.raises(
            UserError, match=r"file: writing failed \(No space left on device\); the file was left as it was"
        ),
        atomic_path(tmp_path / "file") as temporary,
        Path("/dev/full").open("wb", buffering=0) as full,  # every write fails with ENOSPC
    ):
        temporary.write_bytes(b"half")
        full.write(b"x")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_error_without_a_number_is_told_by_its_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write data"), atomic_path(tmp_path / "file"):
        raise OSError("cannot write data")  # as h5py raises


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkstemp", fail)
    with pytest.raises(UserError, match=r"cannot write there \(Permission denied\); choose another --out"):
        write_bytes(tmp_path / "file", b"x")


def test_a_model_that_does_not_fit_on_the_disk(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(path: Path) -> None:
        path.write_bytes(b"half a model")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(toolbox.float_model, "save", save)
    with pytest.raises(UserError, match=r"model\.keras: writing failed \(No space left on device\)"):
        save_model(toolbox.float_model, tmp_path / "model.keras")
    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"accuracy": value})
    assert names(tmp_path) == []


def test_json_is_plain_text_that_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"µ": [1, 2.5, None]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"µ": [1, 2.5, None]}


def test_digests_tell_content_not_order(tmp_path: Path) -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    write_bytes(tmp_path / "a", b"1")
    write_bytes(tmp_path / "b", b"1")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")  # what we test, on purpose
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("kind", ["float", "quantized"])
def test_a_model_comes_back_with_the_same_bits(toolbox: Toolbox, tmp_path: Path, kind: str, suffix: str) -> None:
    model = toolbox.float_model if kind == "float" else toolbox.quantized.model
    save_model(model, tmp_path / f"model{suffix}")
    loaded = load_model(tmp_path / f"model{suffix}")
    x = grid_images(50)
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
