"""The ball: which inputs an attack may show to the victim. Everything in it is counted in grid steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.grid import Codes, InputGrid, Points

Norm = Literal["linf", "l2", "l1", "l0"]
#: Radius in grid steps: a number, or for L-infinity an array of one sample's shape. L0 counts features.
Epsilon = float | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ball:
    """The grid points around each clean input that one norm and radius allow, bounds and frozen features included.

    Args:
        grid: what inputs can be.
        clean: codes (N, ...), the centres.
        norm: in which the radius is measured.
        epsilon: radius in grid steps; infinite: the whole grid.
    """

    grid: InputGrid
    clean: Codes
    norm: Norm
    epsilon: Epsilon

    def __post_init__(self) -> None:
        if np.ndim(self.epsilon) and self.norm != "linf":
            raise UserError(f"a radius for each feature needs the L-infinity norm, not {self.norm}")
        if not np.all(np.asarray(self.epsilon) >= 0):  # NaN too
            raise UserError(f"epsilon must be a number of grid steps, 0 or more; got {self.epsilon!r}")

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.clean.shape[1:])

    @property
    def size(self) -> int:
        """Features of one input."""
        return int(np.prod(self.shape))

    def take(self, rows: Any) -> Ball:
        """The balls around some of the inputs."""
        return replace(self, clean=self.clean[rows])

    @property
    def centre(self) -> NDArray[np.float32]:
        """The clean codes as real numbers."""
        return self.clean.astype(np.float32)

    @property
    def radius(self) -> float:
        """The radius as one number, never more than the whole grid holds; its largest one where features differ."""
        widest = float(self.grid.span - 1)
        whole = {"linf": widest, "l2": widest * self.size**0.5, "l1": widest * self.size, "l0": float(self.size)}
        return float(min(float(np.max(self.epsilon)), whole[self.norm]))

    @property
    def unbounded(self) -> bool:
        """Whether the radius lets every feature take every value."""
        reach = float(np.min(self.epsilon))
        return bool(np.isinf(reach) or (self.norm == "linf" and reach >= self.grid.span - 1))

    @property
    def weight(self) -> Any:
        """How far each feature may move, as a share of `radius`: 1, or an array that broadcasts; 0 where frozen."""
        weight: Any = np.float32(1.0)
        if np.ndim(self.epsilon):
            weight = (np.minimum(self.epsilon, self.radius) / max(self.radius, 1e-30)).astype(np.float32)
        if self.grid.frozen is not None:
            weight = np.where(self.grid.frozen, np.float32(0.0), weight).astype(np.float32)
        return weight if np.ndim(weight) == 0 else np.broadcast_to(weight, self.shape)[None]

    @property
    def cube(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Lowest and highest codes (N, ...) without the radius: the grid's bounds; frozen features stay put.

        A clean input outside the bounds (of the training data, say) may stay where it is.
        """
        centre = self.clean.astype(np.int32)
        low, high = np.minimum(self.grid.lower, centre), np.maximum(self.grid.upper, centre)
        if self.grid.frozen is None:
            return low, high
        return np.where(self.grid.frozen, centre, low), np.where(self.grid.frozen, centre, high)

    @property
    def box(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Lowest and highest codes (N, ...) of any point in the ball."""
        low, high = self.cube
        reach = self.epsilon if self.norm in ("linf", "l2", "l1") else np.inf
        if np.all(np.isinf(reach)):
            return low, high
        whole = np.minimum(np.floor(np.asarray(reach, np.float64)), self.grid.span).astype(np.int32)
        centre = self.clean.astype(np.int32)
        return np.maximum(low, centre - whole), np.minimum(high, centre + whole)

    def project(self, points: Points) -> Codes:
        """The codes of a grid point in the ball near each point: the nearest one for L-infinity and L0.

        For L2 and L1 a change that is too long is shortened and then rounded towards the clean input, so that
        rounding cannot leave the ball. A feature that is NaN stays as it was.
        """
        low, high = self.cube if self.norm in ("l2", "l1", "l0") else self.box
        centre = self.clean.astype(np.float64)
        wanted = np.where(np.isnan(points), centre, np.clip(points, low, high))
        if self.norm == "linf" or not np.all(np.isfinite(self.epsilon)):
            return np.clip(np.rint(wanted), low, high).astype(self.clean.dtype)
        delta = (wanted - centre).reshape(len(centre), self.size)
        moved = _SHORTEN[self.norm](delta, float(self.epsilon)).reshape(centre.shape)
        return (centre + moved).astype(self.clean.dtype)

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        """Which inputs (N,) lie in their ball."""
        low, high = self.cube
        inside = ((codes >= low) & (codes <= high)).reshape(len(codes), -1).all(axis=1)
        change = np.abs(codes.astype(np.int64) - self.clean).reshape(len(codes), -1)
        if self.norm == "linf":
            reach = np.broadcast_to(np.asarray(self.epsilon, np.float64), self.shape).reshape(1, -1)
            return np.asarray(inside & (change <= reach).all(axis=1))
        return np.asarray(inside & (length(change, self.norm) <= float(self.epsilon)))

    def random(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Random points of the ball: grid points for L-infinity; else uniform direction and volume-uniform radius."""
        if self.norm == "linf":
            reach = np.minimum(np.floor(self.epsilon), self.radius).astype(np.int64)
            noise = rng.integers(-reach, reach + 1, self.clean.shape).astype(np.float32)
        else:
            noise = rng.standard_normal(self.clean.shape, np.float32)
            flat = noise.reshape(len(noise), self.size)
            radii = self.radius * rng.random((len(noise), 1)) ** (1.0 / self.size)
            flat *= radii / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        low, high = self.cube
        points: NDArray[np.float32] = np.clip(self.clean + noise, low, high).astype(np.float32)
        return points


def length(change: NDArray[Any], norm: Norm) -> NDArray[np.float64]:
    """Length (N,) of flat changes (N, features) in grid steps; L0 counts features."""
    size = np.abs(change).astype(np.float64)
    if norm == "l0":
        return np.asarray(np.count_nonzero(size, axis=1), np.float64)
    if norm == "linf":
        return np.asarray(size.max(axis=1, initial=0.0))
    return np.asarray(size.sum(axis=1) if norm == "l1" else np.sqrt((size**2).sum(axis=1)))


def _shorten_l2(delta: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    norms = np.linalg.norm(delta, axis=1, keepdims=True)
    nearest = np.rint(delta)
    fits = np.linalg.norm(nearest, axis=1, keepdims=True) <= epsilon
    return np.asarray(np.where(fits, nearest, np.trunc(delta * np.minimum(1.0, epsilon / np.maximum(norms, 1e-12)))))


def _shorten_l1(delta: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """Onto the L1 ball (Duchi et al. 2008), whole steps; what truncation leaves goes to the largest remainders."""
    nearest, size = np.rint(delta), np.abs(delta)
    fits = np.abs(nearest).sum(axis=1, keepdims=True) <= epsilon
    ranked = -np.sort(-size, axis=1)
    excess = (np.cumsum(ranked, axis=1) - epsilon) / np.arange(1, size.shape[1] + 1)
    last = np.maximum((ranked > excess).sum(axis=1) - 1, 0)
    kept = np.maximum(size - np.maximum(excess[np.arange(len(size)), last], 0.0)[:, None], 0.0)
    whole = np.floor(kept)
    left = np.floor(epsilon - whole.sum(axis=1, keepdims=True))
    rank = np.argsort(np.argsort(whole - kept, axis=1, kind="stable"), axis=1, kind="stable")
    whole += (rank < left) & (kept > whole)
    return np.asarray(np.where(fits, nearest, np.sign(delta) * whole))


def _shorten_l0(delta: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """Keep the `epsilon` largest changes."""
    nearest = np.rint(delta)
    rank = np.argsort(np.argsort(-np.abs(nearest), axis=1, kind="stable"), axis=1, kind="stable")
    return np.where(rank < np.floor(epsilon), nearest, 0.0)


_SHORTEN = {"l2": _shorten_l2, "l1": _shorten_l1, "l0": _shorten_l0}
