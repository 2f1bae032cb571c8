"""A run's defence: the network's forms behind it, and who attacks what with which knowledge.

An unaware attacker makes his examples without it: on the undefended forms, or on a distilled network through the
saturated softmax, as published. An aware one attacks what is really there: through filters (BPDA), with the detector
in his loss, with logits at the distilled temperature, and with queries to the defended accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hw.experiment.contestants import Contestant, Team, followed, plain_team
from hw.experiment.run import Run
from qmodels.attacks import Attack, GradientAttack
from qmodels.criteria import GroupMisclassification, Misclassification, Rejecting, Targeted
from qmodels.defences import BitDepth, Chain, Defence, Filter, Median, TemperedModel, defended, detector
from qmodels.defences.pixelcnn import pixeldefend
from qmodels.digest import digest_of
from qmodels.errors import UserError
from qmodels.victims import GradientVictim

PIXELCNN_FILE = "pixelcnn.npz"


def teams(run: Run) -> list[Team]:
    """The undefended forms of the run's network, and where the config asks for a defence the defended ones."""
    if "teams" not in run.kept:
        plain = plain_team(run)
        run.kept["teams"] = [plain] if run.config.defence.kind == "none" else [plain, _defended_team(run, plain)]
    found: list[Team] = run.kept["teams"]
    return found


def is_defended(run: Run) -> bool:
    """Whether an attacker could overlook something: a defence before the network, or one of its training."""
    return run.config.defence.kind != "none" or run.config.defended_training


def twin(run: Run, plain: Contestant) -> Contestant | None:
    """The defended form of an undefended one; None where there is none."""
    undefended, *others = teams(run)
    place = [one.who for one in undefended.all].index(plain.who)
    return others[0].all[place] if others else None


def aware_source(run: Run, source: Contestant) -> Contestant:
    """What an attacker who knows of a distillation follows: logits at its temperature."""
    if not run.config.distilled or not isinstance(source.victim, GradientVictim):
        return source
    key = "tempered", source.who, source.own
    if key not in run.kept:
        tempered = TemperedModel(source.victim.gradient_model, run.config.training.distillation.temperature)
        run.kept[key] = followed(source, tempered, digest_of([source.own, "tempered", tempered.scale]))
    found: Contestant = run.kept[key]
    return found


def published_attack(run: Run, attack: Attack) -> Attack | None:
    """How an attacker who does not know of a distillation attacks: through the softmax; None where he does the same."""
    return through_softmax(attack) if run.config.distilled else None


def through_softmax(attack: Attack) -> Attack | None:
    """The attack on probabilities, as it was published; None where it does not take the cross-entropy of logits."""
    if isinstance(attack, GradientAttack) and attack.loss == "ce":
        return attack.model_copy(update={"loss": "ce-probabilities"})
    return None


def _defended_team(run: Run, plain: Team) -> Team:
    filters = list(_filters(run))
    known: dict[tuple[str, str], Defence] = {}

    def behind(one: Contestant) -> Contestant:
        key = one.who
        if run.exactness == "required" and one.victim.name == run.device.name:
            key = one.label, "quantized"  # the same bits
        if key not in known:
            known[key] = _defence(run, filters, one)
        return _defended(run, one, known[key])

    judged = None if plain.with_gradients is None else behind(plain.with_gradients)
    return Team(tuple(map(behind, plain.sources)), behind(plain.accelerator), judged)


def _filters(run: Run) -> Iterator[Filter]:
    config, grid = run.config.defence, run.data.grid
    if config.kind == "pixeldefend":
        path = run.folder / PIXELCNN_FILE
        yield pixeldefend(config.pixeldefend, grid, run.data.train.x, run.config.seed, path)
        return
    if config.squeezing.bits is not None:
        yield BitDepth(grid, config.squeezing.bits)
    if config.squeezing.window is not None:
        yield Median(config.squeezing.window)


def _defence(run: Run, filters: list[Filter], one: Contestant) -> Defence:
    config = run.config.defence
    if not config.detects:
        return Defence((Chain(tuple(filters)) if len(filters) > 1 else filters[0],))
    return detector(filters, one.victim, run.data.validation.x, config.squeezing.false_positive_rate)


def _defended(run: Run, one: Contestant, defence: Defence) -> Contestant:
    config = run.config.defence
    own = digest_of([config.model_dump(mode="json"), defence.threshold, run.data.digest])
    criterion = one.criterion
    if config.detects:
        assert isinstance(criterion, (Misclassification, Targeted, GroupMisclassification))  # `check_defence`
        criterion = Rejecting(classes=run.data.classes, inner=criterion)
    return replace(
        one,
        label=one.label + config.label,
        victim=defended(one.victim, defence),
        criterion=criterion,
        defence=defence,
        own=own,
    )


def check_defence(run: Run, kind: str) -> None:
    """Raise UserError where the defence does not fit the data or the task, before any work.

    Args:
        run: its config and data.
        kind: of the task.
    """
    config, shape, fmt = run.config.defence, run.data.input_shape, run.data.grid.format
    if config.kind == "none":
        return
    if kind not in ("classes", "binary"):
        raise UserError(
            f"defence.kind {config.kind}: defends classifiers, and the task is {kind}; use defence.kind: none"
        )
    if run.data.grid.ports:
        raise UserError(
            f"defence.kind {config.kind}: defends models of one input, and this one has {len(run.data.grid.ports)}; "
            "use defence.kind: none"
        )
    needs_image = config.kind == "pixeldefend" or config.squeezing.window is not None
    if needs_image and len(shape) != 3:
        mend = "" if config.kind == "pixeldefend" else "; set defence.squeezing.window: null, which leaves the bits"
        raise UserError(
            f"defence.kind {config.kind}: works on images (height, width, channels); the data set {run.data.name!r} "
            f"gives inputs of shape {shape}{mend}"
        )
    if config.kind == "pixeldefend" and (fmt.signed or fmt.width > 8):
        raise UserError(f"defence.kind pixeldefend: knows codes of 0..255; inputs are {fmt}; use feature-squeezing")
    bits = config.squeezing.bits
    if config.kind == "feature-squeezing" and bits is not None and bits >= fmt.width and not config.squeezing.window:
        raise UserError(
            f"defence.squeezing.bits is {bits}, and inputs have {fmt.width}: nothing would be squeezed; allowed: "
            f"1 .. {fmt.width - 1}"
        )
