"""hls4ml's C simulation gives QKeras' bits: io_parallel and io_stream, clean, random and extreme inputs."""

from __future__ import annotations

import contextlib
import gc
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.models import HARDWARE, STREAM, Toolbox, grid_codes

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from hw.generate.project import HlsProject, Ports
from hw.simulate import csim_process
from hw.simulate.csim import Csim
from hw.simulate.exactness import probe_inputs, require_exact
from hw.simulate.model_trace import model_trace
from qmodels.errors import SimulationFailed, ToolMissing, UserError
from qmodels.grid import EXTREMES, IMAGE_GRID
from qmodels.victims import KerasVictim, Victim

pytestmark = pytest.mark.gxx


@pytest.fixture(scope="module")
def reference(toolbox: Toolbox) -> KerasVictim:
    return KerasVictim(toolbox.quantized.model, "quantized")


@pytest.fixture(scope="module", params=[HARDWARE, STREAM], ids=["io_parallel", "io_stream"])
def csim(request: pytest.FixtureRequest, toolbox: Toolbox) -> Csim:
    config: HardwareConfig = request.param
    return Accelerator(toolbox.quantized.model, config).csim


def test_clean_random_and_extreme_inputs_give_the_same_bits(
    csim: Csim, reference: KerasVictim, toolbox: Toolbox
) -> None:
    images = probe_inputs(IMAGE_GRID, toolbox.data.test.x, 300, seed=0)
    assert len(images) == 80 + 600 + EXTREMES
    np.testing.assert_array_equal(csim.logits(images), reference.logits(images))
    assert require_exact(reference, csim, images).mismatched_outputs == 0


def test_it_is_a_victim_and_an_empty_batch_is_no_problem(csim: Csim) -> None:
    assert isinstance(csim, Victim)
    assert csim.name == "csim"
    assert csim.logits(grid_codes(0)).shape == (0, 10)
    assert csim.logits(grid_codes(1)).shape == (1, 10)


def test_the_order_and_the_neighbours_of_an_image_do_not_matter(csim: Csim) -> None:
    x = grid_codes(40, seed=3)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(csim.logits(x)[order], csim.logits(x[order]))


