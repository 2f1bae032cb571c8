"""HopSkipJump, Boundary and GeoDA: attacks that see decisions only, so that they hit the accelerator itself.

All images move together: each round asks the victim about every probe of every image in one large batch. Positions
are real numbers, but what is asked is rounded to whole LSBs, and probes are at least one LSB wide: on a device
with an 8-bit input a finer difference does not exist. An image is finished as soon as it is in the ball.

Sources: Chen 2020 arXiv:1904.02144 (HopSkipJump), Brendel 2018 arXiv:1712.04248 (Boundary), Rahmati 2020
arXiv:2003.06468 (GeoDA).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qmodels.attacks.ball import Ball, Norm
from qmodels.attacks.base import Attack, Diagnostics, Family, Knowledge, Problem
from qmodels.attacks.blackbox import Rows, flat, lengths, spread

Points = NDArray[np.float64]  # images in grid steps, not necessarily whole
Noise = NDArray[Any]  # changes in whole grid steps
PROBES_AT_ONCE = 20_000  # images per question; bounds memory
MAX_BISECTIONS = 16


@dataclass
class Boundary:
    """Every image's nearest wrong example so far, and its queries."""

    problem: Problem
    budget: int
    best: Points = field(init=False)
    distance: NDArray[np.float64] = field(init=False)
    spent: NDArray[np.int64] = field(init=False)
    fell_after: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        ball = self.problem.ball
        count = len(ball)
        self.norm, self.epsilon = ball.norm, ball.radius if np.all(np.isfinite(ball.epsilon)) else np.inf
        self.clean: Points = ball.clean.astype(np.float64)
        self.low, self.high = ball.cube
        # Where each feature has a radius of its own, a change counts as its share of that radius.
        self.weight = np.broadcast_to(ball.weight, (1, *ball.shape)) if np.ndim(ball.epsilon) else None
        self.best, self.distance = self.clean.copy(), np.full(count, np.inf)
        self.spent, self.fell_after = np.zeros(count, np.int64), np.full(count, -1)

    @property
    def ball(self) -> Ball:
        """Where examples are looked for."""
        return self.problem.ball

    def inside(self, rows: Rows, points: Points) -> Points:
        """Between the grid's bounds; frozen features stay."""
        return np.clip(points, self.low[rows], self.high[rows])

    def active(self) -> Rows:
        """Images with an example that is still outside the ball, and queries left."""
        open_ = (self.distance > max(self.epsilon, 0.0)) if np.isfinite(self.epsilon) else self.distance > 0
        return np.flatnonzero(open_ & np.isfinite(self.distance) & (self.spent < self.budget))

    def ask(self, rows: Rows, points: Points) -> NDArray[np.bool_]:
        """Whether the rounded points are wrong, one per row; nearer examples are kept."""
        whole = self.inside(rows, np.rint(points))
        self.spent[rows] += 1
        wrong = self.problem.fooled(whole.astype(np.int32), rows)
        self.keep(rows[wrong], whole[wrong])
        return wrong

    def keep(self, rows: Rows, examples: Points) -> None:
        """Note examples known to be wrong where they are nearer than the best."""
        distance = self.lengths(examples - self.clean[rows])
        nearer = distance < self.distance[rows]
        kept = rows[nearer]
        self.best[kept], self.distance[kept] = examples[nearer], distance[nearer]
        fallen = kept[(self.distance[kept] <= self.epsilon) & (self.fell_after[kept] < 0)]
        self.fell_after[fallen] = self.spent[fallen]

    def probe(self, rows: Rows, centre: Points, noise: Noise) -> NDArray[np.bool_]:
        """Decisions (rows, probes) around `centre`; `noise` is (rows, probes, ...) in whole grid steps."""
        count = noise.shape[1]
        middle = np.rint(centre).astype(noise.dtype)[:, None]
        low, high = (end[rows][:, None].astype(noise.dtype) for end in (self.low, self.high))
        points = np.clip(middle + noise, low, high).reshape(-1, *centre.shape[1:])
        self.spent[rows] += count
        return self.problem.fooled(points.astype(self.ball.clean.dtype), rows.repeat(count)).reshape(-1, count)

    def lengths(self, delta: Points) -> NDArray[np.float64]:
        """Length of each change in the attack's norm."""
        if self.norm == "l2":
            return lengths(delta)
        size = np.abs(delta)
        if self.weight is not None:
            size = np.where(size > 0, size / np.maximum(self.weight, 1e-12), 0.0)
        return np.asarray(flat(size).max(axis=1, initial=0.0))

    def toward(self, rows: Rows, points: Points, share: NDArray[np.float64]) -> Points:
        """Points moved towards the clean image until only `share` of their distance is left."""
        clean = self.clean[rows]
        if self.norm == "l2":
            return np.asarray(clean + spread(share, points) * (points - clean))
        reach = spread(share * self.lengths(points - clean), points) * (1.0 if self.weight is None else self.weight)
        return np.asarray(np.clip(points, clean - reach, clean + reach))

    def bisect(self, rows: Rows, points: Points, finest: float = 1.0) -> Points:
        """The last wrong point on the way from each (wrong) point to its clean image, to within `finest` LSBs."""
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        distance = self.lengths(points - self.clean[rows])
        for _ in range(MAX_BISECTIONS):
            coarse = np.flatnonzero(((high - low) * distance > finest) & (self.spent[rows] < self.budget))
            if not len(coarse):
                break
            middle = (low[coarse] + high[coarse]) / 2
            wrong = self.ask(rows[coarse], self.toward(rows[coarse], points[coarse], middle))
            high[coarse[wrong]], low[coarse[~wrong]] = middle[wrong], middle[~wrong]
        return self.toward(rows, points, high)

    def diagnostics(self) -> Diagnostics:
        """The per-image query counts, for the accuracy-vs-queries curve."""
        return Diagnostics(queries_to_success=tuple(self.fell_after.tolist()))


