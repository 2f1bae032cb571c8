"""The ARM kernels give the bits of this machine's: cross-compiled for each instruction set, and run by qemu.

Debian and Ubuntu: apt install g++-aarch64-linux-gnu qemu-user
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.codes import Status
from hw.simulate.bitsim.encode import encode
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.inputs import read
from hw.simulate.bitsim.kernels.library import ARM, SOURCES, codes_header
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Network, Value
from tests.helpers.byte_layers import byte_layers
from tests.helpers.random_networks import random_model

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
MISSING = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.gxx,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (g++-aarch64-linux-gnu, qemu-user)"),
]
DRIVER = Path(__file__).parents[3] / "hw/data/bitsim_driver.cpp"
LANES, SAMPLES = 8, 21  # of a 128-bit vector; two whole blocks and a part
SEEDS = [400_000 + n for n in (0, 2, 4, 5, 9, 11, 13, 14, 16, 19, 21)]


@dataclass(frozen=True)
class Driver:
    """A program for one of ARM's instruction sets, and its name."""

    program: Path
    isa: str


@pytest.fixture(scope="module", params=ARM)
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    folder = tmp_path_factory.mktemp("arm")
    (folder / "codes.h").write_text(codes_header())
    flags = ["-std=c++20", "-O1", "-static", "-pthread", f"-I{folder}", *ARM[request.param].flags]
    sources = [str(SOURCES / "bitsim.cpp"), str(DRIVER)]
    subprocess.run([COMPILER, *flags, "-o", str(folder / "driver"), *sources], check=True)
    return Driver(folder / "driver", request.param)


def run_there(
    driver: Driver, network: Network, seen: tuple[Value, ...], inputs: list[np.ndarray], fraction: int | None = None
) -> list[np.ndarray]:
    """The seen values (N, elements) as the emulated processor computes them."""
    encoded = encode(network, seen, LANES, quads=driver.isa != "neon")
    samples = read(inputs, fraction, network.inputs)
    count = len(samples[0].array)
    parts: list[bytes] = []

    def say(*numbers: int) -> None:
        parts.append(np.array(numbers, np.int64).tobytes())

    say(len(encoded.code), *encoded.code)
    say(len(encoded.blobs))
    for blob in encoded.blobs:
        say(blob.nbytes)
        parts.append(blob.tobytes())
    say(count, 0, len(samples))
    for sample in samples:
        say(int(sample.element), sample.fraction, sample.array.nbytes)
        parts.append(sample.array.tobytes())
    say(len(seen), *(4 * count * value.size for value in seen))
    question, answer = driver.program.parent / "question", driver.program.parent / "answer"
    question.write_bytes(b"".join(parts))
    command = [EMULATOR, "-cpu", "max", str(driver.program), str(question), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (int(Status.DONE), f"{driver.isa}\n"), done.stderr
    found = np.frombuffer(answer.read_bytes(), np.float32)
    ends = np.cumsum([count * value.size for value in seen])[:-1]
    return [part.reshape(count, -1) for part in np.split(found, ends)]


@pytest.mark.parametrize("stream", [False, True], ids=["io_parallel", "io_stream"])
def test_random_networks_have_the_same_bits_on_arm(driver: Driver, tmp_path: Path, stream: bool) -> None:
    model = random_model([seed + 100_000 * stream for seed in SEEDS[:9]], tmp_path, stream)
    inputs = model.inputs(SAMPLES, 1)
    network = lower(model.graph)
    simulator = BitSim(network)
    fused = fuse(network)
    for here, there in zip(simulator.predict(inputs), run_there(driver, fused, fused.outputs, inputs), strict=True):
        np.testing.assert_array_equal(there, here.reshape(there.shape))
    traced = simulator.trace(inputs)
    layers = run_there(driver, network, tuple(network.traced.values()), inputs)
    for name, there in zip(network.traced, layers, strict=True):
        np.testing.assert_array_equal(there, traced[name].reshape(there.shape), err_msg=name)


def test_bytes_at_their_extremes_give_what_numpy_computes_on_arm(driver: Driver) -> None:
    for layer in byte_layers():
        (found,) = run_there(driver, layer.network, layer.network.outputs, [layer.codes], 0)
        np.testing.assert_array_equal(found, layer.wanted, err_msg=layer.kernel)
