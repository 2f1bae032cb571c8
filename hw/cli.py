"""The `robust-hls` command. Heavy imports stay inside the commands, so that --help answers at once."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hw.experiment.settings import read_settings
from qmodels.errors import ExactnessError, RobustHlsError, UserError
from qmodels.interrupts import STATUS, stoppable
from qmodels.storage import usable_path

if TYPE_CHECKING:
    from hw.experiment.run import Run

app = typer.Typer(
    name="robust-hls",
    help="Train low-bit networks, generate FPGA accelerators, and attack the accelerator bit for bit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _path(text: str) -> Path:
    """A path that was typed. Raises UserError for one that no file can have."""
    if not text.strip():
        raise UserError("an empty path was given for an option; leave the option out, or name a file or folder")
    return usable_path(Path(text))


Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CONFIG|RUN]", parser=_path, help="A YAML experiment or a run folder; default: the built-in demo."
    ),
]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. mapping.mu=15.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", parser=_path, help="Run folder; default hls_projects/<name>.")
]
NamedOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", parser=_path, help="Default hls_projects/<name>.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that is in the folder.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        parser=_path,
        envvar="ROBUST_HLS_DATA",
        help="Folder with mnist.npz, cifar10.npz, ...",
    ),
]
OwnModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        parser=_path,
        help="Your own model: .keras, .h5, a SavedModel folder, .json with weights, .onnx; attack: .tflite.",
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", parser=_path, help="Weights .h5 of a .json model.")
]
HlsConfig = Annotated[
    Path | None,
    typer.Option("--hls-config", metavar="FILE", parser=_path, help="hls4ml's own YAML: backend, part, reuse factors."),
]
Repair = Annotated[bool, typer.Option("--repair", help="Fix what can be fixed in your model, and say what changed.")]
Engine = Annotated[str | None, typer.Option("--engine", metavar="bitsim|csim", help="Which simulator.")]
Plan = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="A config whose evaluation section says what is attacked, and how."),
]
OwnData = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|FILE", help="Data set, or your own .npz, .csv, or folder of pictures."),
]


def _flow(
    until: str,
    target: Path | None,
    settings: dict[str, Any],
    out: Path | None,
    resume: bool,
    data_dir: Path | None,
    model: Path | None,
    data: str | None,
    engine: str | None,
    plan: Path | None,
    overflow: bool = False,
) -> None:
    """Open the run and bring it to the end of step `until`."""
    with _stoppable("stopped; run again with --resume to continue"):
        from hw.experiment.open import open_run
        from hw.experiment.pipeline import run_steps, steps_until
        from hw.experiment.plan import plan_text
        from hw.experiment.preflight import check_run, told_before
        from hw.report.step import FLOW
        from hw.report.summary import show_summary
        from qmodels.tflite import is_tflite

        run = open_run(
            target,
            settings,
            out=out,
            resume=resume,
            data_dir=data_dir,
            model=model,
            data=data,
            engine=engine,
            plan=plan,
        )
        if is_tflite(run.config.model.file):
            _attack_tflite(run, until)
            return
        steps = steps_until(until, FLOW)
        check_run(run, steps)
        for line in told_before(run):
            _say(line)
        if run.config.model.file is not None and "attack" in [step.name for step in steps]:
            _say(plan_text(run.config.evaluation))
        try:
            with run.folder.lock():
                run_steps(run, steps, _say)
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
        _say(line)
    _say(plan_text(own.config.evaluation))
    with own.folder.lock():
        run_steps(own, TFLITE_FLOW, _say)
        show_summary(own, "report")


def _show_overflow(run: Run) -> None:
    from hw.experiment.overflow import stored_overflow
    from hw.report.summary import show_overflow

    show_overflow(stored_overflow(run))


def _own_model_settings(weights: Path | None, repair: bool) -> dict[str, Any]:
    """--weights and --repair as settings of the config."""
    files = {"model.weights": str(weights.resolve())} if weights is not None else {}
    return files | ({"model.repair": True} if repair else {})


def _hls4ml_settings(path: Path | None, own_model: bool = False) -> dict[str, Any]:
    """--hls-config as settings of the config; what has no place here is told. Types are those of your own model."""
    if path is None:
        return {}
    from hw.generate.hls4ml_yaml import TYPE_KEYS, read_hls4ml_types, read_hls4ml_yaml

    settings, ignored = read_hls4ml_yaml(path)
    if own_model:  # a float model takes them
        settings["hls4ml_types"] = read_hls4ml_types(path)
        ignored = [key for key in ignored if key.rpartition(".")[2] not in TYPE_KEYS]
    if ignored:
        _say(
            f"{path}: not used (types follow from the model, the rest has no setting here): {', '.join(ignored)}",
            err=True,
        )
    layers = settings.pop("layers")  # one by one: the config's own stay
    own = {f"layers.{name}.{key}": value for name, entry in layers.items() for key, value in entry.items()}
    return {f"hardware.{key}": value for key, value in (settings | own).items()}


def _add_step(command: str, until: str, summary: str) -> None:
    """A command that runs the flow up to the end of step `until`; all of them take the same options."""

    def step_command(
        target: Target = None,
        settings: Settings = [],  # noqa: B006 - typer copies it
        out: Out = None,
        resume: Resume = False,
        data_dir: DataDir = None,
        model: OwnModel = None,
        data: OwnData = None,
        engine: Engine = None,
        weights: Weights = None,
        repair: Repair = False,
        hls_config: HlsConfig = None,
        plan: Plan = None,
    ) -> None:
        changes = (
            _hls4ml_settings(hls_config, model is not None)
            | _own_model_settings(weights, repair)
            | read_settings(settings)
        )
        _flow(until, target, changes, out, resume, data_dir, model, data, engine, plan)

    app.command(command, help=summary)(step_command)


_add_step("run", "report", "The whole flow: train, map, quantize, project, simulate, attack, evaluate, report.")
_add_step("train", "aware", "Train only: the float model, and where the config asks for it the quantized one.")
_add_step("generate", "project", "Up to the HLS project; with --model from your own model.")


@app.command("simulate")
def simulate_command(
    target: Target = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
    out: Out = None,
    resume: Resume = False,
    data_dir: DataDir = None,
    model: OwnModel = None,
    data: OwnData = None,
    engine: Engine = None,
    weights: Weights = None,
    repair: Repair = False,
    hls_config: HlsConfig = None,
    plan: Plan = None,
    overflow: Annotated[bool, typer.Option("--overflow", help="Show what saturates or wraps, by layer.")] = False,
) -> None:
    """Up to the bit-accurate simulation and the exactness gate."""
    changes = (
        _hls4ml_settings(hls_config, model is not None) | _own_model_settings(weights, repair) | read_settings(settings)
    )
    _flow("simulate", target, changes, out, resume, data_dir, model, data, engine, plan, overflow)


@app.command("attack")
def attack_command(
    target: Target = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
    out: Out = None,
    resume: Resume = False,
    data_dir: DataDir = None,
    model: OwnModel = None,
    data: OwnData = None,
    engine: Engine = None,
    weights: Weights = None,
    repair: Repair = False,
    hls_config: HlsConfig = None,
    plan: Plan = None,
    surrogate: Annotated[
        Path | None,
        typer.Option(
            "--surrogate", metavar="FILE", parser=_path, help="For a .tflite file: a Keras model for the gradients."
        ),
    ] = None,
) -> None:
    """Up to the adversarial examples; with --model x.tflite from the file to the report."""
    given = {"model.surrogate": str(surrogate.resolve())} if surrogate is not None else {}
    changes = (
        _hls4ml_settings(hls_config, model is not None)
        | _own_model_settings(weights, repair)
        | given
        | read_settings(settings)
    )
    _flow("attack", target, changes, out, resume, data_dir, model, data, engine, plan)


_add_step("evaluate", "evaluate", "Up to the scores of every victim, with flags.")


@app.command("export")
def export_command(
    target: Target = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
    out: Out = None,
    resume: Resume = False,
    data_dir: DataDir = None,
    model: OwnModel = None,
    data: OwnData = None,
) -> None:
    """The trained float model as .tflite files: float32, int8 and int16x8, calibrated on training data."""
    with _stoppable("stopped; run again with --resume to continue"):
        from hw.experiment.export import EXPORT_FLOW
        from hw.experiment.open import open_run
        from hw.experiment.pipeline import run_steps
        from hw.experiment.preflight import check_run
        from hw.report.summary import show_exports

        run = open_run(
            target, read_settings(settings), out=out, resume=resume, data_dir=data_dir, model=model, data=data
        )
        check_run(run, EXPORT_FLOW)
        with run.folder.lock():
            run_steps(run, EXPORT_FLOW, _say)
            show_exports(run)


@app.command()
def certify(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=_path, help="A run folder with an accelerator.")],
    epsilon: Annotated[list[int], typer.Option("--epsilon", min=1, metavar="LSB", help="L-infinity; may be repeated.")],
    complete: Annotated[bool, typer.Option("--complete", help="Branch and bound for undecided images.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="CPU seconds per undecided image.")] = 60.0,
    images: Annotated[int | None, typer.Option("--images", min=1, help="How many test images, in order.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Prove in exact integers what no attack can do to a run's accelerator, and compare with its attacks."""
    with _stoppable("stopped; finished radii are kept"):
        from hw.experiment.certificates import asked_later
        from hw.experiment.evaluation_config import CertificatePlan
        from hw.experiment.open import open_run
        from hw.experiment.scoring import finished_rows

        opened = open_run(run, resume=True, data_dir=data_dir)
        plan = CertificatePlan(epsilons_lsb=tuple(epsilon), samples=images, complete=complete, timeout=timeout)
        with opened.folder.lock():
            for bracket in asked_later(opened, plan, lambda: finished_rows(opened)):
                _say(str(bracket))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", parser=_path, help="Run folders.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            parser=_path,
            help=".html, .md, .csv, .json or .svg; default: the console.",
        ),
    ] = None,
) -> None:
    """Tables and plots of finished runs, side by side."""
    with _stoppable("stopped"):
        from hw.report import report_runs

        report_runs(runs, output)


