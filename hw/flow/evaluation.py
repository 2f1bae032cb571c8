"""Attack and score: examples from every differentiable model, judged by every victim, the accelerator included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.flow.config import AttackPlan
from hw.flow.gate import combined, pass_gate
from hw.flow.run import Run
from qmodels.attacks import Attack, AttackResult, Diagnostics
from qmodels.attacks.base import LEVELS, Knowledge
from qmodels.data import ARCHIVE_ERRORS
from qmodels.metrics.masking import CLEAN, Row, attack_row, clean_row, scored_elsewhere, verdicts, with_flags
from qmodels.progress import progress_bar
from qmodels.storage import atomic_path, digest_of
from qmodels.victims import AcceleratorVictim, Images, Labels, Victim, predictions


@dataclass(frozen=True)
class Contestant:
    """A model in the table: its row name, its victim, and its bits (None: float)."""

    label: str
    victim: Victim
    bits: int | None = None


@dataclass(frozen=True)
class Cell:
    """One attack at one strength on one source: the unit of work that is kept and resumed."""

    source: Contestant
    attack: Attack
    epsilon_lsb: float

    @property
    def title(self) -> str:
        """For the progress bar and for error messages."""
        return f"{self.attack.label} {self.epsilon_lsb:g} LSB on {self.source.label} ({self.source.victim.name})"


def sources(run: Run) -> list[Contestant]:
    """The differentiable models: float, float mapped, quantized."""
    found = []
    if run.float_victim is not None and run.config.mapping.mu > 0:
        found.append(Contestant(run.config.model_label, run.float_victim))
    if run.mapped_victim is not None:
        found.append(Contestant(run.config.mapped_label, run.mapped_victim))
    found.append(Contestant(run.config.mapped_label, run.folded, weight_bits(run)))
    return found


def accelerator_of(run: Run) -> Contestant:
    """The accelerator, in the simulator that the config asks for."""
    return Contestant(run.config.mapped_label, run.accelerator, weight_bits(run))


def weight_bits(run: Run) -> int | None:
    """Bits of a weight: from the config, or for the user's own QKeras model the widest weight in the project."""
    return run.config.quantization.weight_bits if run.mapped_model is not None else None


def test_images(run: Run) -> tuple[Images, Labels]:
    """The images that are attacked."""
    return run.data.test.take(run.config.evaluation.samples)


def cells(run: Run) -> Iterator[Cell]:
    """Everything to be attacked, in a fixed order."""
    for plan in run.config.evaluation.attacks:
        for source in targets(run, plan.attack):
            for epsilon in plan.epsilons_lsb:
                cell = Cell(source, plan.attack, epsilon)
                yield cell
                if (longer := convergence_cell(run, cell)) is not None:
                    yield longer


def convergence_cell(run: Run, cell: Cell) -> Cell | None:
    """The same attack with twice the iterations, where the config asks for that check and the attack iterates."""
    if run.config.evaluation.check_convergence and hasattr(cell.attack, "doubled") and cell.attack.iterative:
        return replace(cell, attack=cell.attack.doubled())
    return None


def targets(run: Run, attack: Attack) -> list[Contestant]:
    """What an attack is run on: gradients exist only in Keras models; outputs are asked of the accelerator itself.

    The worst case does both: gradients of the quantized model, judged and queried on the accelerator.
    """
    accelerator = accelerator_of(run)
    if attack.knowledge == "black-box":
        return [accelerator]
    if attack.family == "worst-case":
        judged = AcceleratorVictim(run.accelerator, run.folded.model)
        return [*sources(run)[:-1], replace(accelerator, victim=judged)]
    return sources(run)


def run_attacks(run: Run) -> tuple[str, ...]:
    """Run every cell that is not stored yet; names of the example files."""
    x, y = test_images(run)
    todo = list(cells(run))
    names = []
    with progress_bar("attacking", len(todo)) as bar:
        for cell in todo:
            path = cell_path(run, cell)
            if load_result(path) is None:
                state, seed = path.with_suffix(".part.npz"), run.config.seed
                result = cell.attack(cell.source.victim, x, y, epsilon_lsb=cell.epsilon_lsb, seed=seed, state=state)
                store_result(path, result)
                state.unlink(missing_ok=True)
            names.append(path.relative_to(run.folder.path).as_posix())
            bar.advance(note=cell.title)
    return tuple(dict.fromkeys(names))


def cell_path(run: Run, cell: Cell) -> Path:
    """Where a cell's examples are kept; the name holds the digest of all they depend on."""
    inputs = {name: run.folder.outputs(name) for name in ("train", "map", "quantize")}
    key = digest_of(
        {
            "inputs": inputs,
            "data": run.config.data.model_dump(mode="json"),
            "samples": run.config.evaluation.samples,
            "seed": run.config.seed,
            "attack": cell.attack.model_dump(mode="json"),
            "epsilon": cell.epsilon_lsb,
            "source": [cell.source.label, cell.source.victim.name],
        }
    )
    name = f"{cell.source.label}-{cell.source.victim.name}-{cell.attack.kind}-{cell.epsilon_lsb:g}-{key[:16]}.npz"
    return run.folder / "attacks" / name


def store_result(path: Path, result: AttackResult) -> None:
    """Keep a result: examples as their 8-bit device inputs, the rest as it is."""
    record = asdict(result) | {"x": None, "success": None}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, steps=np.rint(result.x * LEVELS).astype(np.uint8), success=result.success, record=json.dumps(record)
        )


