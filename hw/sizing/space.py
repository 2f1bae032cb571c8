"""Design points: an experiment with some dotted keys set, told apart by all that makes their accelerators differ."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import Any

from hw.experiment.config import RunConfig
from hw.experiment.config_text import check_config, parse_mapping
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.settings import merge
from hw.sizing.config import Choice
from qmodels.digest import digest_of, file_digest
from qmodels.errors import UserError
from qmodels.loading import weights_file
from qmodels.quantize.mulaw import MappingConfig

#: The flow's steps between the config and the quantized model; what they read is what makes a design.
TRAINING, BUILDING = ("train", "aware"), ("map", "quantize")


@dataclass(frozen=True)
class DesignPoint:
    """One point. `settings` are the keys the space varies, in the space's order."""

    settings: tuple[tuple[str, Choice], ...]
    config: RunConfig

    @cached_property
    def key(self) -> str:
        """Digest of everything the accelerator depends on."""
        return self._digest(_sections(*TRAINING, *BUILDING) | {"hardware", "simulation.engine"}, self.config)

    @cached_property
    def training_key(self) -> str:
        """Digest of what the float model depends on: designs that share it share the training."""
        return self._digest(_sections("train"), self.config.float_config)

    @property
    def is_aware(self) -> bool:
        """Whether training goes on through the quantizers: then a model serves fewer designs."""
        return self.config.training.quantization_aware is not None and self.config.model.file is None

    @cached_property
    def model_key(self) -> str:
        """Digest of what the trained model depends on, the quantization-aware phase included."""
        return self._digest(_sections(*TRAINING), self.config) if self.is_aware else self.training_key

    @cached_property
    def data_key(self) -> str:
        """Digest of which images, and how they are split."""
        return self._digest({"data"}, self.config)

    def title(self) -> str:
        """The settings in words, for tables and messages."""
        return ", ".join(f"{short_key(key)} {short_value(value)}" for key, value in self.settings) or "the experiment"

    def _digest(self, sections: Iterable[str], config: RunConfig) -> str:
        plain = config.model_dump(mode="json")
        picked: dict[str, Any] = {name: reduce(dict.__getitem__, name.split("."), plain) for name in sorted(sections)}
        return digest_of([config.seed, picked, _file_digests(config)])[:24]


def make_design(experiment: str, where: str, settings: Mapping[str, Choice]) -> DesignPoint:
    """The design of some settings.

    Args:
        experiment: the experiment as YAML.
        where: what error messages call it.
        settings: dotted keys and values.

    Raises:
        UserError: a key or value the experiment does not know.
    """
    config = check_config(RunConfig, merge(_parsed(experiment, where), settings, f"{where}:"), lambda key: where)
    if config.defence.kind != "none":
        raise UserError(f"{where}: defence.kind {config.defence.kind}: sizing attacks the network alone; use none")
    if config.quantization.activation_bits > 8:
        raise UserError(f"{where}: quantization.activation_bits: sizing takes up to 8; a run takes up to 16")
    if config.mapping.mu == 0:  # then no layer is mapped, whichever are named
        config = config.model_copy(update={"mapping": MappingConfig()})
    return DesignPoint(tuple(settings.items()), _sharing(config, settings, _common(experiment, where)))


@lru_cache(maxsize=4)
def _parsed(experiment: str, where: str) -> dict[str, Any]:
    """Reading YAML takes longer than all else about a design."""
    return parse_mapping(RunConfig, experiment, where)


def _sharing(config: RunConfig, settings: Mapping[str, Choice], common: dict[str, Any]) -> RunConfig:
    """The same, with the sections that no setting touches in common: a design takes 10 kB instead of 40."""
    touched = {key.partition(".")[0] for key in settings}
    sections = {name: getattr(config, name) for name in RunConfig.model_fields if name not in touched}
    same = {name: kept for name, found in sections.items() if (kept := common.setdefault(name, found)) == found}
    return config.model_copy(update=same)


@lru_cache(maxsize=4)
def _common(experiment: str, where: str) -> dict[str, Any]:
    """Sections of the first design of an experiment, by name; filled by `_sharing`."""
    return {}


def check_space(experiment: str, where: str, space: Mapping[str, list[Choice]]) -> None:
    """Try every value of every key once; UserError names the first that is wrong."""
    first = {key: values[0] for key, values in space.items()}
    for key, values in space.items():
        for value in values:
            make_design(experiment, where, first | {key: value})


def grid(space: Mapping[str, list[Choice]]) -> Iterable[dict[str, Choice]]:
    """Every combination of values."""
    return (dict(zip(space, values, strict=True)) for values in itertools.product(*space.values()))


def unique(designs: Iterable[DesignPoint]) -> list[DesignPoint]:
    """One of all designs that are the same accelerator, in order of appearance."""
    found: dict[str, DesignPoint] = {}
    for design in designs:
        found.setdefault(design.key, design)
    return list(found.values())


def command(design: DesignPoint, folder: Path, data_dir: Path | None, name: str) -> str:
    """The shell command that generates this design's HLS project from the model that was scored.

    That is the float model; after quantization-aware training the quantized one.
    """
    words = ["robust-hls", "generate", str(folder / "experiment.yaml")]
    if design.is_aware:
        words += ["--model", str(folder / "designs" / design.key / "quantized.keras")]
    elif design.config.model.file is None:
        words += ["--model", str(folder / "trainings" / design.training_key / "model.keras")]
    words += [word for key, value in design.settings for word in ("--set", f"{key}={json.dumps(value)}")]
    words += ["--data-dir", str(data_dir)] if data_dir is not None else []
    return shlex.join([*words, "--set", f"name={name}", "--out", f"hls_projects/{name}"])


def short_key(key: str) -> str:
    """`quantization.weight_bits` -> `weight bits`; a layer keeps its name."""
    words = key.split(".")
    return " ".join(words[-2:] if "layers" in words[:-1] else words[-1:]).replace("_", " ")


def short_value(value: Choice) -> str:
    """A value as one writes it."""
    if isinstance(value, dict):
        return " ".join(f"{key} {item}" for key, item in value.items())
    return "+".join(map(str, value)) if isinstance(value, list) else "–" if value is None else f"{value}"


def _sections(*steps: str) -> set[str]:
    """The parts of the config that some of the flow's steps read."""
    return {section for found in MODEL_STEPS if found.name in steps for section in found.sections}


def _file_digests(config: RunConfig) -> list[str]:
    if config.model.file is None:
        return []
    files = (config.model.file, weights_file(config.model.file, config.model.weights))
    return [file_digest(path) for path in files if path is not None]
