"""bitsim as a victim: the accelerator, attacked at the speed of the machine's integer units."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import HardwareConfig, convert
from hw.simulate.bitsim import BitSim
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.victims import Logits


class BitSimVictim:
    """The bits of one accelerator, from bitsim."""

    name = "bitsim"

    def __init__(self, simulator: BitSim, threads: int | None = None, grid: InputGrid = IMAGE_GRID) -> None:
        """`threads`: how many it may use; None: one per processor."""
        self.simulator, self.threads, self.grid = simulator, threads, grid

    @classmethod
    def of(cls, model: Any, config: HardwareConfig) -> BitSimVictim:
        """The accelerator that `config` makes of a QKeras model."""
        with tempfile.TemporaryDirectory(prefix="robust-hls-") as folder:  # nothing is written there
            return cls(BitSim.from_graph(convert(model, config, Path(folder))))

    def __repr__(self) -> str:
        return f"BitSimVictim({self.simulator!r})"

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...)."""
        outputs: NDArray[Any] = self.simulator.predict(self.grid.to_values(x), self.threads)
        return np.asarray(outputs, np.float32)

    def trace(self, x: Codes) -> dict[str, NDArray[Any]]:
        """Every layer's output, by layer name."""
        return self.simulator.trace(self.grid.to_values(x), self.threads)
