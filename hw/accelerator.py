"""bitsim as a victim: the accelerator, attacked at the speed of the machine's integer units."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import HardwareConfig, convert
from hw.simulate.bitsim import BitSim
from qmodels.victims import Images, Logits


class BitSimVictim:
    """The bits of one accelerator, from bitsim."""

    name = "bitsim"

    def __init__(self, simulator: BitSim, threads: int | None = None) -> None:
        """`threads`: how many it may use; None: one per processor."""
        self.simulator, self.threads = simulator, threads

    @classmethod
    def of(cls, model: Any, config: HardwareConfig) -> BitSimVictim:
        """The accelerator that `config` makes of a QKeras model."""
        with tempfile.TemporaryDirectory(prefix="robust-hls-") as folder:  # nothing is written there
            return cls(BitSim.from_graph(convert(model, config, Path(folder))))

    def __repr__(self) -> str:
        return f"BitSimVictim({self.simulator!r})"

    def logits(self, x: Images) -> Logits:
        """Logits (N, classes) of images (N, ...)."""
        outputs: NDArray[Any] = self.simulator.predict(np.asarray(x, np.float32), self.threads)
        return np.asarray(outputs, np.float32)

    def trace(self, x: Images) -> dict[str, NDArray[Any]]:
        """Every layer's output, by layer name."""
        return self.simulator.trace(np.asarray(x, np.float32), self.threads)
