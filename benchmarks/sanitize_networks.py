"""Networks for `benchmarks/sanitize.py`: lowered, with inputs and the outputs of the normal build.

`python -m benchmarks.sanitize_networks FILE MODELS BRANCHES` needs TensorFlow and hls4ml; who reads the file does not.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.inputs import Array
from hw.simulate.bitsim.program import Input, Linear, Map, Network, Value, Window
from hw.simulate.bitsim.recipes import Cast, Recipe
from hw.simulate.gradients import Gradients
from hw.simulate.gradients.network import Network as Integers
from hw.simulate.gradients.reading import read
from qmodels.formats import FixedPoint, Overflow, Rounding

SAMPLES = 67  # two blocks of 32 lanes and a part of one
CODES = ("uint8", "int8", "uint16", "int16", "int32")


@dataclass(frozen=True)
class Job:
    """One network on some inputs, and what must come out."""

    network: int  # which
    inputs: list[Array]
    fraction: int | None
    outputs: list[Array]
    trace: list[Array] | None


@dataclass(frozen=True)
class GradientJob:
    """A network of gradients in integers, points of its grid, a gradient by its outputs, and what must come out."""

    network: Integers
    points: NDArray[np.float32]
    upstream: NDArray[np.float32]
    outputs: NDArray[np.float32]
    gradient: NDArray[np.float32]


@dataclass(frozen=True)
class Jobs:
    """All of them; `random` counts the random networks, which are branches of models."""

    networks: list[Network]
    jobs: list[Job]
    random: int
    gradients: list[GradientJob]


def random_networks(models: int, branches: int) -> list[Network]:
    """Half of them io_parallel, half io_stream; seeds as in the fuzz benchmark, halved where hls4ml refuses one."""
    from tests.helpers.random_networks import random_model

    def lowered(seeds: list[int], stream: bool) -> list[Network]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                return [BitSim.from_graph(random_model(seeds, Path(folder) / "model", stream).graph).network]
            except Exception:  # hls4ml raises whatever it likes
                middle = len(seeds) // 2
                halves = (seeds[:middle], seeds[middle:]) if middle else ()  # a network that is refused is left out
                return [network for half in halves for network in lowered(half, stream)]

    found = []
    for model in range(models):
        first = 600_000 + 1000 * model
        found += lowered([first + branch for branch in range(branches)], model % 2 == 1)
        sys.stderr.write(f"{len(found)} models lowered\n")
    return found


def fast_networks(rng: np.random.Generator) -> list[Network]:
    """What random ones seldom have: formats that prove the narrow kernels right, and numbers of 16 and 64 bits."""
    found = []
    for channels, filters, bits, kernel, stride, pad in (
        *((1, 1, 2, 1, 1, 0), (3, 5, 4, 3, 1, 1), (4, 7, 8, 3, 2, 1), (2, 6, 6, 5, 1, 2)),
        *((5, 3, 2, 2, 2, 0), (16, 9, 8, 3, 1, 1), (64, 6, 4, 3, 1, 1)),
    ):
        for signed in (False, True):
            image = Value(0, "image", (9, 11, channels), FixedPoint(8, 0, signed, Rounding.RND_CONV, Overflow.SAT))
            size = [(side + 2 * pad - kernel) // stride + 1 for side in (9, 11)]
            fmt = FixedPoint(8, 2, False, Rounding.RND_CONV, Overflow.SAT)
            out = Value(1, "conv", (*size, filters), fmt)
            weight = FixedPoint(bits, 1)
            fraction = image.format.fraction + weight.fraction
            accumulator = FixedPoint(32, 32 - fraction)
            weights = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (filters, kernel, kernel, channels))
            bias = rng.integers(-50, 50, filters)
            window = Window(kernel, kernel, stride, stride, pad, pad)
            recipe = Recipe((Cast(accumulator, fmt),))
            conv = Linear(image, out, window, weights, weight, bias, accumulator, recipe, "conv")
            found.append(Network((Input(image, 0), conv), (image,), (out,), {"conv": out}))
    words, total = Value(0, "words", (9,), FixedPoint(16, 16, False)), FixedPoint(32, 32)
    sums, weights = Value(1, "sums", (5,), total), rng.integers(-(1 << 15) + 1, 1 << 15, (5, 1, 1, 9))
    recipe, bias = Recipe((Cast(total, total),)), rng.integers(-1000, 1000, 5)
    dense = Linear(words, sums, Window(), weights, FixedPoint(16, 16), bias, total, recipe, "sums")
    found.append(Network((Input(words, 0), dense), (words,), (sums,), {"sums": sums}))
    wide = Value(0, "wide", (5,), FixedPoint(64, 64, False, Rounding.RND, Overflow.SAT))
    low = Value(1, "low", (5,), FixedPoint(30, 30, False))
    cast = Map(wide, low, Recipe((Cast(wide.format, low.format),)))
    return [*found, Network((Input(wide, 0), cast), (wide,), (low,), {"wide": wide, "low": low})]


def jobs_of(number: int, network: Network, rng: np.random.Generator) -> list[Job]:
    """Clean, random and extreme inputs of every type, whole and in odd numbers of samples."""
    simulator = BitSim(network)
    given: list[tuple[list[Array], int | None]] = [
        (_floats(network, rng, SAMPLES, "clean"), None),
        (_floats(network, rng, SAMPLES, "random"), None),
        (_floats(network, rng, 33, "extreme"), None),
        ([x.astype(np.float64) for x in _floats(network, rng, 1, "random")], None),
    ]
    for name in CODES:
        info, fraction = np.iinfo(name), int(rng.integers(0, 12))
        shapes = [(int(rng.choice([1, 15, 31, 34])), *value.shape) for value in network.inputs]
        codes = [rng.integers(info.min, info.max, (shapes[0][0], *shape[1:]), endpoint=True) for shape in shapes]
        ends = [np.where(rng.random(x.shape) < 0.2, rng.choice([info.min, info.max], x.shape), x) for x in codes]
        given.append(([x.astype(name) for x in ends], fraction))
    jobs = []
    for inputs, fraction in given:
        predicted = simulator.predict(inputs, threads=1, fraction=fraction)
        traced = simulator.trace(inputs, threads=1, fraction=fraction) if fraction is None else None
        outputs = predicted if isinstance(predicted, list) else [predicted]
        jobs.append(Job(number, inputs, fraction, outputs, None if traced is None else list(traced.values())))
    return jobs


def gradient_jobs(count: int, rng: np.random.Generator) -> list[GradientJob]:
    """Random networks, each on a number of samples that is no multiple of a vector's."""
    from qmodels.quantize.prequantized import prequantize
    from tests.helpers.integer_networks import RandomNetwork

    found = []
    for seed in range(count):
        drawn = RandomNetwork(seed)
        network = read(prequantize(drawn.model), drawn.grid)
        engine = Gradients(network)
        points = drawn.grid.random(37, drawn.model.input_shape[1:], rng).astype(np.float32)
        upstream = rng.normal(size=(37, drawn.model.output_shape[-1])).astype(np.float32)
        outputs, ticket = engine.forward(points)
        found.append(GradientJob(network, points, upstream, outputs, engine.backward(upstream, ticket)))
    return found