class DecisionAttack(Attack):
    """Starts from a wrong example and walks along the decision boundary towards the clean image."""

    norm: ClassVar[Norm] = "l2"
    knowledge: ClassVar[Knowledge] = "black-box"
    family: ClassVar[Family] = "decision"

    queries: int = Field(1000, ge=10, description="budget per image")

    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """The nearest wrong grid point of every image."""
        boundary = Boundary(problem, self.queries)
        find_starts(boundary, rng)
        self.walk(boundary, rng)
        return boundary.best, boundary.diagnostics()

    @abstractmethod
    def walk(self, boundary: Boundary, rng: np.random.Generator) -> None:
        """Bring the examples nearer until budgets are spent."""


def find_starts(boundary: Boundary, rng: np.random.Generator, tries: int = 30) -> None:
    """A first wrong example for every image: the nearest of the other images if it is taken for another class.

    That costs one query per image, since the victim's answers for all of them are known then, and one for each of the
    attacker's own; uniform noise stands in where no image helps.
    """
    problem, count = boundary.problem, len(boundary.clean)
    everyone = np.arange(count)
    outputs = problem.logits(problem.clean)
    boundary.spent += 1
    wrong = problem.criterion.fooled(outputs, problem.y)
    boundary.keep(mistaken := everyone[wrong], boundary.clean[mistaken])
    pool = boundary.clean
    if problem.starts is not None and np.isinf(boundary.distance).any():
        pool = np.concatenate([pool, problem.starts.astype(pool.dtype)])
        outputs = np.concatenate([outputs, problem.logits(problem.starts)])
    vectors = flat(pool)
    squares = np.sum(vectors**2, axis=1)
    for row in np.flatnonzero(np.isinf(boundary.distance)):
        helps = problem.criterion.fooled(outputs, np.repeat(problem.y[row : row + 1], len(pool), axis=0))
        gaps = np.where(helps, squares - 2 * vectors @ vectors[row], np.inf)
        if np.isfinite(gaps.min()):
            start = np.array([row]), pool[[int(gaps.argmin())]]
            # With the row's own frozen features it is another input, which has to be asked about.
            boundary.keep(*start) if problem.grid.frozen is None else boundary.ask(*start)
    for _ in range(tries):
        rows = np.flatnonzero(np.isinf(boundary.distance) & (boundary.spent < boundary.budget))
        if not len(rows):
            return
        boundary.ask(rows, problem.grid.random(len(rows), boundary.ball.shape, rng).astype(np.float64))


