"""Models of the attacker's own: trained apart from the run, on the same data, for black-box attacks by transfer.

Each is a run of its own in `black_box/<name>/`, brought to its map or quantize step: checkpoints, digests and
resuming are those of any run.
"""

from __future__ import annotations

from hw.experiment.attacks import black_box_radii
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.pipeline import run_steps, steps_until
from hw.experiment.run import Run


def train_black_box(run: Run) -> tuple[str, ...]:
    """Train what `evaluation.black_box` asks for, if any attack can use it, and is not there yet.

    Returns:
        Names, in the run folder, of the files that the trainings left.
    """
    if not any(black_box_radii(plan, run.data) for plan in run.config.evaluation.attacks):
        return ()
    names = []
    for model, wanted in zip(run.black_box, run.config.evaluation.black_box, strict=True):
        steps = steps_until("map" if wanted.quantization is None else "quantize", MODEL_STEPS)
        with model.folder.lock():
            run_steps(model, steps, lambda line: None)
        inside = model.folder.path.relative_to(run.folder.path)
        made = {name for step in steps for name in model.folder.outputs(step.name)}
        names += [(inside / name).as_posix() for name in sorted(made)]
    return tuple(names)