def load_result(path: Path) -> AttackResult | None:
    """A stored result; None if there is none or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            record = json.loads(str(stored["record"]))
            record["diagnostics"] = Diagnostics(**record["diagnostics"])
            images = (stored["steps"] / LEVELS).astype(np.float32)
            return AttackResult(**record | {"x": images, "success": stored["success"]})
    except (OSError, ValueError, KeyError, TypeError, *ARCHIVE_ERRORS):
        return None


def evaluate(run: Run) -> dict[str, Any]:
    """Score everything; the exactness gate on all adversarial examples; results.json as a value.

    Raises:
        ExactnessError: the accelerator and the quantized model differ in one bit.
    """
    x, y = test_images(run)
    contestants = sources(run)
    accelerator = accelerator_of(run)
    rows = [
        clean_row(c.label, c.victim.name, predictions(c.victim, x) == y, bits=c.bits)
        for c in (*contestants, accelerator)
    ]
    adversarial: list[Images] = []
    todo = [cell for cell in cells(run) if not _is_doubled(run, cell)]
    with progress_bar("scoring", len(todo)) as bar:
        for cell in todo:
            result = _stored(run, cell)
            adversarial.append(result.x)
            rows += _rows(run, cell, result, contestants, accelerator, y)
            bar.advance(note=cell.title)
    attacked = np.unique(np.concatenate([x[:0], *adversarial]), axis=0)
    record = pass_gate(run, attacked, adversarial=True)
    gate = json.loads((run.folder / "simulation.json").read_text())
    rows = with_flags(rows)
    return {
        "schema": 1,
        "run": run.config.name,
        "config_digest": digest_of(run.config.model_dump(mode="json")),
        "rows": [row.as_json() for row in rows],
        "worst_case": worst_cases(rows),
        "attacks": [attack_settings(plan) for plan in run.config.evaluation.attacks],
        "exactness": combined(gate, record),
        "cost": json.loads((run.folder / "cost.json").read_text()),
    }


def worst_cases(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Accuracy against all rows of one norm and ε at once: the images of a victim that survive every one of them.

    Computed here because results.json does not keep the answers image by image.
    """
    found = []
    for norm in dict.fromkeys(row.norm for row in rows if row.attack != CLEAN):
        for verdict in verdicts([row for row in rows if row.norm == norm]):
            found.append(
                {
                    "model": verdict.model,
                    "victim": verdict.victim,
                    "norm": norm,
                    "epsilon_lsb": _finite(verdict.epsilon_lsb),
                    "accuracy": verdict.worst,
                    "lowest_row": verdict.worst_attack,
                }
            )
    return found


def attack_settings(plan: AttackPlan) -> dict[str, Any]:
    """An attack's parameters as run, under the name its rows have; step lengths worked out for every ε."""
    settings = plan.attack.model_dump(mode="json")
    if hasattr(plan.attack, "step_size"):
        settings["step_lsb"] = [_finite(plan.attack.step_size(epsilon)) for epsilon in plan.epsilons_lsb]
    return {
        "attack": plan.attack.label,
        "epsilons_lsb": [_finite(epsilon) for epsilon in plan.epsilons_lsb],
        "settings": settings,
    }


def _finite(epsilon: float) -> float | None:
    """JSON lacks infinity: an unbounded attack has ε null."""
    return epsilon if np.isfinite(epsilon) else None


def _is_doubled(run: Run, cell: Cell) -> bool:
    """Whether the cell only serves the convergence check of another one."""
    return all(cell.attack != plan.attack for plan in run.config.evaluation.attacks)


def _stored(run: Run, cell: Cell) -> AttackResult:
    result = load_result(cell_path(run, cell))
    if result is None:
        raise RuntimeError(f"examples of {cell.title} are missing; run the attack step again")
    return result


def _rows(
    run: Run, cell: Cell, result: AttackResult, contestants: list[Contestant], accelerator: Contestant, y: Labels
) -> list[Row]:
    """The row of the attacked model, and the same examples on the accelerator and on the other models."""
    source = cell.source
    longer = convergence_cell(run, cell)
    doubled = _stored(run, longer) if longer is not None else None
    own = attack_row(source.label, source.victim.name, cell.attack, result, bits=source.bits, doubled=doubled)
    answers = predictions(source.victim, result.x)
    if source.victim.name == accelerator.victim.name:
        return [own]
    same_function = source.victim.name == "quantized"  # the accelerator computes exactly this model
    if cell.attack.family == "noise":  # noise knows nothing of its source: no transfer rows
        return [own, _scored(own, accelerator, answers, result.x, y, "none")] if same_function else [own]
    rows = [own, _scored(own, accelerator, answers, result.x, y, "white-box" if same_function else "transfer")]
    others = [c for c in contestants if (c.label, c.victim.name) != (source.label, source.victim.name)]
    return rows + [_scored(own, other, answers, result.x, y, "transfer") for other in others]


def _scored(own: Row, victim: Contestant, source_answers: Labels, x: Images, y: Labels, knowledge: Knowledge) -> Row:
    answers: NDArray[np.int64] = predictions(victim.victim, x)
    row = scored_elsewhere(
        own,
        victim.victim.name,
        answers == y,
        knowledge=knowledge,
        disagreements=int(np.sum(answers != source_answers)),
    )
    return replace(row, model=victim.label, bits=victim.bits, source=f"{own.model}/{own.victim}")