class HopSkipJump(DecisionAttack):
    """Estimates the boundary's normal from decisions around it, jumps along it, bisects back."""

    kind: ClassVar[str] = "hopskipjump"
    first_probes: int = Field(32, ge=2, description="probes of the first estimate; they grow with the square root")
    most_probes: int = Field(1000, ge=2)
    probe: float = Field(4 / 256, gt=0, description="standard deviation of a probe, as a share of the range")

    def walk(self, boundary: Boundary, rng: np.random.Generator) -> None:
        """Estimate, jump, bisect."""
        rows = boundary.active()
        position = boundary.best.copy()
        position[rows] = boundary.bisect(rows, position[rows])
        turn = 0
        while len(rows := boundary.active()):
            turn += 1
            probes = min(int(self.first_probes * np.sqrt(turn)), self.most_probes)
            left = boundary.budget - boundary.spent[rows]
            probes = max(2, min(probes, int(left.max())))
            rows = rows[left >= min(probes, int(left.max()))]  # the others wait until estimates are small enough
            normal = self.normal(boundary, rows, position[rows], probes, rng)
            position[rows] = self.jump(boundary, rows, position[rows], normal, turn)

    def normal(self, boundary: Boundary, rows: Rows, centre: Points, probes: int, rng: np.random.Generator) -> Points:
        """Unit vector into the wrong region; for L-infinity its sign, by each feature's share of the radius."""
        normal = estimate_normal(boundary, rows, centre, probes, self.probe * boundary.ball.grid.scale, rng)
        if self.norm == "linf":
            return np.asarray(np.sign(normal) * (1.0 if boundary.weight is None else boundary.weight))
        return np.asarray(normal / spread(np.maximum(lengths(normal), 1e-12), normal))

    def jump(self, boundary: Boundary, rows: Rows, position: Points, normal: Points, turn: int) -> Points:
        """As far along the normal as stays wrong, then back to the boundary; stays put where nothing works."""
        reach = boundary.lengths(position - boundary.clean[rows]) / np.sqrt(turn)
        landed, new = np.zeros(len(rows), bool), position.copy()
        while len(flying := np.flatnonzero(~landed & (reach > 1.0) & (boundary.spent[rows] < boundary.budget))):
            there = boundary.inside(rows[flying], position[flying] + spread(reach[flying], position) * normal[flying])
            wrong = boundary.ask(rows[flying], there)
            landed[flying[wrong]], new[flying[wrong]] = True, there[wrong]
            reach[flying[~wrong]] /= 2
        done = np.flatnonzero(landed)
        new[done] = boundary.bisect(rows[done], new[done])
        worse = boundary.lengths(new - boundary.clean[rows]) > boundary.distance[rows]
        new[worse] = boundary.best[rows[worse]]
        return new


class HopSkipJumpLinf(HopSkipJump):
    """HopSkipJump in the L-infinity norm."""

    kind: ClassVar[str] = "hopskipjump-linf"
    norm: ClassVar[Norm] = "linf"