@app.command()
def synth(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=_path, help="A run folder with an HLS project.")],
    csim: Annotated[bool, typer.Option("--csim", help="The vendor's C simulation of the test bench.")] = False,
    synth: Annotated[bool, typer.Option("--synth", help="C to RTL.")] = False,
    cosim: Annotated[bool, typer.Option("--cosim", help="RTL simulation; replays the adversarial inputs.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Package the IP.")] = False,
    vsynth: Annotated[bool, typer.Option("--vsynth", help="Logic synthesis: real LUTs, DSPs, RAMs, timing.")] = False,
    reports: Annotated[
        Path | None,
        typer.Option("--reports", metavar="DIR", parser=_path, help="Read an hls folder synthesized elsewhere."),
    ] = None,
) -> None:
    """Run the vendor's tools on a run's HLS project; default: --csim --synth."""
    from hw.synth import STAGES, import_reports, synthesize
    from hw.synth.summary import show_synthesis

    asked = dict(zip(STAGES, (csim, synth, cosim, export, vsynth), strict=True))
    wanted = [stage for stage in STAGES if asked[stage]]
    with _stoppable("stopped, and the tool with it; run the same command again to continue with the stage it was in"):
        if reports is not None:
            record = import_reports(run, reports, _say)
        else:
            record = synthesize(run, wanted or ["csim", "synth"], _say)
    show_synthesis(record, _say)


