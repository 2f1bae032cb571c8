"""The `robust-hls` command. Heavy imports stay inside the commands, so that --help answers at once."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from hw.cli.ending import ends_when_stopped, one_message, say, settle
from hw.cli.flow import RunChoice, hls4ml_settings, own_model_settings, run_flow
from hw.cli.options import (
    DataDir,
    Engine,
    HlsConfig,
    NamedOut,
    Out,
    Overflow,
    OwnData,
    OwnModel,
    Plan,
    Repair,
    Resume,
    Settings,
    Surrogate,
    Target,
    Weights,
    typed_path,
)
from hw.experiment.settings import read_settings
from qmodels.errors import UserError

app = typer.Typer(
    name="robust-hls",
    help="Train low-bit networks, generate FPGA accelerators, and attack the accelerator bit for bit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _add_step(command: str, until: str, summary: str, *own: str) -> None:
    """A command that runs the flow up to the end of step `until`; `own` names the options that the others have not."""

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
        overflow: Overflow = False,
        surrogate: Surrogate = None,
    ) -> None:
        changes = (
            hls4ml_settings(hls_config, model is not None)
            | own_model_settings(weights, surrogate, repair)
            | read_settings(settings)
        )
        choice = RunChoice(target, out, resume, data_dir, model, data, engine, plan)
        run_flow(until, choice, changes, overflow=overflow)

    options = inspect.signature(step_command, eval_str=True).parameters.values()
    shared = [option for option in options if option.name not in {"overflow", "surrogate"} - set(own)]
    step_command.__signature__ = inspect.Signature(shared)  # type: ignore[attr-defined]  # what typer shows
    app.command(command, help=summary)(step_command)


_add_step("run", "report", "The whole flow: train, map, quantize, project, simulate, attack, evaluate, report.")
_add_step("train", "aware", "Train only: the float model, and where the config asks for it the quantized one.")
_add_step("generate", "project", "Up to the HLS project; with --model from your own model.")
_add_step("simulate", "simulate", "Up to the bit-accurate simulation and the exactness gate.", "overflow")
_add_step(
    "attack",
    "attack",
    "Up to the adversarial examples; with --model x.tflite from the file to the report.",
    "surrogate",
)
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
    with ends_when_stopped("stopped; run again with --resume to continue"):
        from hw.experiment.export import EXPORT_FLOW
        from hw.experiment.pipeline import run_steps
        from hw.experiment.preflight import check_run
        from hw.report.summary import show_exports

        run = RunChoice(target, out, resume, data_dir, model, data).open(read_settings(settings))
        check_run(run, EXPORT_FLOW)
        with run.folder.lock():
            run_steps(run, EXPORT_FLOW, say)
            show_exports(run)


@app.command()
def certify(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=typed_path, help="A run folder with an accelerator.")],
    epsilon: Annotated[list[int], typer.Option("--epsilon", min=1, metavar="LSB", help="L-infinity; may be repeated.")],
    complete: Annotated[
        bool, typer.Option("--complete", help="Also search the undecided images, by branch and bound (slow).")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="CPU seconds per undecided image.")] = 60.0,
    images: Annotated[int | None, typer.Option("--images", min=1, help="How many test images, in order.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Prove which test images no attack within epsilon can break, and compare with the run's attacks."""
    with ends_when_stopped("stopped; finished radii are kept"):
        from hw.experiment.certificates import asked_later
        from hw.experiment.evaluation_config import CertificatePlan
        from hw.experiment.open import open_run
        from hw.experiment.scoring import finished_rows

        opened = open_run(run, resume=True, data_dir=data_dir)
        plan = CertificatePlan(epsilons_lsb=tuple(epsilon), samples=images, complete=complete, timeout=timeout)
        with opened.folder.lock():
            for bracket in asked_later(opened, plan, lambda: finished_rows(opened)):
                say(str(bracket))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", parser=typed_path, help="Run folders.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            parser=typed_path,
            help=".html, .md, .csv, .json or .svg; default: the console.",
        ),
    ] = None,
) -> None:
    """Tables and plots of finished runs, side by side."""
    with ends_when_stopped("stopped"):
        from hw.report import report_runs

        report_runs(runs, output)


