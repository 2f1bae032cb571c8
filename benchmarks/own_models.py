"""Models of one's own: every kind of tests/helpers/{own,published}_models.py from its file to an attacked accelerator.

Each is loaded, repaired where that helps, converted, simulated (bitsim against csim, bit for bit) and attacked: by a
score-based attack on the accelerator, and by PGD with the model's gradients where the model chooses among classes.

    python benchmarks/own_models.py [--quick] [--json OUT] [--only KIND ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers.published_models  # noqa: E402, F401 (registers its kinds)
from helpers.own_models import KINDS, Kind, store  # noqa: E402

from benchmarks.common import Report, parser  # noqa: E402
from hw import Accelerator, HardwareConfig  # noqa: E402
from hw.generate.contract import contract, repair_model  # noqa: E402
from hw.simulate.difference import difference  # noqa: E402
from qmodels.attacks import PGD, Square  # noqa: E402
from qmodels.errors import RobustHlsError  # noqa: E402
from qmodels.grid import Codes, InputGrid  # noqa: E402
from qmodels.layers import is_quantized  # noqa: E402
from qmodels.loading import load_model_with_notes  # noqa: E402
from qmodels.quantize.batch_norm import fold_batch_norm  # noqa: E402
from qmodels.scaling import take_off_scaling  # noqa: E402
from qmodels.victims import Logits, Victim, predictions  # noqa: E402

#: accepted: as it is, exact. repaired: exact after --repair. reported: it runs, and how much it differs is told.
Result = Literal["accepted", "repaired", "reported", "refused", "crashed"]


@dataclass
class Outcome:
    """What became of one kind."""

    result: Result
    told: str = ""  # repairs, notes, or the message
    engine: str = ""
    outputs: int = 0  # compared
    differing: int = 0  # bitsim from csim
    from_model: int = 0  # the accelerator from the model
    of_model: int = 0
    attacked: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class TwoClasses:
    """An accelerator of one output as a classifier: above or below a threshold."""

    inner: Victim
    threshold: float

    @property
    def name(self) -> str:
        """The accelerator's."""
        return self.inner.name

    @property
    def grid(self) -> InputGrid:
        """The accelerator's."""
        return self.inner.grid

    def logits(self, x: Codes) -> Logits:
        """(N, 2): below, above."""
        above = self.inner.logits(x) - np.float32(self.threshold)
        return np.concatenate([-above, above], axis=1)


def bring(kind: Kind, folder: Path, samples: int) -> Outcome:
    """One kind, from a file to attacked hardware; an expected failure is "refused", any other one "crashed"."""
    start = time.perf_counter()
    try:
        outcome = _brought(store(kind.name, folder), kind, samples)
    except RobustHlsError as error:
        outcome = Outcome("refused", str(error))
    except Exception:
        outcome = Outcome("crashed", traceback.format_exc())
    outcome.seconds = time.perf_counter() - start
    return outcome


def _brought(path: Path, kind: Kind, samples: int) -> Outcome:
    loaded = load_model_with_notes(path)
    model, told, result = loaded.model, list(loaded.notes), "accepted"
    if is_quantized(model) and any(found.repair is not None for found in contract(model)):
        repaired = repair_model(model, input_formats=kind.grid.formats)
        model, told, result = repaired.model, [*told, *repaired.repairs], "repaired"
    if not is_quantized(model):
        unscaled = take_off_scaling(model)
        model = fold_batch_norm(unscaled.model)  # as the flow does
        told += [unscaled.told] if unscaled.told else []
    exact = not contract(model)
    accelerator = Accelerator(model, HardwareConfig(), grid=kind.grid, exactness="required" if exact else "reported")
    outcome = Outcome("reported" if not exact else result, "; ".join(told))  # type: ignore[arg-type]
    assert accelerator.project.files and accelerator.cost.total("multipliers") >= 0
    flat = (sum(port.size for port in accelerator.grid.ports),)
    x = codes(accelerator.grid, flat if accelerator.grid.ports else model.input_shape[1:], samples)
    _simulated(accelerator, model, x, outcome)
    _attacked(accelerator, x, outcome)
    return outcome