@app.command()
def rtl(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=_path, help="A run folder with an HLS project.")],
    generate: Annotated[bool, typer.Option("--generate", help="Write Verilog (alkaid); compare its bits.")] = False,
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulate it (Verilator); compare its bits.")] = False,
    synthesize: Annotated[bool, typer.Option("--synthesize", help="Count LUTs and flip-flops (Yosys).")] = False,
    settings: Settings = [],  # noqa: B006 - typer copies it
    force: Annotated[bool, typer.Option("--force", help="Also networks too large for Verilator.")] = False,
) -> None:
    """From the accelerator to gates with open tools (alkaid, Verilator, Yosys); default: all three steps."""
    asked = {"generate": generate, "simulate": simulate, "synthesize": synthesize}
    wanted = [step for step in asked if asked[step]] or list(asked)
    with _stoppable("stopped, and the tool with it; run the same command again to continue with the step it was in"):
        from hw.synth.rtl import make_rtl
        from hw.synth.rtl_record import rtl_text

        record = make_rtl(run, wanted, _say, settings=read_settings(settings), force=force)
    for line in rtl_text(record):
        _say(line)


@app.command("size")
def size_command(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG|FOLDER]", parser=_path, help="A sizing config, or a sizing's folder."),
    ] = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
    out: NamedOut = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", parser=_path, help="Find how few bits your float model needs."),
    ] = None,
    data: OwnData = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Default: one per processor; 0: this process.")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help="A dask scheduler.")] = None,
    data_dir: DataDir = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed designs again.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Compute nothing; write the report.")] = False,
) -> None:
    """Search bit-widths: which design is robust enough, and what it costs. Continues where an earlier one stopped."""
    with _stoppable("stopped; every finished design is kept: run the same command again to continue"):
        from hw.sizing import OWN_MODEL, SizingOptions, own_model_settings, show, size

        if target is None and model is None:
            raise UserError("size needs a sizing config, an earlier sizing's folder, or --model FILE with --data NAME")

        options = SizingOptions(out, workers, scheduler, data_dir, retry_failed, report_only)
        changes = own_model_settings(model, data) | read_settings(settings)
        show(size(target or OWN_MODEL, changes, options), _say)


