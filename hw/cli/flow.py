"""The commands of the flow: open the run, say what is told beforehand, bring it to the end of a step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.cli.ending import ends_when_stopped, say
from qmodels.errors import ExactnessError, UserError

if TYPE_CHECKING:
    from hw.experiment.run import Run


@dataclass(frozen=True)
class RunChoice:
    """Which run, and what of it is not in its config."""

    target: Path | None  # a config or a run folder
    out: Path | None
    resume: bool
    data_dir: Path | None
    model: Path | None = None
    data: str | None = None
    engine: str | None = None
    plan: Path | None = None

    def open(self, settings: dict[str, Any]) -> Run:
        """The run, with settings over its config; nothing is written yet."""
        from hw.experiment.open import open_run

        return open_run(
            self.target,
            settings,
            out=self.out,
            resume=self.resume,
            data_dir=self.data_dir,
            model=self.model,
            data=self.data,
            engine=self.engine,
            plan=self.plan,
        )


def run_flow(until: str, choice: RunChoice, settings: dict[str, Any], *, overflow: bool = False) -> None:
    """Open the run and bring it to the end of step `until`."""
    with ends_when_stopped("stopped; run again with --resume to continue"):
        from hw.experiment.pipeline import run_steps, steps_until
        from hw.experiment.plan import plan_text
        from hw.experiment.preflight import check_run, told_before
        from hw.report.step import FLOW
        from hw.report.summary import show_summary
        from qmodels.tflite import is_tflite

        run = choice.open(settings)
        if is_tflite(run.config.model.file):
            _attack_tflite(run, until)
            return
        steps = steps_until(until, FLOW)
        check_run(run, steps)
        for line in told_before(run):
            say(line)
        if run.config.model.file is not None and "attack" in [step.name for step in steps]:
            say(plan_text(run.config.evaluation))
        try:
            with run.folder.lock():
                run_steps(run, steps, say)
                show_summary(run, until)
        except ExactnessError:
            if overflow:  # the likeliest reason
                _show_overflow(run)
            raise
        if overflow:
            _show_overflow(run)


def _attack_tflite(run: Run, until: str) -> None:
    """The short flow of a file that is attacked as it is: from the file to the report."""
    from hw.experiment.pipeline import run_steps
    from hw.experiment.plan import plan_text
    from hw.experiment.tflite import TFLiteRun, check_tflite, told
    from hw.report.step import TFLITE_FLOW
    from hw.report.summary import show_summary

    if until != "attack":
        raise UserError(
            f"{run.config.model.file}: a .tflite file is attacked as it is: robust-hls attack; for an accelerator "
            "give the Keras model from which it was made"
        )
    own = TFLiteRun.of(run)
    check_tflite(own)
    for line in told(own):
        say(line)
    say(plan_text(own.config.evaluation))
    with own.folder.lock():
        run_steps(own, TFLITE_FLOW, say)
        show_summary(own, "report")


def _show_overflow(run: Run) -> None:
    from hw.experiment.overflow import stored_overflow
    from hw.report.summary import show_overflow

    show_overflow(stored_overflow(run))


def own_model_settings(weights: Path | None, surrogate: Path | None, repair: bool) -> dict[str, Any]:
    """--weights, --surrogate and --repair as settings of the config."""
    given = {"model.weights": weights, "model.surrogate": surrogate}
    files = {key: str(path.resolve()) for key, path in given.items() if path is not None}
    return files | ({"model.repair": True} if repair else {})


def hls4ml_settings(path: Path | None, own_model: bool = False) -> dict[str, Any]:
    """--hls-config as settings of the config; what has no place here is told. Types are those of your own model."""
    if path is None:
        return {}
    from hw.generate.hls4ml_yaml import TYPE_KEYS, read_hls4ml_types, read_hls4ml_yaml

    settings, ignored = read_hls4ml_yaml(path)
    if own_model:  # a float model takes them
        settings["hls4ml_types"] = read_hls4ml_types(path)
        ignored = [key for key in ignored if key.rpartition(".")[2] not in TYPE_KEYS]
    if ignored:
        say(
            f"{path}: these keys are not used (types come from your model; the others have no setting here): "
            f"{', '.join(ignored)}",
            err=True,
        )
    layers = settings.pop("layers")  # one by one: the config's own stay
    own = {f"layers.{name}.{key}": value for name, entry in layers.items() for key, value in entry.items()}
    return {f"hardware.{key}": value for key, value in (settings | own).items()}