def test_inputs_that_are_not_contiguous_or_float64_are_read_right(csim: Csim, reference: KerasVictim) -> None:
    x = grid_codes(20, seed=4)
    expected = reference.logits(x)
    np.testing.assert_array_equal(csim.logits(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(csim.predict(IMAGE_GRID.to_values(x).astype(np.float64)), expected)
    with pytest.raises(UserError, match="contains uint8: the C simulation takes real numbers"):
        csim.predict(x)
    np.testing.assert_array_equal(csim.logits(np.repeat(x, 2, axis=0)[::2]), expected)


def test_every_layer_of_the_trace_is_that_of_qkeras(toolbox: Toolbox) -> None:
    x = grid_codes(3, seed=5)
    values = IMAGE_GRID.to_values(x)
    ours, theirs = model_trace(toolbox.quantized.model, values), Accelerator(toolbox.quantized.model).trace(x, "csim")
    common = [name for name in ours if name in theirs]
    assert {"conv1", "conv2", "fc1", "logits"} <= set(common)
    for name in common:
        np.testing.assert_array_equal(np.asarray(theirs[name]).reshape(ours[name].shape), ours[name], err_msg=name)


def tiny_project(value: int) -> HlsProject:
    """A top function that answers `value`."""
    body = f'extern "C" void tiny_float(float* x, float* y) {{ y[0] = {value}; }}\n'
    files = {"firmware/tiny.cpp": b"\n", "tiny_bridge.cpp": body.encode()}
    return HlsProject("tiny", files, Ports(((8, 8, 1),), ((1,),), reentrant=True))


def test_two_simulations_live_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same symbol names, different projects."""
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    one, two = (Csim(tiny_project(value)) for value in (1, 2))
    x = grid_codes(1)
    assert (one.logits(x)[0, 0], two.logits(x)[0, 0], one.logits(x)[0, 0]) == (1, 2, 1)


def test_it_is_compiled_once_even_when_asked_for_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    answers: list[float] = []

    def work() -> None:
        answers.append(float(Csim(tiny_project(7)).logits(grid_codes(1))[0, 0]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [7.0, 7.0, 7.0]
    assert len(list((tmp_path / "csim").iterdir())) == 1
    monkeypatch.setenv("ROBUST_HLS_GXX", "/nonexistent")  # from now on the cache must do
    assert Csim(tiny_project(7)).logits(grid_codes(1))[0, 0] == 7


# Generated C++ that goes wrong, in a process of its own


def project_of(body: str, weights: bytes = b"1\n") -> HlsProject:
    """A top function with that body."""
    names = ("cstdlib", "signal.h", "unistd.h", *(("fstream",) if "std::ifstream" in body else ()))
    headers = "".join(f"#include <{name}>\n" for name in names)
    code = f'{headers}extern "C" void tiny_float(float* x, float* y) {{ {body} }}\n'
    files = {"firmware/tiny.cpp": b"\n", "tiny_bridge.cpp": code.encode(), "firmware/weights/w.txt": weights}
    return HlsProject("tiny", files, Ports(((8, 8, 1),), ((1,),), reentrant=True))


#: What the generated code does, and what is told of it.
WRONG = (
    ("*(volatile int*)nullptr = 1;", "crashed: SIGSEGV in the generated C++"),
    ("abort();", "crashed: SIGABRT in the generated C++"),
    ("if (x[5] > 0.5f) exit(3); y[0] = 1;", r"ended itself: its C\+\+ called exit\(3\)"),
    ("_exit(0);", r"ended itself: its C\+\+ called exit\(0\)"),
    ("kill(getpid(), 9);", "crashed: SIGKILL in the generated C.*; too little memory"),
    (
        "for (;;) { volatile int i = 0; i = i + 1; }",
        "finished no sample for 1 s and was stopped; .*: set ROBUST_HLS_CSIM_SECONDS",
    ),
)


@pytest.mark.parametrize("which", range(len(WRONG)))
def test_generated_code_that_goes_wrong_is_one_message(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    monkeypatch.setenv("ROBUST_HLS_CSIM_SECONDS", "1")
    monkeypatch.setattr(csim_process, "_POLL_SECONDS", 0.1)
    # One library for all: the first pixel chooses.
    project = project_of("".join(f"if (x[0] * 256 == {n}) {{ {body} }}\n" for n, (body, _) in enumerate(WRONG)))
    endless = "for (;;)" in WRONG[which][0]  # one thread of it is enough
    csim = Csim(replace(project, ports=replace(project.ports, reentrant=not endless)))
    images = np.full((9, 8, 8, 1), 255, np.uint8)
    images[:, 0, 0] = which
    for _ in range(2):  # and the next call starts anew
        with pytest.raises(SimulationFailed, match=WRONG[which][1]):
            csim.logits(images)


def test_weights_are_read_wherever_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, spaces, letters, a relative path; and a cache that was moved."""
    project = project_of('std::ifstream file(WEIGHTS_DIR "/w.txt"); if (!(file >> y[0])) exit(1);', b"5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUST_HLS_CACHE", "it's \"ä\\ cache")
    assert Csim(project).logits(grid_codes(1))[0, 0] == 5
    (tmp_path / "it's \"ä\\ cache").rename(tmp_path / "moved")
    monkeypatch.setenv("ROBUST_HLS_CACHE", "moved")
    monkeypatch.setenv("ROBUST_HLS_GXX", "/nonexistent")
    assert Csim(project).logits(grid_codes(1))[0, 0] == 5


def test_other_weights_need_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    reads = 'std::ifstream file(WEIGHTS_DIR "/w.txt"); if (!(file >> y[0])) exit(1);'
    header = b"//Min %d\n#ifndef __SYNTHESIS__\nextern int w[1];\n#else\nint w[1] = {%d};\n#endif\n"
    first, second = (
        replace(project, files={**project.files, "firmware/weights/w.h": header % (value, value)})
        for value in (5, 6)
        for project in [project_of(reads, b"%d\n" % value)]
    )
    compiled = Csim(first)
    monkeypatch.setenv("ROBUST_HLS_GXX", "/nonexistent")
    assert [csim.logits(grid_codes(1))[0, 0] for csim in (Csim(second), compiled)] == [6, 5]
    own = {**second.files, "firmware/weights/w2.h": header % (6, 6)}  # without a text beside it: g++ reads the numbers
    with pytest.raises(ToolMissing):
        Csim(replace(second, files=own))


#: A g++ that cannot use what it has precompiled; what it was asked for is in a file.
_NO_PRECOMPILED = """#!/bin/sh
case "$*" in
  *c++-header*) echo precompiled >> LOG; echo > csim_types.h.gch;;
  *-include*) echo used >> LOG; echo "csim_types.h.gch: fatal error: had to relocate PCH" >&2; exit 1;;
  *--version*) echo 1.0;;
  *) echo plain >> LOG; exec g++ "$@";;
esac
"""


def test_number_types_are_precompiled_for_the_second_network_and_may_be_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path / "cache"))
    compiler, log = tmp_path / "compiler", tmp_path / "log"
    compiler.write_text(_NO_PRECOMPILED.replace("LOG", str(log)))
    compiler.chmod(0o755)
    monkeypatch.setenv("ROBUST_HLS_GXX", str(compiler))
    for value in (1, 2, 3):
        project = tiny_project(value)
        csim = Csim(replace(project, files={**project.files, "firmware/ap_types/ap_int.h": b"\n"}))
        assert csim.logits(grid_codes(1))[0, 0] == value
    assert log.read_text().split() == ["plain", "precompiled", "used", "plain", "used", "plain"]


