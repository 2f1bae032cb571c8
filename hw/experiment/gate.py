"""The exactness gate of a run: what must agree on every bit, or the run stops.

The simulators of the accelerator, bitsim and csim, always must. The QKeras model and its prequantized view must agree
with them where the run's exactness is "required". Where it is "reported", how much the model differs is measured.

csim, hls4ml's own simulation and the judge, is some thousand times slower than bitsim: it sees all inputs when it is
the engine, else a sample of `verify_samples`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.run import Run
from hw.generate.contract import Exactness, suspects
from hw.simulate.difference import Difference, difference
from hw.simulate.exactness import Known, require_exact
from hw.simulate.model_trace import model_trace
from qmodels.errors import UserError
from qmodels.grid import Codes

Traced = dict[str, NDArray[Any]]
_REPORTED = "\nWith exactness: reported the run continues with the accelerator's own bits and reports the difference"


@dataclass(frozen=True)
class GateRecord:
    """What was compared, bit for bit."""

    inputs: int
    adversarial_inputs: int
    mismatched_outputs: int
    csim_inputs: int  # of these, also seen by csim
    engine: str
    exactness: Exactness = "required"
    #: Of the model from the accelerator, where it is reported: see `hw.simulate.difference`.
    model_difference: dict[str, Any] | None = None


def pass_gate(run: Run, images: Codes, *, adversarial: bool, always: int = 0) -> GateRecord:
    """Compare the simulators on `images`, and the model with them.

    Args:
        run: the run.
        images: codes of device inputs (N, ...).
        adversarial: whether they are adversarial examples (for the record).
        always: csim always sees the last `always` of them (the extreme ones).

    Raises:
        ExactnessError: one bit differs; names the first layer, and the setting that probably did it.
    """
    judged: NDArray[np.intp] = np.arange(len(images))
    if run.accelerator.name == "bitsim":
        judged = judge_sample(len(images), run.config.simulation.verify_samples, always, run.config.seed)
    adversarials = len(images) if adversarial else 0
    if run.exactness == "reported":
        mismatched, told = _reported(run, images, judged)
        found = None if told is None else told.as_json()
        return GateRecord(len(images), adversarials, mismatched, len(judged), run.accelerator.name, "reported", found)
    return GateRecord(len(images), adversarials, _required(run, images, judged), len(judged), run.accelerator.name)


def _required(run: Run, images: Codes, judged: NDArray[np.intp]) -> int:
    """QKeras model, prequantized view, bitsim and csim; the number of differing outputs."""
    accelerator, grid = run.accelerator, run.data.grid

    def unfolded(x: Codes) -> Traced:
        return model_trace(run.quantized_model, grid.feed(grid.to_values(x)))

    def reference(x: Codes) -> Traced:
        return model_trace(run.hardware_model, grid.feed(run.hardware_grid.to_values(x)))

    def suspect(layer: str) -> str:
        return _suspect(run, layer) + _REPORTED

    expected = Known(run.quantized.name, run.quantized.logits(images))  # slower than all but csim: asked once
    prequantized = (unfolded, lambda x: model_trace(run.prequantized.model, grid.feed(grid.to_values(x))))
    compared = [require_exact(expected, run.prequantized, images, traces=prequantized)]
    formats = accelerator.formats
    if accelerator.name == "bitsim":
        traces = (reference, accelerator.trace)
        compared.append(require_exact(expected, accelerator, images, traces=traces, formats=formats, suspect=suspect))
    sample = Known(expected.name, expected.outputs[judged])
    csim = (reference, lambda x: accelerator.trace(x, "csim"))
    compared.append(
        require_exact(sample, accelerator.csim_for(len(judged)), images[judged], traces=csim, suspect=suspect)
    )
    return sum(pair.mismatched_outputs for pair in compared)


def _reported(run: Run, images: Codes, judged: NDArray[np.intp]) -> tuple[int, Difference | None]:
    """bitsim and csim: their differing outputs; and how the model differs, if there is one."""
    accelerator, mismatched = run.accelerator, 0
    answers = accelerator.logits(images)
    if accelerator.name == "bitsim":
        sample = Known("bitsim", answers[judged])
        traces = (lambda x: accelerator.trace(x, "csim"), accelerator.trace)
        csim = accelerator.csim_for(len(judged))
        compared = require_exact(csim, sample, images[judged], traces=traces, formats=accelerator.formats)
        mismatched = compared.mismatched_outputs
    if not run.has_model:
        return mismatched, None
    expected = run.quantized.logits(images)
    found = difference(expected, answers)
    differing = np.flatnonzero((expected.reshape(answers.shape) != answers).any(axis=1))
    return mismatched, found if not len(differing) else _located(run, found, images[differing[:1]])


def _located(run: Run, found: Difference, x: Codes) -> Difference:
    """With the layer in which the difference begins, and what probably makes it."""
    try:
        where = run.accelerator.explain(x, "model")
    except UserError:  # layers of another size: the outputs differ all the same
        return found
    if where is None:
        return found
    return found + Difference(0, 0, 0, 0, 0.0, where.layer, _suspect(run, where.layer))


def _suspect(run: Run, layer: str) -> str:
    """What probably makes a layer differ: a type that you chose for it, else a setting of the model."""
    told = [warning for warning in run.accelerator.warnings if warning.layer == layer]
    chosen = [f"{warning.setting} {warning.problem}" for warning in told if warning.setting.startswith("precision.")]
    if chosen:
        return f"probably: {'; '.join(chosen)}"
    return suspects(run.quantized_model, layer, run.accelerator.graph, run.config.hardware.backend)


def judge_sample(count: int, wanted: int, always: int, seed: int) -> NDArray[np.intp]:
    """Which inputs csim sees: the last `always` ones and a random sample of the others, `wanted` in all."""
    tail = list(range(max(0, count - always), count))
    rest = np.random.default_rng(seed).permutation(count - len(tail))[: max(0, wanted - len(tail))]
    return np.array(sorted(rest.tolist()) + tail, np.intp)


def combined(first: dict[str, Any], second: GateRecord) -> dict[str, Any]:
    """The record of the simulate step and that of the adversarial examples, added up for results.json."""
    later = asdict(second)
    counts = ("inputs", "adversarial_inputs", "mismatched_outputs", "csim_inputs")
    added = later | {key: int(first[key]) + int(later[key]) for key in counts}
    parts = [part for part in (first.get("model_difference"), second.model_difference) if part is not None]
    if len(parts) == 2:
        both = Difference.from_json(parts[0]) + Difference.from_json(parts[1])
        added["model_difference"] = both.as_json()
    return added
