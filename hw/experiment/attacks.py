"""What is attacked: every attack at every strength on every source, each result kept in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hw.experiment.ball import headline_ball
from hw.experiment.contestants import Contestant, Team, attackers
from hw.experiment.defence import aware_source, is_defended, published_attack, teams
from hw.experiment.evaluation_config import AttackPlan, EvaluationPlan
from hw.experiment.radius import Radius, plan_radii
from hw.experiment.run import Run
from qmodels.attacks import Attack, AttackResult, Diagnostics, GradientAttack, distinct_labels
from qmodels.data import Dataset, Split
from qmodels.digest import digest_of
from qmodels.errors import ARCHIVE_ERRORS
from qmodels.grid import Codes
from qmodels.metrics.masking import Attacker, Row
from qmodels.progress import progress_bar
from qmodels.storage import atomic_path
from qmodels.tasks import CLASSES

KNOWN_STARTS = 100  # inputs of the attacker's own, at most


@dataclass(frozen=True)
class AttackJob:
    """One attack at one strength on one source: the unit of work that is kept and resumed."""

    source: Contestant
    attack: Attack
    radius: Radius
    samples: int  # the first so many test images
    label: str  # of the attack in this run: tells apart those of one kind
    check: bool = False  # only serves the convergence check of another job
    attacker: Attacker = "aware"  # whether he knows the defence of what he attacks, or carries his examples to

    @property
    def epsilon_lsb(self) -> float:
        """The radius in grid steps; the median where features have different ones."""
        return self.radius.median

    @property
    def title(self) -> str:
        """For the progress bar and for error messages."""
        return f"{self.label} {self.radius} on {self.source.label} ({self.source.victim.name})"


def attack_labels(run: Run) -> dict[str, str]:
    """The run's name of every attack, by its digest."""
    return distinct_labels(attack for plan in _plans(run) for attack in attacks_of(run, plan))


def attacks_of(run: Run, plan: EvaluationPlan) -> list[Attack]:
    """A plan's attack, and where it was published otherwise against the run's defence that one too."""
    published = published_attack(run, plan.attack)
    return [plan.attack] if published is None else [published, plan.attack]


def test_images(run: Run) -> Split:
    """The images that every attack sees which does not name its own number."""
    return concerned_images(run).take(run.config.evaluation.samples)


def concerned_images(run: Run) -> Split:
    """The test images that the task's attacks concern."""
    return run.data.test.take(run.attackable)


def attacked_images(run: Run) -> Split:
    """The images that any attack sees: every attack takes the first ones of these."""
    return concerned_images(run).take(max([run.config.evaluation.samples, *(_samples(run, p) for p in _plans(run))]))


def _plans(run: Run) -> tuple[EvaluationPlan, ...]:
    return run.config.evaluation.attacks


def _samples(run: Run, plan: EvaluationPlan) -> int:
    return plan.samples or run.config.evaluation.samples


def attack_jobs(run: Run) -> Iterator[AttackJob]:
    """Everything to be attacked, in a fixed order."""
    labels, groups = attack_labels(run), teams(run)
    for plan in _plans(run):
        samples, radii = _samples(run, plan), plan_radii(plan, run.data)
        for attack, source, attacker in _duels(run, plan, groups):
            for radius in radii:
                job = AttackJob(source, attack, radius, samples, labels[attack.digest], attacker=attacker)
                yield job
                if (longer := convergence_job(run, job)) is not None:
                    yield longer
        carried = black_box_radii(plan, run.data)
        knows: Attacker = "unaware" if is_defended(run) else "aware"
        for source in attackers(run) if carried else ():
            for radius in carried:
                yield AttackJob(source, plan.attack, radius, samples, labels[plan.attack.digest], attacker=knows)


def _duels(run: Run, plan: EvaluationPlan, groups: Sequence[Team]) -> Iterator[tuple[Attack, Contestant, Attacker]]:
    """Which attack is run on what: on undefended forms, on defended ones, and as published where that differs."""
    for attack in attacks_of(run, plan):
        published = attack is not plan.attack
        for team in groups:
            if team is not groups[0] and (published or attack.family == "noise"):  # these know of no defence
                continue
            for source in targets(run, attack, team):
                yield attack, source if published else aware_source(run, source), "unaware" if published else "aware"


def black_box_radii(plan: AttackPlan, data: Dataset) -> list[Radius]:
    """At which strengths examples made on another model tell anything.

    Only attacks that follow gradients depend on the model; without any bound they become images of another class.
    """
    attack = plan.attack
    if attack.knowledge != "white-box" or attack.family not in ("gradient", "minimal-norm"):
        return []
    radii = plan_radii(plan, data)
    return [r for r in radii if attack.family == "minimal-norm" or np.min(r.steps) < data.grid.span - 1]


def convergence_job(run: Run, job: AttackJob) -> AttackJob | None:
    """The same attack with twice the iterations, where the config asks for that check and the attack iterates.

    On no more than `evaluation.samples` images: an attack that has many would take three times as long.
    """
    attack = job.attack
    if job.source.apart or job.attacker == "unaware" or not run.config.evaluation.check_convergence:
        return None
    if not (isinstance(attack, GradientAttack) and attack.iterative):
        return None
    fewer = min(job.samples, run.config.evaluation.samples)
    return replace(job, attack=attack.doubled(), samples=fewer, label=f"{job.label}, twice the steps", check=True)


