"""Random noise: what an attack must beat, and what a sensor does by itself. Many draws, the worst one counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Knowledge, Problem
from qmodels.grid import Points


class NoiseAttack(Attack):
    """Adds noise `draws` times and keeps, for each image, the first draw that the victim gets wrong."""

    knowledge: ClassVar[Knowledge] = "none"
    family: ClassVar[Family] = "noise"
    iterative: ClassVar[bool] = False

    draws: int = Field(1, ge=1)

    @abstractmethod
    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Noise of that shape in grid steps."""

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """The first draw that works, else the last draw; images that fell are not shown again."""
        ball = problem.ball
        most = ball.grid.scale * (ball.size**0.5 if self.norm == "l2" else 1.0)
        epsilon = min(float(np.max(ball.epsilon)), most)
        found = problem.clean.copy()
        standing = np.arange(len(ball))
        for _ in range(self.draws):
            noise = self.noise(found.shape, epsilon, rng) * ball.weight
            noisy = ball.project((ball.clean + noise).astype(np.float32))
            found[standing] = noisy[standing]
            if self.draws > 1:  # with a single draw there is nothing to choose
                standing = standing[~problem.fooled(found[standing], standing)]
        return found, Diagnostics()


class UniformNoise(NoiseAttack):
    """Every pixel moves by a whole number of steps, uniform in [-epsilon, epsilon]."""

    kind: ClassVar[str] = "uniform"

    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Integers, uniform."""
        return rng.integers(-int(epsilon_lsb), int(epsilon_lsb) + 1, shape).astype(np.float64)


class GaussianNoise(NoiseAttack):
    """Normal noise with standard deviation `sigma` times epsilon, cut off at epsilon."""

    kind: ClassVar[str] = "gaussian"
    sigma: float = Field(0.5, gt=0)

    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Normal."""
        return rng.normal(0.0, self.sigma * epsilon_lsb, shape)


class SphereNoise(NoiseAttack):
    """A uniformly random direction of L2 length epsilon: the L2 attacks' yardstick."""

    kind: ClassVar[str] = "gaussian-l2"
    norm: ClassVar[Norm] = "l2"

    def noise(self, shape: tuple[int, ...], epsilon_lsb: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Normal, scaled to the sphere."""
        noise = rng.standard_normal(shape)
        flat = noise.reshape(len(noise), -1)
        flat *= epsilon_lsb / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        return noise
