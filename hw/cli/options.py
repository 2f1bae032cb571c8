"""The options that several commands share, and how a typed path is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qmodels.errors import UserError
from qmodels.storage import usable_path


def typed_path(text: str) -> Path:
    """A path that was typed. Raises UserError for one that no file can have."""
    if not text.strip():
        raise UserError("an empty path was given for an option; leave the option out, or name a file or folder")
    return usable_path(Path(text))


Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CONFIG|RUN]", parser=typed_path, help="A YAML experiment or a run folder; default: the built-in demo."
    ),
]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. mapping.mu=15.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", parser=typed_path, help="Run folder; default hls_projects/<name>."),
]
NamedOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", parser=typed_path, help="Default hls_projects/<name>.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that is in the folder.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        parser=typed_path,
        envvar="ROBUST_HLS_DATA",
        help="Folder with mnist.npz, cifar10.npz, ...",
    ),
]
OwnModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        parser=typed_path,
        help="Your own model: .keras, .h5, a SavedModel folder, .json with weights, .onnx; attack: .tflite.",
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", parser=typed_path, help="Weights .h5 of a .json model.")
]
HlsConfig = Annotated[
    Path | None,
    typer.Option(
        "--hls-config", metavar="FILE", parser=typed_path, help="hls4ml's own YAML: backend, part, reuse factors."
    ),
]
Repair = Annotated[bool, typer.Option("--repair", help="Fix what can be fixed in your model, and say what changed.")]
Engine = Annotated[str | None, typer.Option("--engine", metavar="bitsim|csim", help="Which simulator.")]
Plan = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Take the attacks from this config's evaluation section."),
]
OwnData = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|FILE", help="Data set, or your own .npz, .csv, or folder of pictures."),
]
Overflow = Annotated[bool, typer.Option("--overflow", help="Show what saturates or wraps, by layer.")]
Surrogate = Annotated[
    Path | None,
    typer.Option(
        "--surrogate",
        metavar="FILE",
        parser=typed_path,
        help="A Keras model whose gradients attack a .tflite file.",
    ),
]