def _floats(network: Network, rng: np.random.Generator, samples: int, kind: str) -> list[NDArray[Any]]:
    arrays = []
    for value in network.inputs:
        fmt, shape = value.format, (samples, *value.shape)
        inside = rng.uniform(fmt.minimum, fmt.maximum, shape)
        if kind == "clean":
            chosen = np.round(inside / fmt.lsb) * fmt.lsb
        elif kind == "random":
            halves = np.round(inside / fmt.lsb) * fmt.lsb + fmt.lsb * rng.choice([0.5, -0.5, 0.25], shape)
            chosen = np.where(rng.random(shape) < 0.5, rng.normal(size=shape) * fmt.maximum * 3, halves)
        else:
            ends = [fmt.minimum, fmt.maximum, -0.0, 3.0e38, -3.0e38, 1e-45, -1e-45, 2.0**31, -(2.0**63), np.inf]
            chosen = rng.choice(np.array(ends), shape)
        arrays.append(chosen.astype(np.float32))
    return arrays


def main() -> None:
    """Write the file."""
    path, models, branches = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(18)
    drawn = random_networks(models, branches)
    networks = [*drawn, *fast_networks(rng)]
    jobs = [job for number, network in enumerate(networks) for job in jobs_of(number, network, rng)]
    random = sum(len(network.inputs) for network in drawn)
    path.write_bytes(pickle.dumps(Jobs(networks, jobs, random, gradient_jobs(10 * models, rng))))


if __name__ == "__main__":
    from benchmarks import sanitize_networks  # what is pickled is found by the module's name

    sanitize_networks.main()
