"""What is asked of a worker, and the key under which its answer is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from hw.experiment.config import RunConfig
from hw.sizing.config import DescentConfig, ScreeningConfig, SizingConfig, WorstCaseConfig
from hw.sizing.space import DesignPoint
from qmodels.digest import digest_of

#: Raised whenever a stage's answer to the same question changes: old answers in a store are then asked again.
SCORING = 1
_PACKAGES = ("hls4ml", "qkeras", "tensorflow", "tf-keras")


@dataclass(frozen=True)
class Question:
    """What a stage is asked about one design."""

    config: RunConfig
    design: str  # its key
    data: str  # name of the shared data set
    training: str  # name of the shared training
    screening: ScreeningConfig
    worst_case: WorstCaseConfig
    final_images: int
    layerwise: DescentConfig
    folder: str = ""  # where a training keeps its checkpoints, if the worker can see it


def stage_key(stage: str, design: DesignPoint, config: SizingConfig, data_digest: str) -> str:
    """Digest of everything a stage's answer depends on, the versions of what computes it included."""
    plain = config.model_dump(mode="json")
    screening, worst = plain["screening"], plain["worst_case"]
    images = {"screening": screening["images"], "worst": worst["images"]}
    cheap = {"attacks": screening["attacks"], "images": screening["images"]}
    asked: Mapping[str, Any] = {
        "train": {},
        "aware": {},
        "descend": plain["layerwise"],
        "measure": images,
        "screen": cheap,
        "worst": worst,
        "final": {
            "attacks": screening["attacks"],
            "worst": worst | {"images": None},
            "images": plain["final"]["images"],
            "verify": design.config.simulation.model_dump(mode="json"),
        },
    }[stage]
    about = {"train": design.training_key, "aware": design.model_key}.get(stage, design.key)
    versions = {name: version(name) for name in _PACKAGES}
    return digest_of([SCORING, versions, stage, about, data_digest, asked])[:32]
