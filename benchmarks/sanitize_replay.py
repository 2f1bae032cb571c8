"""Runs the networks of `benchmarks/sanitize_networks.py` on sanitized kernels; a finding ends the process.

`python -m benchmarks.sanitize_replay FILE EVERY [KERNELS]`, with libasan in LD_PRELOAD: every so many jobs, on the
kernels in the folder KERNELS. The last line is JSON: `jobs`, `differing`, and `missed`, what of bitsim never ran.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sanitize_networks import GradientJob, Job, Jobs
from hw.simulate.bitsim.codes import Element, LinearKernel, Merge, Opcode, SoftmaxKind, StepCode, Storage
from hw.simulate.bitsim.encode import network as encoding
from hw.simulate.bitsim.encode.compiler import Compiler
from hw.simulate.bitsim.encode.encoder import Encoder
from hw.simulate.bitsim.encode.memory import Slot, root
from hw.simulate.bitsim.inputs import Array
from hw.simulate.bitsim.kernels import library
from hw.simulate.bitsim.program import Binary, Network, Softmax
from hw.simulate.bitsim.simulator import BitSim, _Machine
from hw.simulate.gradients import Gradients

_GAP = 64
#: hls4ml's graphs cannot express WRAP_SM (docs/hls4ml_findings.md).
_NEVER = {"StepCode.WRAP_SM"}


_KINDS: tuple[type[IntEnum], ...] = (Opcode, StepCode, LinearKernel, Merge, SoftmaxKind, Storage, Element)


class _Seen:
    """What of bitsim was encoded, and so ran."""

    def __init__(self) -> None:
        self.names: set[str] = set()  # equal numbers of two enums are equal
        emit, steps = Encoder.emit, Encoder.steps

        def emitted(encoder: Encoder, opcode: Opcode, *numbers: int) -> None:
            self.add([opcode])
            emit(encoder, opcode, *numbers)

        def stepped(encoder: Encoder, compiled: Compiler | None) -> list[int]:
            self.add(step.code for step in (compiled.steps if compiled is not None else ()))
            return steps(encoder, compiled)

        Encoder.emit, Encoder.steps = emitted, stepped  # type: ignore[method-assign]

    def add(self, codes: Iterable[IntEnum]) -> None:
        """They were there."""
        self.names.update(map(_name, codes))

    def look(self, machine: _Machine, network: Network) -> None:
        """Kernels of linear layers, ways of softmax, merges."""
        self.add(machine.encoded.kernels.values())
        for op in network.ops:
            if isinstance(op, Softmax):
                self.add([op.kind])
            elif isinstance(op, Binary):
                self.add([op.merge])

    def missed(self) -> list[str]:
        """Names of what was not there, though it could."""
        never = _NEVER if library.load().bitsim_quads() else _NEVER | {_name(LinearKernel.INT8_WIDE)}
        return [_name(code) for kind in _KINDS for code in kind if _name(code) not in self.names | never]


def _name(code: IntEnum) -> str:
    return f"{type(code).__name__}.{code.name}"


def _apart(network: Network, slots: dict[int, Slot], lanes: int, uses: dict[int, int]) -> int:
    """A place of its own for every value, so that a step beside it is seen."""
    top = _GAP
    for slot in slots.values():
        if root(slots, slot) is slot:
            slot.offset = top
            top += -(-slot.size(lanes) // 64) * 64 + _GAP
    return top


def _same(found: list[Array], expected: list[Array]) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(one.reshape(two.shape), two) for one, two in zip(found, expected, strict=True)
    )


def _outcomes(simulator: BitSim, job: Job) -> Iterator[bool]:
    """Whether each way to run it gives the bits of the normal build."""
    for threads in (1, 2):
        predicted = simulator.predict(job.inputs, threads, fraction=job.fraction)
        yield _same(predicted if isinstance(predicted, list) else [predicted], job.outputs)
    if job.trace is not None:
        yield _same(list(simulator.trace(job.inputs, 1, fraction=job.fraction).values()), job.trace)
        simulator.overflow_report(job.inputs, 1)


def _followed(job: GradientJob) -> Iterator[bool]:
    """Whether outputs and gradients are those of the normal build."""
    for threads in (1, 2):
        engine = Gradients(job.network, threads)
        engine._products = 10**9  # as if it were worth all threads
        outputs, ticket = engine.forward(job.points)
        yield np.array_equal(outputs, job.outputs)
        yield np.array_equal(engine.backward(job.upstream, ticket), job.gradient)
        box = job.points - 3.0, job.points + 3.0
        moved = engine.move(job.points.copy(), job.gradient, np.full(1, 1.25, np.float32), box)
        yield bool((np.abs(moved - job.points) <= 1).all())


def replay(path: Path, every: int) -> dict[str, object]:
    """Run them, placed as ever and each value apart."""
    held: Jobs = pickle.loads(path.read_bytes())
    seen, place, done, differing = _Seen(), encoding.place, 0, 0
    for placing in (place, _apart):
        encoding.place = placing
        simulators = [BitSim(network) for network in held.networks]
        for job in held.jobs[::every]:
            simulator = simulators[job.network]
            differing += sum(not same for same in _outcomes(simulator, job))
            done += 1
            for machine in simulator._machines.values():
                seen.look(machine, held.networks[job.network])
            seen.add(Element[x.dtype.name.upper()] for x in job.inputs)
        seen.add(_storages(simulators))
    for wanted in held.gradients[::every]:
        differing += sum(not same for same in _followed(wanted))
        done += 1
    return {"jobs": done, "differing": differing, "missed": seen.missed(), "isa": library.isa_name()}


def _storages(simulators: list[BitSim]) -> set[Storage]:
    """Element types of the values, from the table at the head of every program."""
    found: set[Storage] = set()
    for simulator in simulators:
        for machine in simulator._machines.values():
            code: NDArray[np.int64] = machine.encoded.code
            table = code[3 : 3 + 9 * int(code[1])].reshape(-1, 9)
            found.update(Storage(int(kind)) for kind in table[:, 0])
    return found


def main() -> None:
    """Print what came of it."""
    if len(sys.argv) > 3:
        library.SOURCES = Path(sys.argv[3])
    print(json.dumps(replay(Path(sys.argv[1]), int(sys.argv[2]))))


if __name__ == "__main__":
    main()