def codes(grid: InputGrid, shape: tuple[int, ...], count: int) -> Codes:
    """Random inputs: normal ones in the middle of the range, uniform ones, and the extreme ones."""
    rng = np.random.default_rng(0)
    middle = (np.asarray(grid.lower) + np.asarray(grid.upper)) / 2
    normal = grid.nearest(middle + rng.normal(size=(count, *shape)) * grid.span / 8)
    return np.concatenate([normal, grid.random(count // 4, shape, rng), grid.extremes(shape)])


def _simulated(accelerator: Accelerator, model: Any, x: Codes, outcome: Outcome) -> None:
    csim = accelerator.compile(optimize=False)
    if accelerator.name == "csim":
        accelerator.csim = csim
    judged = np.asarray(csim.logits(x)).reshape(len(x), -1)
    ours = np.asarray(accelerator.logits(x)).reshape(len(x), -1)
    values = accelerator.grid.feed(accelerator.grid.to_values(x))
    found = difference(model.predict(values, verbose=0).reshape(len(x), -1), ours)
    outcome.engine, outcome.outputs = accelerator.name, judged.size
    outcome.differing = int(np.count_nonzero(judged != ours))
    outcome.from_model, outcome.of_model = found.outputs, found.of_outputs


def _attacked(accelerator: Accelerator, x: Codes, outcome: Outcome) -> None:
    few, epsilon = x[:20], max(1.0, round(accelerator.grid.span * 0.04))
    answers = accelerator.logits(few)
    one = answers.shape[1] == 1
    victim: Victim = TwoClasses(accelerator, float(np.median(answers))) if one else accelerator
    y = predictions(victim, few)
    attacks = [Square(queries=100)] if one else [Square(queries=100), PGD(steps=5)]
    results = [attack(victim, few, y, epsilon_lsb=epsilon, seed=0) for attack in attacks]
    outcome.attacked = ", ".join(f"{result.attack} {int(result.success.sum())}/{len(few)}" for result in results)


def brought(names: list[str], samples: int) -> Iterator[tuple[str, Outcome]]:
    """Every kind in turn, printed as it ends."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            outcome = bring(KINDS[name], Path(folder), samples)
        compared = (
            f"{outcome.differing}/{outcome.outputs} {outcome.engine}, model {outcome.from_model}/{outcome.of_model}"
        )
        said = outcome.told.strip().splitlines()[-1][:90] if outcome.told else ""
        shown = compared if outcome.outputs else ""
        print(
            f"  {name:24s} {outcome.result:9s} {shown:36s} {outcome.attacked:34s} {outcome.seconds:5.1f} s  {said}",
            flush=True,
        )
        yield name, outcome


def _line(name: str, outcome: Outcome) -> str:
    of_model = f"model {outcome.from_model}/{outcome.of_model}"
    compared = f"{outcome.differing}/{outcome.outputs} {outcome.engine}, {of_model}" if outcome.outputs else ""
    said = outcome.told.strip().splitlines()[-1][:90] if outcome.told else ""
    return f"  {name:24s} {outcome.result:9s} {compared:36s} {outcome.attacked:36s} {outcome.seconds:5.1f} s  {said}"


def main() -> int:
    """Exit status 1: a difference, a traceback, or fewer than nine in ten kinds usable."""
    arguments = parser(__doc__, KINDS).parse_args()
    report = Report()
    outcomes = dict(brought(arguments.only, 40 if arguments.quick else 400))
    report.details["kinds"] = {name: asdict(outcome) for name, outcome in outcomes.items()}
    wanted = [outcome for name, outcome in outcomes.items() if KINDS[name].want == "use"]
    usable = [outcome for outcome in wanted if outcome.result not in ("refused", "crashed")]
    share = len(usable) / max(1, len(wanted))
    mismatches = sum(outcome.differing for outcome in outcomes.values())
    crashes = sum(outcome.result == "crashed" for outcome in outcomes.values())
    report.figure("kinds_tried", len(outcomes), "kinds of models of one's own")
    report.figure("kinds_usable", share, f"{len(usable)} of {len(wanted)} whose owner wants a run; goal 0.9")
    report.figure("mismatches", mismatches, "outputs of bitsim that differ from csim's")
    report.figure("tracebacks", crashes, "kinds that end without a message")
    report.write(arguments.json)
    return int(share < 0.9 or mismatches > 0 or crashes > 0)


if __name__ == "__main__":
    sys.exit(main())
