"""A project is a value: same model and config, same bytes; nothing in it tells where, when or runs code."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

import pytest
import yaml
from helpers.models import HARDWARE, STREAM, Toolbox

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from hw.generate.project import HlsProject

RESOURCE = {"strategy": "resource", "layers": {"fc1": {"reuse_factor": 4}}}


@pytest.fixture(scope="module")
def project(toolbox: Toolbox) -> HlsProject:
    return Accelerator(toolbox.quantized.model, HARDWARE).project


def test_two_conversions_give_the_same_bytes(project: HlsProject, toolbox: Toolbox) -> None:
    again = Accelerator(toolbox.quantized.model, HARDWARE).project
    assert [path for path in project.files if project.files[path] != again.files.get(path)] == []
    assert again.digest == project.digest


def test_another_config_or_weight_gives_another_digest(project: HlsProject, toolbox: Toolbox) -> None:
    assert Accelerator(toolbox.quantized.model, STREAM).project.digest != project.digest
    weights = toolbox.quantized.model.get_weights()
    changed = [weights[0].copy(), *weights[1:]]
    changed[0].flat[0] = 0.0 if changed[0].flat[0] else changed[0].max()
    toolbox.quantized.model.set_weights(changed)
    try:
        assert Accelerator(toolbox.quantized.model, HARDWARE).project.digest != project.digest
    finally:
        toolbox.quantized.model.set_weights(weights)


def test_no_path_user_or_stamp_of_this_machine_is_inside(project: HlsProject) -> None:
    secrets = ["/tmp/", "robust-hls-", str(Path.home()) + "/", str(Path(__file__).parents[3])]
    if getpass.getuser() != "root":  # a word of its own in comments
        secrets.append(getpass.getuser())
    for path, content in project.files.items():
        assert not Path(path).is_absolute()
        for secret in secrets:
            assert secret.encode() not in content, (path, secret)


def test_the_yaml_inside_is_plain_and_has_no_model(project: HlsProject) -> None:
    text = project.files["hls4ml_config.yml"].decode()
    assert "!!" not in text
    plain = yaml.safe_load(text)
    assert plain["ProjectName"] == "accelerator"
    assert plain["OutputDir"] == "."
    assert "KerasModel" not in plain
    assert not [path for path in project.files if path.endswith((".keras", ".h5", ".pkl", ".pickle"))]


def test_the_config_reaches_the_project(toolbox: Toolbox) -> None:
    config = HardwareConfig(part="xc7z020clg400-1", clock_period_ns=7, project_name="mine", io_type="io_stream")
    files = Accelerator(toolbox.quantized.model, config).project.files
    tcl = b"".join(content for path, content in files.items() if path.endswith(".tcl")).decode()
    assert "xc7z020clg400-1" in tcl
    assert re.search(r"clock_period\s+7(\.0)?\b", tcl)
    assert b"void mine(" in files["firmware/mine.cpp"]
    assert b"hls::stream" in files["firmware/mine.cpp"]


def test_written_files_are_those_of_the_value(project: HlsProject, tmp_path: Path) -> None:
    project.write(tmp_path)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(project.files)
    assert all((tmp_path / path).read_bytes() == content for path, content in project.files.items())
    assert (tmp_path / "build_lib.sh").stat().st_mode & 0o111


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "firmware/../../outside"])
def test_a_path_that_leads_out_of_the_folder_is_not_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside the project"):
        HlsProject("evil", {path: b"x"}).write(tmp_path / "project")
    assert not (tmp_path / "outside").exists()


def test_the_digest_tells_where_a_file_ends() -> None:
    assert HlsProject("x", {"a": b"1", "b": b"2"}).digest != HlsProject("x", {"a": b"1b2"}).digest
    assert HlsProject("x", {"a": b"1", "b": b"2"}).digest == HlsProject("x", {"b": b"2", "a": b"1"}).digest


def test_large_layers_are_time_multiplexed_and_small_ones_unrolled(toolbox: Toolbox) -> None:
    by_hand = Accelerator(toolbox.quantized.model, HardwareConfig.model_validate(RESOURCE)).project
    header = by_hand.files["firmware/parameters.h"].decode()
    assert "nnet::resource" in header
    assert re.search(r"reuse_factor = 4;", header)
    automatic = Accelerator(toolbox.quantized.model, HARDWARE).project.files["firmware/parameters.h"].decode()
    assert "nnet::latency" in automatic
