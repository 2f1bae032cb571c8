"""What a worker does to a design: train, measure, certify, pool, attack, final. One function a stage, plain values out.

Everything a stage answers follows from its argument and the shared values: same question, same answer, whichever worker
is asked and whatever it did before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.accelerator import Accelerator
from hw.cost import estimate_cost
from hw.experiment.folder import RunFolder
from hw.experiment.gate import pass_gate
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.run import Run
from hw.simulate.exactness import Known, probe_inputs, require_exact
from hw.sizing.built import Built, build, scratch_run
from hw.sizing.crew import Blobs
from hw.sizing.gradients import GradientModels
from hw.sizing.pool import Examples, Mask, joined, pack_mask, unpack_mask
from hw.sizing.proof import certified_by_intervals
from hw.sizing.questions import Question, pool_name
from hw.sizing.steps import worst_case_steps
from hw.sizing.structures import Structures, can_share
from qmodels.attacks.worst_case import CLEAN_ERROR, NOT_FALLEN
from qmodels.criteria import MISCLASSIFICATION
from qmodels.data import Dataset, Split
from qmodels.errors import ExactnessError, UserError
from qmodels.grid import EXTREMES, Codes
from qmodels.metrics.masking import Row, attack_row, clean_row, with_flags
from qmodels.runtime import runtime
from qmodels.statistics import wilson
from qmodels.storage import write_bytes
from qmodels.victims import AcceleratorVictim, GradientModel, Labels, Victim, predictions

MODEL_FILE = "quantized.keras"  # in the final stage's answer: kept as a file
EXAMPLES = "examples"  # in the attack stage's answer: kept in the store's pool
_KEEP_BYTES = 256 << 20  # float32 weights of the designs a worker keeps built; with their simulators 4 times as much


def train_stage(question: Question, blobs: Blobs) -> dict[str, bytes]:
    """Train the float model (or adopt the user's own): the training step's files, by name."""
    return _training_step("train", question, blobs, {})


def aware_stage(question: Question, blobs: Blobs) -> dict[str, bytes]:
    """Train on through the quantizers, from the float model: all of both steps' files."""
    return _training_step("aware", question, blobs, blobs[question.training])


def _training_step(name: str, question: Question, blobs: Blobs, before: dict[str, bytes]) -> dict[str, bytes]:
    step = next(step for step in MODEL_STEPS if step.name == name)
    shared = Path(question.folder) if question.folder and Path(question.folder).is_dir() else None
    with tempfile.TemporaryDirectory(prefix="robust-hls-train-") as scratch:
        run = Run(question.config, RunFolder(shared or Path(scratch)))
        run.data = _data(question.data, blobs)
        run.folder.claim()
        for file, content in before.items():
            write_bytes(run.folder / file, content)
        made = step.action(run)
        return before | {file: (run.folder / file).read_bytes() for file in made}


def descend_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """The names of a network's layers with weights and of its ReLUs: what a descent may narrow."""
    files, data = blobs[question.training], _data(question.data, blobs)
    if not can_share(question.config, files):
        raise UserError(
            "mode layerwise rounds one float model in many ways: it takes no model that is quantized already, no "
            "training.quantization_aware, no quantization.layerwise"
        )
    many = _bench().structures.mapped(question.config, question.training, files, data).many
    rounded = many.round(question.config.quantization)
    return {"layers": list(rounded.layers), "relus": list(rounded.relus)}


def measure_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """Cost, ||ΔW||, clean accuracy on validation images, where the simulator is held against the gradient model."""
    bench, built = _bench(), _built(question, blobs)
    x, y = _validation(question, blobs)
    bits = Known("bitsim", built.accelerator.logits(x))
    require_exact(bits, _Prequantized(bench.gradients.load(built.gradients)), x)
    if built.quantized_logits is not None:
        require_exact(Known("quantized", built.quantized_logits), bits, x)
    correct = predictions(built.accelerator, x) == y
    cost = built.cost.as_json()
    return {
        "cost": {key: value for key, value in cost.items() if isinstance(value, int)},
        "weights": {layer["layer"]: layer["weight_bits"] for layer in cost["layers"] if layer["weight_bits"]},
        "bits": built.bits,
        "delta_w": built.delta_w,
        "clean": _share(correct),
        "fallen": pack_mask(~correct),
        "exact_inputs": len(x),
        "converted": built.quantized_logits is not None,
    }


def certify_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """Which images no attack in the ball can break: a lower bound of the worst case."""
    x, y = _validation(question, blobs)
    simulator = _built(question, blobs).accelerator
    return {"certified": pack_mask(certified_by_intervals(simulator, x, y, question.worst_case.epsilon_lsb))}


def pool_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """Which images fall to the pool's examples: an upper bound of the worst case."""
    x, y = _validation(question, blobs)
    fallen = unpack_mask(question.standing.fallen, len(x))
    tried = _pool(question, blobs).standing(fallen)
    if len(tried):
        wrong = predictions(_built(question, blobs).accelerator, tried.x) != y[tried.rows]
        fallen[tried.rows[wrong]] = True
    return {"fallen": pack_mask(fallen), "tried": len(tried)}


def attack_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """One step of the worst case, on the images that still stand and are not certified."""
    x, y = _validation(question, blobs)
    asked, index = question.worst_case, question.standing.attack
    step = worst_case_steps(asked.attack)[index]
    fallen = unpack_mask(question.standing.fallen, len(x))
    proved = unpack_mask(question.standing.certified, len(x)) if question.standing.certified else np.zeros_like(fallen)
    todo = np.flatnonzero(~fallen & ~proved)
    victim = _attacked(question, blobs)
    begin = _nearest(question, blobs, victim, x, y, fallen) if step.warm else None
    images, rows, zero = [x[:0]], [todo[:0]], 0.0
    for batch in asked.attack.batches(len(todo)):
        own = int(np.random.SeedSequence([question.config.seed, index, int(batch[0])]).generate_state(1)[0])
        now = todo[batch]
        result = step.attack(
            victim, x[now], y[now],
            epsilon_lsb=asked.epsilon_lsb, seed=own, begin=None if begin is None else begin[now],
            for_others=True,  # the pool's: the farther an example goes, the more designs it fools
        )  # fmt: skip
        zero += result.diagnostics.zero_gradient_share * len(now)
        images.append(result.x[result.success])
        rows.append(now[result.success])
    found = Examples(np.concatenate(rows).astype(np.int32), np.concatenate(images))
    fallen[found.rows] = True
    return {
        "fallen": pack_mask(fallen),
        "fell": len(found),
        "zero_gradient_share": zero / max(len(todo), 1),
        EXAMPLES: found.pack() if len(found) else b"",
    }


def _pool(question: Question, blobs: Blobs) -> Examples:
    x = _validation(question, blobs).x
    none = Examples(np.zeros(0, np.int32), x[:0])
    return joined([none, *(blobs[pool_name(name)] for name in question.standing.pool)])


def _nearest(question: Question, blobs: Blobs, victim: Victim, x: Codes, y: Labels, fallen: Mask) -> Codes:
    """For every image the pool's example that comes nearest to fooling the victim; the image itself without one."""
    begin = x.copy()
    tried = _pool(question, blobs).standing(fallen)
    if len(tried):
        margins = MISCLASSIFICATION.margins(victim.logits(tried.x), y[tried.rows])
        for place in np.argsort(-margins, kind="stable"):  # the nearest one last
            begin[tried.rows[place]] = tried.x[place]
    return begin


def final_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """The same on test images, never seen before; QKeras, prequantized model, bitsim and csim agree on every bit."""
    x, y = _data(question.data, blobs).test.take(question.final.images)
    victim = _attacked(question, blobs)
    clean = predictions(victim, x) == y
    examples: list[Codes] = []
    rows = _rows(question, victim, x, y, examples)
    worst, attacked = _worst_case(question, victim, x, y)
    with scratch_run(question.config, _data(question.data, blobs), blobs[question.training]) as run:
        data, seed = question.config.simulation, question.config.seed
        probes = probe_inputs(run.data.grid, x, data.verify_random, seed)
        _require_same(_built(question, blobs), run.accelerator, probes)
        gates = [pass_gate(run, probes, adversarial=False, always=EXTREMES)]
        adversarial = np.unique(np.concatenate([*examples, attacked]), axis=0)
        gates.append(pass_gate(run, adversarial, adversarial=True))
        digest, model = run.accelerator.project.digest, (run.folder / MODEL_FILE).read_bytes()
    return {
        MODEL_FILE: model,
        "clean": _share(clean),
        "rows": [row.as_json() for row in rows],
        "worst": worst,
        "gate": [asdict(gate) for gate in gates],
        "project_digest": digest,
    }


def replicate_stage(question: Question, blobs: Blobs) -> dict[str, Any]:
    """The worst case on test images of a design that was chosen with another seed."""
    x, y = _data(question.data, blobs).test.take(question.final.images)
    victim = _attacked(question, blobs)
    require_exact(victim, _Prequantized(_bench().gradients.load(_built(question, blobs).gradients)), x)
    return {"clean": _share(predictions(victim, x) == y), "worst": _worst_case(question, victim, x, y)[0]}


def _require_same(built: Built, accelerator: Accelerator, x: Codes) -> None:
    """Hold a design that was not converted against its conversion.

    Raises:
        ExactnessError: its cost or a bit of it differs.
    """
    if built.quantized_logits is not None:
        return
    if built.cost != estimate_cost(accelerator.graph, accelerator.codebooks):
        raise ExactnessError("the design that was scored has another cost than its conversion")
    require_exact(Known("the design's conversion", accelerator.logits(x)), built.accelerator, x)


STAGES: dict[str, Callable[[Question, Blobs], Any]] = {
    "train": train_stage,
    "aware": aware_stage,
    "descend": descend_stage,
    "measure": measure_stage,
    "certify": certify_stage,
    "pool": pool_stage,
    "attack": attack_stage,
    "final": final_stage,
    "replicate": replicate_stage,
}


class Bench:
    """What a worker keeps between jobs; it saves time and changes no answer."""

    def __init__(self) -> None:
        self.gradients = GradientModels()
        self.structures = Structures()
        self.designs: dict[str, Built] = {}
        self.bytes = 0  # of their weights
        self.data: dict[str, Dataset] = {}


@lru_cache(maxsize=1)
def _bench() -> Bench:
    """This process' bench; made after TensorFlow was told to use one thread."""
    threading = runtime().tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(1)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow has started already: in-process use
        pass
    return Bench()


def _data(name: str, blobs: Blobs) -> Dataset:
    kept = _bench().data
    if name not in kept:
        kept[name] = blobs[name]
    return kept[name]


def _validation(question: Question, blobs: Blobs) -> Split:
    return _data(question.data, blobs).validation.take(question.worst_case.images)


def _built(question: Question, blobs: Blobs) -> Built:
    kept = _bench().designs
    built = kept.pop(question.design, None)
    if built is None:
        data = _data(question.data, blobs)
        probes, structures = _validation(question, blobs).x, _bench().structures
        built = build(question.config, question.training, data, blobs[question.training], probes, structures)
        _bench().bytes += built.gradients.size
    kept[question.design] = built
    while len(kept) > 1 and _bench().bytes > _KEEP_BYTES:
        _bench().bytes -= kept.pop(next(iter(kept))).gradients.size
    return built


def _attacked(question: Question, blobs: Blobs) -> Victim:
    """The accelerator with the gradients of the model it computes."""
    built = _built(question, blobs)
    return AcceleratorVictim(built.accelerator, _bench().gradients.load(built.gradients))


def _rows(question: Question, victim: Victim, x: Codes, y: Labels, examples: list[Codes] | None = None) -> list[Row]:
    """Clean accuracy and every cheap attack, with flags; `examples` collects the adversarial images."""
    rows = [clean_row("design", victim.name, predictions(victim, x) == y)]
    for plan in question.final.attacks:
        for epsilon in plan.radii:  # in grid steps
            result = plan.attack(victim, x, y, epsilon_lsb=epsilon, seed=question.config.seed)
            rows.append(attack_row("design", victim.name, plan.attack, result))
            if examples is not None:
                examples.append(result.x)
    return [_timeless(row) for row in with_flags(rows)]


def _timeless(row: Row) -> Row:
    """Without how long it took: the same question has the same answer."""
    return replace(row, seconds=0.0)


def _worst_case(question: Question, victim: Victim, x: Codes, y: Labels) -> tuple[dict[str, Any], Codes]:
    asked = question.worst_case
    record = asked.attack.evaluate(victim, x, y, epsilon_lsb=asked.epsilon_lsb, seed=question.config.seed)
    fell = {attack.label: int(np.sum(record.fell_to == index)) for index, attack in enumerate(asked.attack.attacks)}
    answer = {
        **_share(record.fell_to == NOT_FALLEN),
        "epsilon_lsb": asked.epsilon_lsb,
        "clean_errors": int(np.sum(record.fell_to == CLEAN_ERROR)),
        "fell_to": fell,
        "zero_gradient_share": float(record.zero_gradient.mean()),
    }
    return answer, record.x


def _share(correct: NDArray[np.bool_]) -> dict[str, Any]:
    """An accuracy with its evidence."""
    return {
        "accuracy": float(correct.mean()),
        "n": len(correct),
        "ci95": list(wilson(int(correct.sum()), len(correct))),
    }


class _Prequantized:
    """The swapped gradient model, as a victim."""

    name = "gradient model"

    def __init__(self, source: GradientModel) -> None:
        self._source, self.grid = source, source.grid

    def logits(self, x: Codes) -> NDArray[np.float32]:
        """Its logits."""
        return np.asarray(self._source.forward(self.grid.to_values(x)), np.float32)
