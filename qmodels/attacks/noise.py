"""Random noise: what an attack must beat, and what a sensor does by itself. Many draws, the worst one counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.base import LEVELS, Attack, Diagnostics, Family, Knowledge, Norm, QueryCounter
from qmodels.victims import Images, Labels, predictions


class NoiseAttack(Attack):
    """Adds noise `draws` times and keeps, for each image, the first draw that the victim gets wrong."""

    knowledge: ClassVar[Knowledge] = "none"
    family: ClassVar[Family] = "noise"
    iterative: ClassVar[bool] = False

    draws: int = Field(1, ge=1)

    @abstractmethod
    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Noise of that shape in LSBs."""

    def run(
        self, victim: QueryCounter, x: Images, y: Labels, epsilon_lsb: float, rng: np.random.Generator
    ) -> tuple[Images, Diagnostics]:
        """The first draw that works, else the last draw; images that fell are not shown again."""
        epsilon = min(epsilon_lsb, LEVELS * (x[0].size ** 0.5 if self.norm == "l2" else 1.0))
        found = x.copy()
        standing = np.arange(len(x))
        for _ in range(self.draws):
            noisy = self.project((x + self.noise(x.shape, epsilon, rng) / LEVELS).astype(np.float32), x, epsilon_lsb)
            found[standing] = noisy[standing]
            if self.draws > 1:  # with a single draw there is nothing to choose
                standing = standing[predictions(victim, found[standing]) == y[standing]]
        return found, Diagnostics()


class UniformNoise(NoiseAttack):
    """Every pixel moves by a whole number of LSBs, uniform in [-epsilon, epsilon]."""

    kind: Literal["uniform"] = "uniform"

    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Integers, uniform."""
        return rng.integers(-int(epsilon_lsb), int(epsilon_lsb) + 1, shape).astype(np.float64)


class GaussianNoise(NoiseAttack):
    """Normal noise with standard deviation `sigma` times epsilon, cut off at epsilon."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(0.5, gt=0)

    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Normal."""
        return rng.normal(0.0, self.sigma * epsilon_lsb, shape)


class SphereNoise(NoiseAttack):
    """A uniformly random direction of L2 length epsilon: the L2 attacks' yardstick."""

    kind: Literal["gaussian-l2"] = "gaussian-l2"
    norm: ClassVar[Norm] = "l2"

    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Normal, scaled to the sphere."""
        noise = rng.standard_normal(shape)
        flat = noise.reshape(len(noise), -1)
        flat *= epsilon_lsb / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        return noise