def estimate_normal(
    boundary: Boundary, rows: Rows, centre: Points, probes: int, width: float, rng: np.random.Generator, waves: int = 0
) -> Points:
    """Average of random probes, those found wrong minus the others, less the mean decision (HopSkipJump, eq. 16)."""
    total, decided = np.zeros((len(rows), centre[0].size)), np.zeros(len(rows))
    sum_of_noise = np.zeros_like(total)
    at_once = max(1, PROBES_AT_ONCE // max(len(rows), 1))
    for first in range(0, probes, at_once):
        count = min(at_once, probes - first)
        noise = random_noise((len(rows), count, *centre.shape[1:]), width, waves, rng)
        votes = np.where(boundary.probe(rows, centre, noise), np.float32(1), np.float32(-1))
        vectors = noise.reshape(len(rows), count, -1).astype(np.float32)
        total += (votes[:, None] @ vectors)[:, 0]
        sum_of_noise += vectors.sum(axis=1)
        decided += votes.sum(axis=1)
    undecided = np.abs(decided) < probes  # otherwise there is only one side to see, and its mean is the best guess
    return np.asarray(total - (decided / probes * undecided)[:, None] * sum_of_noise).reshape(centre.shape)


def random_noise(shape: tuple[int, ...], width: float, waves: int, rng: np.random.Generator) -> Noise:
    """Whole steps with standard deviation `width`: uniform, or normal with only the `waves` lowest frequencies."""
    if not waves or len(shape) < 5:
        reach = max(1, round(width * np.sqrt(3.0)))
        return rng.integers(-reach, reach + 1, shape, np.int16 if reach < 1 << 13 else np.int32)
    from scipy.fft import idctn

    rows, columns = min(waves, shape[2]), min(waves, shape[3])
    spectrum = np.zeros(shape, np.float32)
    spectrum[:, :, :rows, :columns] = rng.standard_normal((*shape[:2], rows, columns, *shape[4:]), np.float32)
    noise = idctn(spectrum, axes=(2, 3), norm="ortho") * (width * np.sqrt(shape[2] * shape[3] / (rows * columns)))
    return np.asarray(np.rint(noise), np.int32)


class BoundaryAttack(DecisionAttack):
    """Random steps around the clean image, then a step towards it, both of adapting length."""

    kind: ClassVar[str] = "boundary"
    around: float = Field(0.1, gt=0, description="first step around, as a share of the distance")
    towards: float = Field(0.1, gt=0, lt=1, description="first step towards the image, as a share of the distance")

    def walk(self, boundary: Boundary, rng: np.random.Generator) -> None:
        """Two queries a turn; the step lengths follow the share of successes (wanted: about one in two and in four)."""
        rows = boundary.active()
        position = boundary.best.copy()
        position[rows] = boundary.bisect(rows, position[rows])
        around, towards = (np.full(len(position), value) for value in (self.around, self.towards))
        while len(rows := boundary.active()):
            turned = boundary.inside(rows, around_step(boundary.clean[rows], position[rows], around[rows], rng))
            wrong = boundary.ask(rows, turned)
            around[rows] = np.clip(around[rows] * np.where(wrong, 1.1, 1 / 1.1), 1e-3, 1.0)
            rows, turned = rows[wrong], turned[wrong]
            if not len(rows):
                continue
            nearer = boundary.toward(rows, turned, 1 - towards[rows])
            wrong = boundary.ask(rows, nearer)
            towards[rows] = np.clip(towards[rows] * np.where(wrong, 1.3, 1 / 1.1), 1e-3, 0.5)
            position[rows] = np.where(spread(wrong, turned), nearer, turned)


def around_step(clean: Points, position: Points, share: NDArray[np.float64], rng: np.random.Generator) -> Points:
    """A random step at right angles to the way to the clean image, that keeps the distance."""
    way = position - clean
    distance = spread(np.maximum(lengths(way), 1e-12), way)
    noise = rng.standard_normal(position.shape)
    unit = way / distance
    noise -= unit * spread(np.sum(flat(noise * unit), axis=1), way)
    noise *= spread(share, way) * distance / spread(np.maximum(lengths(noise), 1e-12), way)
    moved = way + noise
    return np.asarray(clean + moved * distance / spread(np.maximum(lengths(moved), 1e-12), way))


class GeoDA(DecisionAttack):
    """Takes the boundary for a plane: its normal at the nearest point, seen from the clean image, is the way out."""

    kind: ClassVar[str] = "geoda"
    rounds: int = Field(6, ge=1, description="estimates of the normal; later ones get more of the budget")
    growth: float = Field(1.5, ge=1, description="by how much each estimate's probes exceed the last one's")
    waves: int = Field(8, ge=0, description="probes use this many lowest frequencies per axis; 0 is all")
    probe: float = Field(4 / 256, gt=0, description="standard deviation of a probe, as a share of the range")

    def walk(self, boundary: Boundary, rng: np.random.Generator) -> None:
        """Estimate the normal, go from the clean image along it, bisect."""
        rows = boundary.active()
        position = boundary.best.copy()
        position[rows] = boundary.bisect(rows, position[rows])
        shares = self.growth ** np.arange(self.rounds)
        left = boundary.budget - int(boundary.spent.max(initial=0)) - MAX_BISECTIONS * self.rounds
        for share in shares / shares.sum():
            rows = boundary.active()
            if not len(rows):
                return
            probes = max(2, int(max(left, 2 * self.rounds) * share))
            normal = estimate_normal(
                boundary, rows, position[rows], probes, self.probe * boundary.ball.grid.scale, rng, self.waves
            )
            normal /= spread(np.maximum(lengths(normal), 1e-12), normal)
            position[rows] = self.shoot(boundary, rows, position[rows], normal)

    def shoot(self, boundary: Boundary, rows: Rows, position: Points, normal: Points) -> Points:
        """The boundary along the ray from the clean image; the old point where the ray finds none nearer."""
        clean, new = boundary.clean[rows], position.copy()
        distance = boundary.lengths(position - clean)
        hit = np.zeros(len(rows), bool)
        for stretch in (1.0, 1.5, 2.5):
            open_ = np.flatnonzero(~hit & (boundary.spent[rows] < boundary.budget))
            if not len(open_):
                break
            ray = clean[open_] + spread(stretch * distance[open_], clean) * normal[open_]
            there = boundary.inside(rows[open_], ray)
            wrong = boundary.ask(rows[open_], there)
            hit[open_[wrong]], new[open_[wrong]] = True, there[wrong]
        done = np.flatnonzero(hit)
        new[done] = boundary.bisect(rows[done], new[done])
        worse = boundary.lengths(new - clean) > boundary.distance[rows]
        new[worse] = boundary.best[rows[worse]]
        return new
