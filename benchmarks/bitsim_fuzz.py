"""Random networks, formats, modes and inputs: bitsim against hls4ml's C simulation, bit by bit, layer by layer.

    python benchmarks/bitsim_fuzz.py --networks 1000 [--quick] [--seed 0] [--json OUT]

Networks are compiled many at a time, as branches of one hls4ml model; half of the models are io_parallel, half
io_stream. One process a CPU.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Report  # noqa: E402
from qmodels.processors import processors  # noqa: E402

PER_MODEL = 40
SAMPLES = 32


@dataclass(frozen=True)
class Batch:
    """What one model's comparison found."""

    networks: int
    outputs: int
    layers: int
    mismatches: int
    first: tuple[str, ...]
    skipped: tuple[str, ...]
    seconds: float


def compare(seeds: list[int], stream: bool) -> Batch:
    """One model with one branch a seed; the model is halved where hls4ml or g++ refuses it."""
    start = time.perf_counter()
    from hw.simulate.bitsim import BitSim
    from hw.simulate.explain import explain
    from tests.helpers.random_networks import random_model

    folder = Path(tempfile.mkdtemp(prefix="bitsim-fuzz-"))
    try:
        model = random_model(seeds, folder, stream)
        simulator = BitSim.from_graph(model.graph)
        inputs = model.inputs(SAMPLES, seeds[0])
        _, reference = model.csim(inputs)
        candidate = simulator.trace(inputs)
        outputs = simulator.predict(inputs)
    except Exception as error:  # hls4ml raises whatever it likes
        return _halves(seeds, stream, error, start)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shared = [name for name in reference if name in candidate]
    wrong = [name for name in shared if (reference[name].reshape(candidate[name].shape) != candidate[name]).any()]
    mismatches = sum(int((reference[n].reshape(candidate[n].shape) != candidate[n]).sum()) for n in wrong)
    told = [str(explain({n: reference[n]}, {n: candidate[n]}, simulator.formats)) for n in wrong[:3]]
    # predict fuses what trace keeps apart
    for value, out in zip(simulator.outputs, outputs if isinstance(outputs, list) else [outputs], strict=True):
        expected = candidate.get(value)
        if expected is not None and (expected.reshape(out.shape) != out).any():
            mismatches += int((expected.reshape(out.shape) != out).sum())
            told.append(f"output {value!r}: predict and trace differ (seeds {seeds[0]}..{seeds[-1]})")
    compared = sum(reference[name].size for name in shared)
    return Batch(len(seeds), compared, len(shared), mismatches, tuple(told), (), time.perf_counter() - start)


def _halves(seeds: list[int], stream: bool, error: BaseException, start: float) -> Batch:
    """One branch that cannot be built must not hide the others."""
    if len(seeds) == 1:
        why = f"seed {seeds[0]}: {type(error).__name__}: {str(error)[:300]}"
        return Batch(0, 0, 0, 0, (), (why,), time.perf_counter() - start)
    middle = len(seeds) // 2
    one, two = compare(seeds[:middle], stream), compare(seeds[middle:], stream)
    return Batch(
        one.networks + two.networks,
        one.outputs + two.outputs,
        one.layers + two.layers,
        one.mismatches + two.mismatches,
        one.first + two.first,
        one.skipped + two.skipped,
        time.perf_counter() - start,
    )


def main() -> int:
    """Run and report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--networks", type=int, default=1000)
    arguments.add_argument("--quick", action="store_true", help="80 networks")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--workers", type=int, default=processors())
    arguments.add_argument("--json", type=Path, metavar="OUT")
    options = arguments.parse_args()
    if options.quick:
        options.networks = 80
    first = options.seed * 1_000_000
    seeds = list(range(first, first + options.networks))
    jobs = [seeds[i : i + PER_MODEL] for i in range(0, len(seeds), PER_MODEL)]
    report, start = Report(), time.perf_counter()
    networks = outputs = mismatches = layers = 0
    skipped: list[str] = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(compare, job, i % 2 == 1) for i, job in enumerate(jobs)]
        for future in as_completed(futures):
            batch = future.result()
            networks, outputs = networks + batch.networks, outputs + batch.outputs
            mismatches, layers = mismatches + batch.mismatches, layers + batch.layers
            skipped += batch.skipped
            elapsed = time.perf_counter() - start
            done = f"{networks:5d} networks {layers:6d} layers {outputs:9d} numbers"
            print(f"{done} {mismatches} mismatches {elapsed:6.0f} s", flush=True)
            for line in (*batch.first, *batch.skipped):
                print("   ", line, flush=True)
    report.figure("networks", networks, f"{layers} layers, {len(skipped)} networks that hls4ml or g++ refused")
    report.figure("outputs_compared", outputs)
    report.figure("mismatches", mismatches)
    report.details = {"seconds": time.perf_counter() - start, "layers": layers, "skipped": skipped}
    report.write(options.json)
    return int(mismatches > 0 or networks == 0)


if __name__ == "__main__":
    sys.exit(main())
