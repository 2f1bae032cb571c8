"""hls4ml's C simulation gives QKeras' bits: io_parallel and io_stream, clean, random and extreme inputs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.models import HARDWARE, STREAM, Toolbox, grid_codes

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from hw.generate.project import HlsProject, Ports
from hw.simulate.csim import Csim
from hw.simulate.exactness import probe_inputs, require_exact
from hw.simulate.model_trace import model_trace
from qmodels.errors import UserError
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
    with pytest.raises(UserError, match="holds uint8: the C simulation takes real numbers"):
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