@app.command("tables")
def tables_command(
    target: Annotated[
        str, typer.Argument(metavar="NAME|CONFIG|FOLDER", help="mnist, cifar10, goliath, a .yaml, or earlier tables.")
    ],
    settings: Settings = [],  # noqa: B006 - typer copies it
    out: NamedOut = None,
    data_dir: DataDir = None,
    attacks: Annotated[str, typer.Option("--attacks", metavar="KIND,...", help="Only these columns.")] = "",
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Use at most this number of test images for each attack.")
    ] = None,
) -> None:
    """Compute the published tables again, and compare. Continues where an earlier command stopped."""
    with _stoppable("stopped; every finished attack is kept: run the same command again to continue"):
        from hw.tables import TablesOptions, make_tables, show

        kinds = tuple(kind.strip() for kind in attacks.split(",") if kind.strip())
        options = TablesOptions(out, data_dir, read_settings(settings), kinds, images)
        tables, folder = make_tables(target, options, _say)
        show(tables, folder, _say)


@app.command()
def doctor() -> None:
    """Which tools and packages are found, and how to get the missing ones."""
    with _stoppable("stopped"):
        from hw.tools.doctor import diagnose

        status = diagnose()
    raise typer.Exit(status)


#: The machine's state, not a defect of ours.
_NOT_OUR_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
#: Its limits: memory, open files, processes.
_TOO_LITTLE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
#: What was typed leads nowhere.
_NO_SUCH_PLACE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)


_NARROWEST = 20


def main() -> None:
    """Entry point: errors become one message and an exit status."""
    _settle()
    try:
        app()
    except RobustHlsError as error:
        _die(str(error), error.exit_status)
    except OSError as error:
        if error.errno in _NO_SUCH_PLACE:
            _die(f"{str(error.filename)[:200]}: {os.strerror(error.errno or 0)}", UserError.exit_status)
        if error.errno in _TOO_LITTLE:
            _die(f"{os.strerror(error.errno or 0)}; look at ulimit -a, or use a smaller model", UserError.exit_status)
        if error.errno not in _NOT_OUR_FAULT:
            raise
        where = error.filename or "writing failed"
        _die(f"{where}: {os.strerror(error.errno)}; make room or choose another --out", UserError.exit_status)

    except MemoryError as error:
        _die(f"too little memory ({error}); take a smaller model or fewer samples", UserError.exit_status)


def _settle() -> None:
    """What is set up around us decides neither whether we end well nor what we compute."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal of another encoding gets `?`
            stream.reconfigure(errors="replace")
    if not (columns := os.environ.get("COLUMNS", "80")).isdigit() or int(columns) < _NARROWEST:
        del os.environ["COLUMNS"]  # tables would have no room for their words
    if "error" in (option.split(":")[0] for option in sys.warnoptions):  # of libraries: they are not ours to mend
        warnings.simplefilter("default")
        os.environ.pop("PYTHONWARNINGS", None)


@contextlib.contextmanager
def _stoppable(message: str) -> Iterator[None]:
    """Ctrl-C in the block ends the command with a message; typer would end it without a word."""
    try:
        with stoppable(message):
            yield
    except KeyboardInterrupt:
        _die(message, STATUS)


def _die(message: str, status: int) -> None:
    _say(f"robust-hls: {message}", err=True)
    sys.exit(status)


def _say(message: str, err: bool = False) -> None:
    """Names in files that others made must not steer your terminal."""
    shown = (sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in message)
    typer.echo("".join(shown), err=err)


if __name__ == "__main__":
    main()