def targets(run: Run, attack: Attack, team: Team) -> list[Contestant]:
    """What an attack is run on: gradients exist only in Keras models; outputs are asked of the accelerator itself,
    and with `evaluation.ask_float` of the float model as well.

    The worst case does both: gradients of the quantized model, judged and queried on the accelerator. So does every
    attack where the model may differ from the accelerator: its gradients are a surrogate.
    """
    if attack.knowledge == "black-box" or team.with_gradients is None:
        floats = [source for source in team.sources if source.bits is None] if run.config.evaluation.ask_float else []
        return [*floats, team.accelerator]
    if attack.family == "worst-case" or run.exactness == "reported":
        return [*team.sources[:-1], team.with_gradients]
    return list(team.sources)


def judged_victim(run: Run) -> str:
    """Whose success counts for the hardware: the quantized model's, or the accelerator's where that may differ."""
    return "quantized" if run.exactness == "required" else run.device.name


def strongest(run: Run, rows: Sequence[Row]) -> AttackJob | None:
    """The attack that did most harm to the hardware's function in the ball of the headline table, if there is one."""
    ball, judge = headline_ball(rows), judged_victim(run)
    knowledge = "white-box" if run.has_gradients else "black-box"
    undefended = [row for row in rows if row.model in (run.config.model_label, run.config.mapped_label)]
    mine = [row for row in undefended if (row.victim, row.knowledge, row.source) == (judge, knowledge, "")]
    lowest = min(
        (row for row in mine if row.ball == ball),
        key=lambda row: row.accuracy,
        default=None,
    )
    if lowest is None:
        return None
    wanted = (judge, lowest.attack_digest, lowest.radius, lowest.epsilon_unit)
    own = (job for job in attack_jobs(run) if not (job.source.apart or job.check or job.source.defence is not None))
    named = ((j, (j.source.victim.name, j.attack.digest, j.radius.epsilon, j.radius.unit)) for j in own)
    return next((job for job, name in named if name == wanted), None)


def run_attacks(run: Run) -> tuple[str, ...]:
    """Run every job that is not stored yet; names of the example files."""
    images = attacked_images(run)
    todo = list(attack_jobs(run))
    names = []
    with progress_bar("attacking", len(todo)) as bar:
        for job in todo:
            path = job_path(run, job)
            if load_result(path) is None:
                state, seed = path.with_suffix(".part.npz"), run.config.seed
                x, y = images.take(job.samples)
                right, radius, criterion = (
                    run.task.right(job.source.victim, x, y),
                    job.radius.steps,
                    job.source.criterion,
                )
                result = job.attack(
                    job.source.victim, x, right,
                    epsilon_lsb=radius, seed=seed, criterion=criterion, state=state, starts=known_starts(run),
                    for_others=True,  # rows of other victims are scored on the same examples
                )  # fmt: skip
                store_result(path, result)
                state.unlink(missing_ok=True)
            names.append(path.relative_to(run.folder.path).as_posix())
            bar.advance(note=job.title)
    return tuple(dict.fromkeys(names))


def known_starts(run: Run) -> Codes | None:
    """What an attacker of an auto-encoder has: normal inputs to hide an anomaly behind, or anomalies that raise alarms.

    From the validation samples. Other attacks begin at each other's inputs.
    """
    if run.task.kind != "anomaly":
        return None
    validation = run.data.validation
    return validation.x[~run.task.concerned(validation.y)][:KNOWN_STARTS]


def job_path(run: Run, job: AttackJob) -> Path:
    """Where a job's examples are kept; the name holds the digest of all they depend on."""
    special: dict[str, Any] = {} if run.task == CLASSES else {"task": run.task.as_json()}
    special |= {"own": job.source.own} if job.source.own else {}
    key = digest_of(
        special
        | {
            "inputs": job.source.apart or {name: run.folder.outputs(name) for name in _made_by(run, job.source)},
            "data": run.config.data.model_dump(mode="json"),
            "samples": job.samples,
            "seed": run.config.seed,
            "attack": job.attack.model_dump(mode="json"),
            "epsilon": job.radius.key,
            "source": [job.source.label, job.source.victim.name],
        }
    )
    name = f"{job.source.label}-{job.source.victim.name}-{job.attack.kind}-{job.radius.epsilon:g}-{key[:16]}.npz"
    return run.folder / "attacks" / name


def _made_by(run: Run, source: Contestant) -> tuple[str, ...]:
    """The steps that a model of the run came from: the float network is the same, however it is mapped and rounded."""
    if source.victim.name != "float":
        own = run.exactness == "reported"  # then the accelerator's bits depend on how it was generated
        return run.device_steps if own else ("train", "map", "quantize")
    return ("train",) if source.label == run.config.model_label else ("train", "map")


#: Fields of a result that JSON can hold as they are.
_PLAIN = ("attack", "queries", "seconds", "seed", "unbounded")


def store_result(path: Path, result: AttackResult) -> None:
    """Keep a result: examples as codes, the rest as it is."""
    plain = {name: getattr(result, name) for name in _PLAIN} | {"diagnostics": asdict(result.diagnostics)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, x=result.x, success=result.success, epsilon_lsb=result.epsilon_lsb, record=json.dumps(plain)
        )


def load_result(path: Path) -> AttackResult | None:
    """A stored result; None if there is none or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            record = json.loads(str(stored["record"]))
            record["diagnostics"] = Diagnostics(**record["diagnostics"])
            epsilon = stored["epsilon_lsb"]
            arrays = {"x": stored["x"], "success": stored["success"]}
            return AttackResult(**record, **arrays, epsilon_lsb=epsilon if epsilon.ndim else float(epsilon))
    except (OSError, ValueError, KeyError, TypeError, *ARCHIVE_ERRORS):
        return None
