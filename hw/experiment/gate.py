"""The exactness gate of a run: QKeras model, its prequantized view, bitsim and csim give the same bits.

bitsim is held against the QKeras model on every input. csim, hls4ml's own simulation and the judge, is some thousand
times slower: it sees all inputs when it is the engine, else a sample of `verify_samples`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.run import Run
from hw.simulate.exactness import Known, require_exact
from hw.simulate.model_trace import model_trace
from qmodels.grid import Codes

Traced = dict[str, NDArray[Any]]


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
    accelerator, to_values = run.accelerator, run.data.grid.to_values

    def reference(x: Codes) -> Traced:
        return model_trace(run.quantized_model, to_values(x))

    expected = Known(run.quantized.name, run.quantized.logits(images))  # slower than all but csim: asked once
    prequantized = (reference, lambda x: model_trace(run.prequantized.model, to_values(x)))
    compared = [require_exact(expected, run.prequantized, images, traces=prequantized)]
    judged: NDArray[np.intp] = np.arange(len(images))
    formats = accelerator.formats
    if accelerator.name == "bitsim":
        compared.append(
            require_exact(expected, accelerator, images, traces=(reference, accelerator.trace), formats=formats)
        )
        judged = judge_sample(len(images), run.config.simulation.verify_samples, always, run.config.seed)
    sample = Known(expected.name, expected.outputs[judged])
    csim = (reference, lambda x: accelerator.trace(x, "csim"))
    compared.append(require_exact(sample, accelerator.csim, images[judged], traces=csim))
    return GateRecord(
        inputs=len(images),
        adversarial_inputs=len(images) if adversarial else 0,
        mismatched_outputs=sum(pair.mismatched_outputs for pair in compared),
        csim_inputs=len(judged),
        engine=accelerator.name,
    )


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
