"""What the machine lacks: a compiler, room, permission. Told by name, with the way out."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli, snapshot
from helpers.models import qkeras_model, weight_quantizers, write_data

from hw.accelerator import Accelerator
from hw.experiment.folder import RunFolder
from hw.experiment.run import Run
from hw.generate.project import FileTree, HlsProject, Ports
from hw.simulate.csim import Csim
from hw.simulate.model_trace import model_trace
from hw.tools import doctor
from hw.tools.cache import cache_root
from hw.tools.toolchain import GXX, TOOLS
from qmodels import storage
from qmodels.errors import ToolMissing, UserError
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime

INSTALL = "Debian/Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++; macOS: xcode-select --install"


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> HlsProject:
    """A project of one line, and an empty cache."""
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path_factory.mktemp("empty-cache")))
    sources = {
        "firmware/tiny.cpp": b"// nothing\n",
        "tiny_bridge.cpp": b'extern "C" void tiny_float(void*, void*) {}\n',
    }
    return HlsProject("tiny", sources, Ports(((8, 8, 1),), ((1,),)))


#: Of a fake compiler: the file behind -o.
WRITES = '; while [ $# -gt 1 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done'


def fake_tool(folder: Path, name: str, script: str) -> Path:
    """A program on PATH."""
    folder.mkdir(exist_ok=True)
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return tool


@pytest.mark.parametrize("hide", ["PATH", "variable"])
def test_a_new_run_without_gxx_is_told_before_training(cli: Cli, monkeypatch: pytest.MonkeyPatch, hide: str) -> None:
    if hide == "PATH":
        monkeypatch.setenv("PATH", "/nonexistent")
    else:
        monkeypatch.setenv("ROBUST_HLS_GXX", "/nonexistent/g++")
    told = cli.refuses("run", status=3)
    assert told.startswith("robust-hls: g++ not found: it compiles hls4ml's C simulation")
    assert INSTALL in told
    assert "or set ROBUST_HLS_GXX to its path" in told


def test_training_alone_needs_no_gxx(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HLS_GXX", "/nonexistent/g++")
    tiny = ("data.limit_train=200", "model.architecture=mlp", "model.hidden=[4]", "training.epochs=1")
    settings = [word for setting in (*tiny, "training.method=standard") for word in ("--set", setting)]
    outcome = cli("train", *settings)
    assert outcome.status == 0, outcome.err
    assert (cli.folder / "hls_projects" / "digits" / "model.keras").is_file()


def test_a_failing_gxx_is_told_with_its_first_error(
    project: HlsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo 'note: starting' >&2\necho 'x.cpp:3:1: error: no room for this' >&2\necho 'second error' >&2\nexit 1"
    tool = fake_tool(tmp_path / "bin", "g++", script)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    with pytest.raises(ToolMissing) as caught:
        Csim(project)
    assert f"{tool} failed: x.cpp:3:1: error: no room for this (try: {tool} --version; {INSTALL})" == str(caught.value)
    assert not any(path.is_file() for path in cache_root().rglob("*"))


def test_a_failing_gxx_stops_a_run_with_status_3(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = fake_tool(cli.folder / "bin", "mygxx", "echo 'fatal error: ld returned 1' >&2\nexit 1")
    monkeypatch.setenv("ROBUST_HLS_GXX", str(tool))
    storage.save_model(qkeras_model(), cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    outcome = cli("simulate", "--model", "own.keras", "--data", "own.npz", "--engine", "csim")
    assert outcome.status == 3
    assert f"{tool} failed: fatal error: ld returned 1" in outcome.err
    assert not (cli.folder / "hls_projects" / "own" / "simulation.json").exists()


def test_a_gxx_that_says_nothing(project: HlsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HLS_GXX", str(fake_tool(tmp_path / "bin", "g++", "exit 7")))
    with pytest.raises(ToolMissing, match="failed: no message"):
        Csim(project)


def test_a_gxx_that_is_no_program(project: HlsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "g++"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    monkeypatch.setenv("ROBUST_HLS_GXX", str(broken))
    with pytest.raises(ToolMissing, match="cannot be run"):
        Csim(project)


@pytest.mark.gxx
def test_code_that_does_not_compile_is_told_with_the_compilers_words(project: HlsProject) -> None:
    spoiled = HlsProject(project.name, {**project.files, "firmware/tiny.cpp": b"int main( {\n"})
    with pytest.raises(ToolMissing, match=r"failed: firmware/tiny\.cpp:1:\d+: error: "):
        Csim(spoiled)


# The output folder


def test_a_file_in_the_place_of_the_run_folder(cli: Cli) -> None:
    (cli.folder / "taken").write_text("mine")
    told = cli.refuses("run", "--out", "taken")
    assert told == "robust-hls: taken: cannot write there (File exists); choose another --out\n"
    assert "taken/deeper: cannot write there (" in cli.refuses("run", "--out", "taken/deeper")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("function", ["mkdir", "open"])
def test_a_folder_that_is_not_writable(cli: Cli, monkeypatch: pytest.MonkeyPatch, number: int, function: str) -> None:
    """Tests may run as root, for whom everything is writable: the system call is made to fail."""
    owner: Any = Path if function == "mkdir" else os  # Python 3.10's Path keeps os.mkdir as it was at the start
    real = getattr(owner, function)

    def fail(path: Any, *rest: Any, **more: Any) -> Any:
        if "forbidden" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(owner, function, fail)
    told = cli.refuses("run", "--out", "forbidden")
    assert told == f"robust-hls: forbidden: cannot write there ({os.strerror(number)}); choose another --out\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(cli: Cli) -> None:
    (cli.folder / "locked").mkdir(mode=0o555)
    assert "cannot write there (Permission denied)" in cli.refuses("run", "--out", "locked/run")


def test_a_folder_in_which_another_run_works(cli: Cli) -> None:
    (cli.folder / "busy").mkdir()
    with (cli.folder / "busy" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = cli.refuses("run", "--out", "busy")
    assert told == "robust-hls: busy: another robust-hls works in this folder; wait or use --out\n"


# Disk full


def full_disk(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Writing a temporary file for a target of that suffix fails, as on a full disk."""
    real = Path.write_bytes

    def write_bytes(self: Path, content: bytes) -> int:
        if self.name.startswith(".part-") and self.suffix == suffix:
            real(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


@pytest.mark.parametrize(
    ("suffix", "file"), [(".yaml", "config.yaml"), (".json", ".robust-hls.json"), (".json", "environment.json")]
)
def test_a_disk_that_is_full_at_the_start(cli: Cli, monkeypatch: pytest.MonkeyPatch, suffix: str, file: str) -> None:
    if file == "environment.json":
        RunFolder(cli.folder / "run").claim()
    full_disk(monkeypatch, suffix)
    outcome = cli("train", "--out", "run")
    assert outcome.status == 2
    where = Path("run") / file
    assert outcome.err == (
        f"robust-hls: {where}: writing failed (No space left on device); the file was left as it was\n"
    )
    assert not (cli.folder / where).exists()
    assert not list(cli.folder.rglob(".part-*"))


def test_a_disk_that_fills_up_while_the_project_is_written(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project of an earlier run stays whole."""
    storage.save_model(qkeras_model(shape=(8, 8, 1), classes=10), cli.folder / "own.keras")
    assert cli("generate", "--model", "own.keras", "--out", "run").status == 0
    before = snapshot(cli.folder / "run" / "hls")
    real = Path.write_bytes

    def write_bytes(self: Path, content: bytes) -> int:
        if self.name == "nnet_dense.h" and "run" in self.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    outcome = cli("generate", "run", "--set", "hardware.clock_period_ns=7")
    assert outcome.status == 2
    assert outcome.err == "robust-hls: run/hls: writing failed (No space left on device); make room, then --resume\n"
    assert snapshot(cli.folder / "run" / "hls") == before
    assert not (cli.folder / "run" / ".hls.new").exists()


def test_a_full_disk_in_the_cache(project: HlsProject, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FileTree, folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(FileTree, "write", fail)
    with pytest.raises(UserError, match=r"No space left on device; make room or set ROBUST_HLS_CACHE to another one"):
        Csim(project)
    assert not any(path.is_file() for path in cache_root().rglob("*"))


def test_a_cache_that_is_not_writable(project: HlsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cache folder .*file/csim: .*; set ROBUST_HLS_CACHE to a writable folder"):
        Csim(project)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_any_other_write_that_fails_is_told_without_a_traceback(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever writes: checkpoints, plots, temporary folders."""
    from hw.experiment import pipeline

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(pipeline, "describe", fail)
    outcome = cli("train", "--out", "run")
    assert outcome.status == 2
    assert outcome.err == f"robust-hls: some/file: {os.strerror(number)}; make room or choose another --out\n"
    assert not (cli.folder / "run").exists()


def test_a_defect_of_ours_is_not_disguised(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from hw.experiment import pipeline

    monkeypatch.setattr(pipeline, "describe", lambda run: {}["defect"])
    with pytest.raises(KeyError, match="defect"):
        cli("train", "--out", "run")


def test_ctrl_c_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from hw.experiment import pipeline

    def interrupt(run: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "describe", interrupt)
    outcome = cli("train", "--out", "run")
    assert (outcome.status, outcome.err) == (130, "robust-hls: stopped; run again with --resume to continue\n")


# doctor


def test_the_doctor_names_what_is_missing_and_how_to_get_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("hw.tools.toolchain._packaged", lambda name: None)  # pip's are found without PATH
    outcome = cli("doctor")
    assert outcome.status == 3
    for tool in TOOLS:
        (line,) = [line for line in outcome.out.splitlines() if line.split()[1:2] == [tool.command]]
        assert "missing" in line
        assert tool.variable in line
    assert INSTALL in outcome.out


def test_the_doctor_finds_tools_on_the_path_and_by_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(cli.folder / "bin", "g++", f"echo 'g++ (Fake) 99.1'; echo 'second line'{WRITES}")
    fake_tool(cli.folder / "bin", "vivado", "[ $1 = -version ] && echo 'vivado v2099.1'")
    elsewhere = fake_tool(cli.folder / "opt", "my-yosys", "echo 'Yosys 0.99'")
    monkeypatch.setenv("PATH", f"{cli.folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv(next(tool.variable for tool in TOOLS if tool.command == "yosys"), str(elsewhere))
    outcome = cli("doctor")
    assert outcome.status == 0
    for expected in ("g++ (Fake) 99.1", "vivado v2099.1", "Yosys 0.99", str(elsewhere)):
        assert expected in outcome.out
    assert "second line" not in outcome.out
    for package in doctor.PACKAGES:
        assert package in outcome.out


def test_the_doctor_survives_a_tool_that_hangs_or_breaks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOOLS[1].variable, str(fake_tool(cli.folder / "bin", "vendor", "exit 1")))
    assert cli("doctor").status == 0


@pytest.mark.parametrize("script", ["exit 1", "exit 0"])
def test_the_doctor_tries_gxx(cli: Cli, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setenv(GXX.variable, str(fake_tool(cli.folder / "bin", "g++", script)))
    outcome = cli("doctor")
    assert outcome.status == 3
    assert "You still need: a g++ that works" in outcome.out
    assert ("failed: no message" if script == "exit 1" else "wrote no line.so") in outcome.out


def test_the_doctor_looks_at_the_cache(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "cache").mkdir()
    (cli.folder / "cache").chmod(0o777)
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(cli.folder / "cache"))
    outcome = cli("doctor")
    assert outcome.status == 3
    assert "You still need: a cache of your own" in outcome.out


def test_the_doctor_reports_a_missing_package(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    outcome = cli("doctor")
    assert outcome.status == 3
    assert "missing: pip install no-such-package" in outcome.out


# The gate


@pytest.mark.gxx
def test_one_wrong_weight_in_the_accelerator_stops_the_run_with_status_4(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project is generated from a model with one weight changed: the gate names the layer in which it sits."""
    model, wrong = two_layers(), two_layers()
    kernel, bias = wrong.get_layer("hidden").get_weights()
    kernel[3, 2] = -kernel[3, 2]
    wrong.get_layer("hidden").set_weights([kernel, bias])
    accelerator = Accelerator(wrong, engine="csim")
    monkeypatch.setattr(Run, "accelerator", accelerator)
    monkeypatch.setattr(
        accelerator, "trace", lambda x, engine: model_trace(wrong, IMAGE_GRID.to_values(x))
    )  # saves a compile
    storage.save_model(model, cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    outcome = cli("simulate", "--model", "own.keras", "--data", "own.npz", "--out", "run", "--engine", "csim")
    assert outcome.status == 4, outcome.err
    assert "robust-hls: csim differs from quantized in " in outcome.err
    assert "\n  input 0, class " in outcome.err
    assert "\nfirst layer that differs: 'hidden', sample 0, element (2,): " in outcome.err
    assert "1 of 4 values of this layer differ" in outcome.err
    assert not (cli.folder / "run" / "simulation.json").exists()


def two_layers() -> Any:
    """Sixteen inputs, four hidden units, three classes; half of the weights are one half, half minus one half."""
    q = runtime().qkeras
    hidden = [q.QDense(4, name="hidden", **weight_quantizers()), q.QActivation("quantized_relu(6,2)", name="relu")]
    model = qkeras_model(*hidden)
    rng = np.random.default_rng(0)
    for name in ("hidden", "logits"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([rng.choice([-0.5, 0.5], kernel.shape), bias + 0.5])
    return model