@app.command()
def synth(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=typed_path, help="A run folder with an HLS project.")],
    csim: Annotated[bool, typer.Option("--csim", help="The vendor's C simulation of the test bench.")] = False,
    synth: Annotated[bool, typer.Option("--synth", help="C to RTL.")] = False,
    cosim: Annotated[bool, typer.Option("--cosim", help="RTL simulation; replays the adversarial inputs.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Package the IP.")] = False,
    vsynth: Annotated[bool, typer.Option("--vsynth", help="Logic synthesis: real LUTs, DSPs, RAMs, timing.")] = False,
    reports: Annotated[
        Path | None,
        typer.Option("--reports", metavar="DIR", parser=typed_path, help="Read an hls folder synthesized elsewhere."),
    ] = None,
) -> None:
    """Run the vendor's tools on a run's HLS project; default: --csim --synth."""
    from hw.synth import STAGES, import_reports, synthesize
    from hw.synth.summary import show_synthesis

    asked = dict(zip(STAGES, (csim, synth, cosim, export, vsynth), strict=True))
    wanted = [stage for stage in STAGES if asked[stage]]
    with ends_when_stopped(
        "stopped, and the tool with it; run the same command again to continue with the stage it was in"
    ):
        if reports is not None:
            record = import_reports(run, reports, say)
        else:
            record = synthesize(run, wanted or ["csim", "synth"], say)
    show_synthesis(record, say)


@app.command()
def rtl(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=typed_path, help="A run folder with an HLS project.")],
    generate: Annotated[bool, typer.Option("--generate", help="Write Verilog (alkaid); compare its bits.")] = False,
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulate it (Verilator); compare its bits.")] = False,
    synthesize: Annotated[bool, typer.Option("--synthesize", help="Count LUTs and flip-flops (Yosys).")] = False,
    settings: Settings = [],  # noqa: B006 - typer copies it
    force: Annotated[
        bool, typer.Option("--force", help="Go on with a network of more than rtl.max_adders adders.")
    ] = False,
) -> None:
    """From the accelerator to gates with open tools (alkaid, Verilator, Yosys); default: all three steps."""
    asked = {"generate": generate, "simulate": simulate, "synthesize": synthesize}
    wanted = [step for step in asked if asked[step]] or list(asked)
    with ends_when_stopped(
        "stopped, and the tool with it; run the same command again to continue with the step it was in"
    ):
        from hw.synth.rtl import make_rtl
        from hw.synth.rtl_record import rtl_text

        record = make_rtl(run, wanted, say, settings=read_settings(settings), force=force)
    for line in rtl_text(record):
        say(line)


@app.command("size")
def size_command(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG|FOLDER]", parser=typed_path, help="A sizing config, or a sizing's folder."),
    ] = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
    out: NamedOut = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", parser=typed_path, help="Find how few bits your float model needs."),
    ] = None,
    data: OwnData = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Default: one per processor; 0: this process.")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help="A dask scheduler.")] = None,
    data_dir: DataDir = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed designs again.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Compute nothing; write the report.")] = False,
) -> None:
    """Search bit-widths: which design is robust enough, and what it costs. Continues where an earlier one stopped."""
    with ends_when_stopped("stopped; every finished design is kept: run the same command again to continue"):
        from hw.sizing import OWN_MODEL, SizingOptions, own_model_settings, show, size

        if target is None and model is None:
            raise UserError("size needs a sizing config, an earlier sizing's folder, or --model FILE with --data NAME")

        options = SizingOptions(out, workers, scheduler, data_dir, retry_failed, report_only)
        changes = own_model_settings(model, data) | read_settings(settings)
        show(size(target or OWN_MODEL, changes, options), say)


@app.command("tables")
def tables_command(
    target: Annotated[
        str,
        typer.Argument(metavar="NAME|CONFIG|FOLDER", help="mnist, cifar10, goliath, a .yaml file, or earlier tables."),
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
    with ends_when_stopped("stopped; every finished attack is kept: run the same command again to continue"):
        from hw.tables import TablesOptions, make_tables, show

        kinds = tuple(kind.strip() for kind in attacks.split(",") if kind.strip())
        options = TablesOptions(out, data_dir, read_settings(settings), kinds, images)
        tables, folder = make_tables(target, options, say)
        show(tables, folder, say)


@app.command()
def doctor() -> None:
    """Which tools and packages are found, and how to get the missing ones."""
    with ends_when_stopped("stopped"):
        from hw.tools.doctor import diagnose

        status = diagnose()
    raise typer.Exit(status)


def main() -> None:
    """Entry point: errors become one message and an exit status."""
    settle()
    with one_message():
        app()
