"""The exactness gate of a run: QKeras model, its folded view, bitsim and csim give the same bits.

bitsim is held against the QKeras model on every input. csim, hls4ml's own simulation and the judge, is some thousand
times slower: it sees all inputs when it is the engine, else a sample of `verify_samples`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from hw.experiment.run import Run
from hw.simulate.csim import trace
from hw.simulate.exactness import Known, keras_trace, require_exact
from qmodels.grid import Codes


@dataclass(frozen=True)
class GateRecord:
    """What was compared, bit for bit."""

    inputs: int
    adversarial_inputs: int
    mismatched_outputs: int
    csim_inputs: int  # of these, also seen by csim
    engine: str


def pass_gate(run: Run, images: Codes, *, adversarial: bool, always: int = 0) -> GateRecord:
    """Compare the simulators on `images`.

    Args:
        run: the run.
        images: codes of device inputs (N, ...).
        adversarial: whether they are adversarial examples (for the record).
        always: csim always sees the last `always` of them (the extreme ones).

    Raises:
        ExactnessError: one bit differs; names the first layer.
    """
    model, hardware = run.quantized_model, run.config.hardware

    to_values = run.data.grid.to_values

    def reference(x: Codes) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        return keras_trace(model, to_values(x))

    expected = Known(run.quantized.name, run.quantized.logits(images))  # slower than all but csim: asked once
    folded = (reference, lambda x: keras_trace(run.folded.model, to_values(x)))
    require_exact(expected, run.folded, images, traces=folded)
    judged: NDArray[np.intp] = np.arange(len(images))
    if run.bitsim is not None:
        require_exact(expected, run.bitsim, images, traces=(reference, run.bitsim.trace))
        judged = judge_sample(len(images), run.config.simulation.verify_samples, always, run.config.seed)
    sample = Known(expected.name, expected.outputs[judged])
    csim = (reference, lambda x: trace(model, hardware, to_values(x)))
    require_exact(sample, run.csim, images[judged], traces=csim)
    attacked = len(images) if adversarial else 0
    return GateRecord(len(images), attacked, 0, len(judged), run.accelerator.name)


def judge_sample(count: int, wanted: int, always: int, seed: int) -> NDArray[np.intp]:
    """Which inputs csim sees: the last `always` ones and a random sample of the others, `wanted` in all."""
    tail = list(range(max(0, count - always), count))
    rest = np.random.default_rng(seed).permutation(count - len(tail))[: max(0, wanted - len(tail))]
    return np.array(sorted(rest.tolist()) + tail, np.intp)


def combined(first: dict[str, object], second: GateRecord) -> dict[str, object]:
    """The record of the simulate step and that of the adversarial examples, added up for results.json."""
    later = asdict(second)
    counts = ("inputs", "adversarial_inputs", "mismatched_outputs", "csim_inputs")
    return later | {key: int(str(first[key])) + int(later[key]) for key in counts}
