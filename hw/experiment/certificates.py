"""What is proved of a run's accelerator: certificates, kept in files, and the brackets that they make with attacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw.certify import Certificate, Certifier, Effort
from hw.experiment.attacks import concerned_images
from hw.experiment.contestants import accelerator_of
from hw.experiment.evaluation_config import CertificatePlan
from hw.experiment.run import Run
from qmodels.attacks.ball import Ball
from qmodels.digest import digest_of
from qmodels.errors import ARCHIVE_ERRORS, Contradiction, UserError
from qmodels.metrics.masking import CLEAN, Row
from qmodels.progress import progress_bar
from qmodels.statistics import wilson
from qmodels.storage import atomic_path

FOLDER = "certificates"


@dataclass(frozen=True)
class Bracket:
    """One radius in results.json: proved on the left, attacked on the right.

    `accuracy` is a lower bound: no attack brings the accuracy on these images below it. `worst_case` is what the
    certificate's own counterexamples and all attacks of the run in this ball leave of the same images.
    """

    model: str
    victim: str
    epsilon_lsb: int
    n: int
    accuracy: float
    ci95: tuple[float, float]
    worst_case: float
    broken: float
    unknown: float
    seconds: float
    complete: bool
    methods: dict[str, int]
    contradictions: int = 0
    attack: Literal["certificate"] = "certificate"
    bound: Literal["lower"] = "lower"
    norm: Literal["linf"] = "linf"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"ci95": list(self.ci95)}

    def __str__(self) -> str:
        return (
            f"ε = {self.epsilon_lsb} LSB, {self.n} images: true accuracy lies in "
            f"[{100 * self.accuracy:.1f}, {100 * self.worst_case:.1f}] %; {100 * self.unknown:.1f} % undecided, "
            f"{self.seconds:.1f} s"
        )


def asked_later(run: Run, plan: CertificatePlan, rows: Callable[[], Sequence[Row]]) -> Iterator[Bracket]:
    """The brackets of a plan that is not the run's own config: for the command `certify`.

    Raises:
        UserError: the run has no project yet; else as `certificates`.
    """
    if not (run.folder / "project.json").exists():
        where = run.folder.path
        raise UserError(f"{where}: there is no accelerator in this run yet; first: robust-hls run {where}")
    check_certifiable(run.task.kind)
    attacked = rows()
    for epsilon in plan.epsilons_lsb:
        yield certificate(run, plan, epsilon, attacked)[1]


def certificates(run: Run, rows: Sequence[Row]) -> list[tuple[Certificate, Bracket]]:
    """A certificate and its bracket for every radius that the config asks for; kept ones are read again.

    Args:
        run: with a project, and with attacks if there are any.
        rows: of attacks, with their answers image by image.

    Raises:
        UserError: the task is none that can be certified, or bitsim does not simulate the accelerator.
        Contradiction: an image is certified, and an attack has broken it.
    """
    plan = run.config.evaluation.certificate
    return [certificate(run, plan, epsilon, rows) for epsilon in plan.epsilons_lsb]


def certificate(run: Run, plan: CertificatePlan, epsilon: int, rows: Sequence[Row] = ()) -> tuple[Certificate, Bracket]:
    """One radius; arguments and errors as of `certificates`."""
    check_certifiable(run.task.kind)
    images = concerned_images(run).take(plan.samples or run.config.evaluation.samples)
    ball = Ball(run.data.grid, images.x, "linf", float(epsilon))
    found = _kept(run, plan, ball, np.asarray(images.y))
    judge = accelerator_of(run)
    mine = [
        row
        for row in rows
        if (row.model, row.victim, row.norm) == (judge.label, judge.victim.name, "linf")
        and row.attack != CLEAN
        and row.correct is not None
        and row.epsilon_lsb <= epsilon
        and row.epsilon_unit == "lsb"
    ]
    survives = ~found.broken
    for row in mine:
        seen = np.asarray(row.correct)[: len(found)]
        _check(found, seen, row, epsilon)
        survives[: len(seen)] &= seen
    return found, _bracket(run, found, epsilon, survives)


def check_certifiable(kind: str) -> None:
    """Refuse tasks that certificates do not know, before long work. Raises UserError."""
    if kind != "classes":
        raise UserError(
            f"evaluation.certificate: certificates are for classes, and the task of this run is {kind}; "
            "leave evaluation.certificate out"
        )


def _check(found: Certificate, seen: NDArray[np.bool_], row: Row, epsilon: int) -> None:
    both = np.flatnonzero(found.certified[: len(seen)] & ~seen)
    if len(both):
        raise Contradiction(
            f"image {both[0]} ({len(both)} in all) is certified at ε = {epsilon} LSB by {found.methods[both[0]]}, and "
            f"{row.attack} with ε = {row.epsilon_lsb:g} LSB breaks it on {row.victim}: one of both is wrong. This is a "
            "defect of ours; please report it with the run folder"
        )


def _bracket(run: Run, found: Certificate, epsilon: int, survives: NDArray[np.bool_]) -> Bracket:
    judge = accelerator_of(run)
    names, counts = np.unique(found.methods, return_counts=True)
    return Bracket(
        judge.label,
        judge.victim.name,
        epsilon,
        len(found),
        found.accuracy,
        wilson(int(found.certified.sum()), len(found)),
        float(survives.mean()),
        float(found.broken.mean()),
        float(1 - found.decided.mean()),
        round(float(found.seconds.sum()), 2),
        found.complete,
        {str(name): int(count) for name, count in zip(names, counts, strict=True)},
    )


def _kept(run: Run, plan: CertificatePlan, ball: Ball, y: NDArray[Any]) -> Certificate:
    """From the run's folder, or made and put there."""
    settings = plan.model_dump(mode="json", exclude={"epsilons_lsb", "samples"})
    made_of = json.loads((run.folder / "project.json").read_text())["digest"]
    key = digest_of([settings, float(np.max(ball.epsilon)), len(ball), made_of, run.data.digest])
    path = run.folder / FOLDER / f"{key}.npz"
    if (found := _load(path, ball, plan.complete)) is not None:
        return found
    certifier = Certifier(run.accelerator.bitsim)
    with progress_bar("certifying", len(ball)) as bar:
        effort = Effort(complete=plan.complete, timeout=plan.timeout)
        found = certifier.certify(ball, y, effort, lambda done: bar.advance(done))
    _confirm(run, found, y)
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as fresh, fresh.open("wb") as file:
        np.savez_compressed(
            file, verdicts=found.verdicts, methods=found.methods, examples=found.examples, seconds=found.seconds
        )
    return found


def _confirm(run: Run, found: Certificate, y: NDArray[Any]) -> None:
    """Counterexamples are wrong on csim too: on all, or on as many as the gate gives it."""
    rows = np.flatnonzero(found.broken)[: run.config.simulation.verify_samples]
    csim = run.accelerator.csim_for(len(rows)) if len(rows) else None
    if csim is not None and not (csim.logits(found.examples[rows]).argmax(axis=1) != y[rows]).all():
        raise Contradiction("a counterexample of bitsim is none in the C simulation: a defect of ours")


def _load(path: Any, ball: Ball, complete: bool) -> Certificate | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            parts = [kept[name] for name in ("verdicts", "methods", "examples", "seconds")]
    except ARCHIVE_ERRORS:
        return None
    verdicts, methods, examples, seconds = parts
    return Certificate(verdicts, methods, examples, ball.epsilon, ball.norm, seconds, complete)