READS = project_of('std::ifstream file(WEIGHTS_DIR "/w.txt"); if (!(file >> y[0])) exit(1);', b"7\n")


@pytest.fixture(scope="module")
def whole_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with `READS` in it; for copying only."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_HLS_CACHE", str(folder))
        Csim(READS)
    return folder


@pytest.mark.parametrize("file", ["csim.so", "firmware/weights/w.txt"])
@pytest.mark.parametrize("spoil", ["empty", "half", "missing"])
def test_a_damaged_entry_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_cache: Path, file: str, spoil: str
) -> None:
    shutil.copytree(whole_cache, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    project = READS
    (entry,) = (tmp_path / ("csim" if file == "csim.so" else "csim-weights")).iterdir()
    content = (entry / file).read_bytes()
    if spoil == "missing":
        (entry / file).unlink()
    else:
        (entry / file).write_bytes(content[: len(content) // 2] if spoil == "half" else b"")
    assert Csim(project).logits(grid_codes(1))[0, 0] == 7
    assert (entry / file).stat().st_size == len(content)


def test_no_process_stays_when_the_simulation_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    csim = Csim(tiny_project(1))
    csim.logits(grid_codes(1))
    assert workers(tmp_path)
    del csim
    gc.collect()
    assert not workers(tmp_path)


@pytest.mark.parametrize("body", ["y[0] = 1; sleep(60);", "for (;;) { volatile int i = 0; i = i + 1; }"])
def test_no_process_stays_when_we_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setenv("ROBUST_HLS_CACHE", str(tmp_path))
    Csim(project_of(body))
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), body])
    wait_until(lambda: len(workers(tmp_path)) == 1)
    child.kill()
    child.wait()
    wait_until(lambda: not workers(tmp_path))


KILLED = """
import sys
from pathlib import Path
import numpy as np
from hw.simulate.csim_process import CsimProcess
(entry,) = (Path(sys.argv[1]) / "csim").iterdir()
x, y = np.zeros((1, 64), np.float32), np.zeros((1, 1), np.float32)
CsimProcess(entry, entry / "csim.so").call({"top": "tiny_float", "samples": 1, "threads": 1}, [x], [y])
"""


def workers(folder: Path) -> list[str]:
    """Processes that run something of that folder's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(word.endswith(b"csim_worker.py") for word in words) and str(folder).encode() in b" ".join(words):
                found.append(path.parent.name)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
