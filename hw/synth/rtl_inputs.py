"""What a run's RTL is shown: clean, random, extreme and adversarial inputs."""

from __future__ import annotations

import numpy as np

from hw.experiment.attacks import load_result
from hw.experiment.run import Run
from hw.experiment.scoring import distinct
from hw.simulate.exactness import probe_inputs
from qmodels.grid import Codes


def gate_inputs(run: Run) -> tuple[Codes, int]:
    """At least `rtl.inputs` codes (N, ...), and how many of them are adversarial.

    All test samples and all distinct adversarial examples that the run has made; random ones fill up, half of them at
    the features' ends; last the extremes.
    """
    clean = run.data.test.x
    examples = _examples(run)
    missing = run.config.rtl.inputs - len(clean) - len(examples)
    random = max(run.config.simulation.verify_random, -(-missing // 2))
    probes = probe_inputs(run.data.grid, clean, random, run.config.seed)
    return np.concatenate([examples, probes]), len(examples)


def _examples(run: Run) -> Codes:
    """Every adversarial example of the attack step, once."""
    clean = run.data.test.x[:0]
    names = sorted(name for name in run.folder.outputs("attack") if name.endswith(".npz"))
    results = [result for name in names if (result := load_result(run.folder / name)) is not None]
    fitting = [result.x.astype(clean.dtype) for result in results if result.x.shape[1:] == clean.shape[1:]]
    return distinct(np.concatenate([clean, *fitting]))
