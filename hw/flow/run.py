"""One run: its config, its folder, and what its steps share, loaded when first needed."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hw.accelerator import BitSimVictim
from hw.csim import Csim, simulate
from hw.flow.config import RunConfig
from hw.flow.folder import RunFolder
from hw.project import HlsProject, generate
from qmodels.data import Dataset, load_dataset
from qmodels.storage import load_model
from qmodels.victims import KerasVictim, Victim

_PACKAGES = ("robust-hls", "hls4ml", "tensorflow", "tf-keras", "qkeras", "numpy", "scipy", "pydantic")


class Run:
    """Config + folder + lazily loaded data and models."""

    def __init__(self, config: RunConfig, folder: RunFolder, data_dir: Path | None = None) -> None:
        self.config = config
        self.folder = folder
        self.data_dir = data_dir

    @cached_property
    def data(self) -> Dataset:
        """The images, split."""
        wanted = self.config.data
        return load_dataset(
            wanted.name,
            seed=self.config.seed,
            data_dir=self.data_dir,
            validation_share=wanted.validation_share,
            limit_train=wanted.limit_train,
            limit_test=wanted.limit_test,
        )

    @cached_property
    def own_model(self) -> Any | None:
        """The user's model as it is in his file; None when we train one."""
        path = self.config.model.file
        return load_model(path) if path is not None else None

    @cached_property
    def float_model(self) -> Any | None:
        """The trained float model; None when the user brought a QKeras model."""
        path = self.folder / "model.keras"
        return load_model(path) if path.exists() else None

    @cached_property
    def mapped_model(self) -> Any | None:
        """The float model after the µ-law mapping."""
        path = self.folder / "mapped.keras"
        return load_model(path) if path.exists() else None

    @cached_property
    def quantized_model(self) -> Any:
        """The QKeras model that the accelerator computes."""
        return load_model(self.folder / "quantized.keras")

    @cached_property
    def quantized(self) -> KerasVictim:
        """The QKeras model as a victim."""
        return KerasVictim(self.quantized_model, "quantized")

    @cached_property
    def project(self) -> HlsProject:
        """The HLS project, as a value."""
        return generate(self.quantized_model, self.config.hardware)

    @cached_property
    def csim(self) -> Csim:
        """hls4ml's C simulation, compiled."""
        return simulate(self.project, int(self.quantized_model.output_shape[-1]), self.config.hardware)

    @cached_property
    def bitsim(self) -> BitSimVictim | None:
        """bitsim of the accelerator; None when the config asks for csim."""
        if self.config.simulation.engine == "csim":
            return None
        return BitSimVictim(self.quantized_model, self.config.hardware)

    @property
    def accelerator(self) -> Victim:
        """The simulator that stands for the accelerator in attacks and scores."""
        return self.bitsim or self.csim


def environment(seed: int) -> dict[str, Any]:
    """Versions, machine, seed and commit: what one needs to get the same numbers again."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": sys.version.split()[0],
        "packages": packages,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "seed": seed,
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """Commit of the checkout we run from; None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
