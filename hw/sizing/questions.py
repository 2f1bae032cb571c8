"""What is asked of a worker, and the key under which its answer is kept."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from hw.experiment.config import RunConfig
from hw.sizing.config import DescentConfig, FinalConfig, SizingConfig, WorstCaseConfig
from hw.sizing.space import DesignPoint
from qmodels.digest import digest_of

#: Raised whenever a stage's answer to the same question changes: old answers in a store are then asked again.
SCORING = 3
_PACKAGES = ("hls4ml", "qkeras", "tensorflow", "tf-keras")


@dataclass(frozen=True)
class Standing:
    """How far a design has come, where a stage asks for it."""

    fallen: str = ""  # mask of the images that have fallen (`hw.sizing.pool.pack_mask`)
    attack: int = 0  # which step of the worst case is next
    pool: tuple[str, ...] = ()  # digests of the generations that are tried, or begun from
    certified: str = ""  # mask of the images that need no attack


NOTHING = Standing()


@dataclass(frozen=True)
class Question:
    """What a stage is asked about one design."""

    config: RunConfig
    design: str  # its key
    data: str  # name of the shared data set
    training: str  # name of the shared training
    worst_case: WorstCaseConfig
    final: FinalConfig
    layerwise: DescentConfig
    folder: str = ""  # where a training keeps its checkpoints, if the worker can see it
    standing: Standing = NOTHING


def pool_name(digest: str) -> str:
    """The name under which a generation of examples is shared."""
    return f"examples {digest}"


class Keys:
    """Keys of a sizing's questions."""

    def __init__(self, config: SizingConfig) -> None:
        """Of questions that this config asks."""
        plain = config.model_dump(mode="json")
        worst = plain["worst_case"]
        against = {key: value for key, value in worst.items() if key != "attack"}
        self._versions = {name: version(name) for name in _PACKAGES}
        self._asked: dict[str, Any] = {
            "train": {},
            "aware": {},
            "descend": plain["layerwise"],
            "measure": {"images": worst["images"]},
            "certify": against,
            "pool": against,
            "attack": worst,
            "final": {**plain["final"], "designs": None, "seeds": None, "worst": worst | {"images": None}},
            "replicate": {"images": plain["final"]["images"], "worst": worst | {"images": None}},
        }

    def of(self, stage: str, design: DesignPoint, data: str, standing: Standing = NOTHING) -> str:
        """Digest of everything a stage's answer depends on, the versions of what computes it included."""
        about = {"train": design.training_key, "aware": design.model_key}.get(stage, design.key)
        verify = design.config.simulation.model_dump(mode="json") if stage == "final" else None
        proved = [standing.certified] if standing.certified else []
        progress = [standing.fallen, standing.attack, standing.pool, *proved] if stage in ("pool", "attack") else None
        return digest_of([SCORING, self._versions, stage, about, data, self._asked[stage], verify, progress])[:32]
