"""A small PixelCNN, and PixelDefend's purification with it.

A number's distribution is that of its 256 codes, given the numbers of the rows above and to the left, within `reach`
pixels, and the earlier channels of its own pixel: one masked convolution, then layers of one pixel (van den Oord
2016, arXiv:1601.06759, made small). Where it looks beyond the edge, it is told so.

Purification sets one number after the other to its likeliest code within ε of the given one (Song et al. 2018,
arXiv:1710.10766, algorithm 1). It is greedy and so not random. It must be the same function in an attack, in a
score, and in batches of any size: weights and activations are rounded to multiples of 2^-12, so that sums in double
precision are exact.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.defences.config import PixelDefendConfig
from qmodels.defences.filters import Place, straight_through
from qmodels.digest import digest
from qmodels.grid import Codes, InputGrid
from qmodels.progress import progress_bar
from qmodels.runtime import runtime, set_seed
from qmodels.storage import atomic_path

Tensor = Any
Weights = tuple[NDArray[np.float64], ...]  # kernel, bias of every layer

LEVELS = 256
_STEP = 2.0**-12
_KEPT = 4  # purified batches: every victim of a run is shown the same ones


@dataclass(frozen=True)
class Context:
    """Which earlier numbers a number's distribution depends on. Channels of a pixel lie beside each other."""

    shape: tuple[int, int, int]  # of an image
    reach: int  # in pixels

    @property
    def side(self) -> int:
        """Numbers to each side."""
        return self.reach * self.shape[2]

    @property
    def size(self) -> int:
        """Inputs of the network: every earlier number and whether it is inside the image; which channel it asks for."""
        return 2 * (self.reach * (2 * self.side + 1) + self.side) + self.shape[2]

    def padded(self, images: Codes) -> NDArray[np.float64]:
        """(N, H, W, C) codes -> values (N, H + reach, W C + 2 side), zero outside."""
        rows = images.reshape(len(images), self.shape[0], -1) / LEVELS
        return np.pad(rows, ((0, 0), (self.reach, 0), (self.side, self.side)))

    def inside(self) -> NDArray[np.float64]:
        """(1, H + reach, W C + 2 side): one inside the image, zero outside."""
        return self.padded(np.full((1, *self.shape), LEVELS))

    def places(self) -> NDArray[np.intp]:
        """(H W C, 2): row and column of every number, in the order in which they are drawn."""
        height, width, channels = self.shape
        return np.indices((height, width * channels)).reshape(2, -1).T

    def around(self, padded: NDArray[np.float64], row: int, column: int) -> NDArray[np.float64]:
        """(N, inputs / 2): what lies before a number in padded images."""
        above = padded[:, row : row + self.reach, column : column + 2 * self.side + 1]
        left = padded[:, row + self.reach, column : column + self.side]
        return np.concatenate([above.reshape(len(padded), -1), left], axis=1)

    def inputs(
        self, padded: NDArray[np.float64], inside: NDArray[np.float64], row: int, column: int
    ) -> NDArray[np.float64]:
        """(N, inputs) of the network that gives the number at (row, column) its distribution."""
        channel = np.zeros(self.shape[2])
        channel[column % self.shape[2]] = 1.0
        fixed = np.concatenate([self.around(inside, row, column)[0], channel])
        return np.concatenate([self.around(padded, row, column), np.tile(fixed, (len(padded), 1))], axis=1)


@dataclass(frozen=True)
class PixelDefend:
    """Purification as a filter."""

    grid: InputGrid
    context: Context
    weights: Weights = field(repr=False)
    epsilon: int
    _known: OrderedDict[str, Codes] = field(default_factory=OrderedDict, repr=False, compare=False)

    @property
    def place(self) -> Place:
        """A network for each number of an image: on the host."""
        return "host"

    def codes(self, x: Codes) -> Codes:
        """(N, H, W, C) -> the same shape, each number within ε of what it was."""
        from threadpoolctl import threadpool_limits  # comes with scikit-learn

        key = digest(str(x.shape), x)
        if key not in self._known:
            with threadpool_limits(1, "blas"):  # thousands of small products: threads would wait for each other
                self._known[key] = self._purified(x)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def tensors(self, points: Tensor) -> Tensor:
        """Purified forward, the identity backward."""
        return straight_through(self, self.grid, points)

    def _purified(self, x: Codes) -> Codes:
        context, given = self.context, x.reshape(len(x), self.context.shape[0], -1).astype(np.int64)
        padded, inside = context.padded(x), context.inside()
        levels = np.arange(LEVELS)
        for row, column in context.places():
            logits = forward(self.weights, context.inputs(padded, inside, row, column))
            far = np.abs(levels - given[:, row, column, None]) > self.epsilon
            best = np.where(far, -np.inf, logits).argmax(axis=1)
            padded[:, row + context.reach, column + context.side] = best / LEVELS
        middle = padded[:, context.reach :, context.side : padded.shape[2] - context.side]
        return np.rint(middle * LEVELS).astype(x.dtype).reshape(x.shape)


def forward(weights: Weights, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (N, 256); exact, whatever the order of sums."""
    for place in range(0, len(weights) - 2, 2):
        sums = x @ weights[place] + weights[place + 1]
        x = np.rint(np.maximum(sums, 0.0) / _STEP) * _STEP
    return np.asarray(x @ weights[-2] + weights[-1])


def mean_bits(weights: Weights, context: Context, images: Codes) -> float:
    """Mean of -log2 p of the numbers of images: 8 is a uniform guess."""
    padded, inside, total = context.padded(images), context.inside(), 0.0
    rows = np.arange(len(images))
    flat = images.reshape(len(images), context.shape[0], -1)
    for row, column in context.places():
        logits = forward(weights, context.inputs(padded, inside, row, column))
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[rows, flat[:, row, column]] - np.log(np.exp(logits).sum(axis=1))
        total -= float(chosen.mean())
    return total / len(context.places()) / float(np.log(2.0))


def train_pixelcnn(config: PixelDefendConfig, images: Codes, seed: int) -> Weights:
    """The weights of a PixelCNN of training images (N, H, W, C), trained on random numbers of them, then rounded."""
    context = _context(config, images)
    keras = runtime().keras
    set_seed(seed)
    layers = [keras.layers.Dense(config.hidden, activation="relu") for _ in range(2)]
    network = keras.Sequential([keras.Input((context.size,)), *layers, keras.layers.Dense(LEVELS)])
    step = _compiled_step(network, keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(
        config.learning_rate, config.steps
    )))  # fmt: skip
    rng = np.random.default_rng([seed, 0x91C3])
    inside = context.inside()
    with progress_bar("PixelCNN", config.steps) as bar:
        for turn in range(config.steps):
            place = context.places()[rng.integers(len(context.places()))]
            chosen = rng.integers(len(images), size=config.batch_size)
            padded = context.padded(images[chosen])
            wanted = images[chosen].reshape(len(chosen), context.shape[0], -1)[:, place[0], place[1]]
            loss = step(context.inputs(padded, inside, *place).astype(np.float32), wanted.astype(np.int64))
            bar.advance(1, note=f"loss {float(loss):.3f}" if turn % 100 == 0 else "")
    return tuple(np.rint(array.astype(np.float64) / _STEP) * _STEP for array in network.get_weights())


def _context(config: PixelDefendConfig, images: Codes) -> Context:
    height, width, channels = images.shape[1:]
    return Context((height, width, channels), config.reach)


def _compiled_step(network: Any, optimizer: Any) -> Any:
    tf = runtime().tf
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Tensor, wanted: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=wanted, logits=network(x, training=True))
            loss = tf.reduce_mean(losses)
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


def pixeldefend(config: PixelDefendConfig, grid: InputGrid, images: Codes, seed: int, path: Path) -> PixelDefend:
    """PixelDefend with a PixelCNN of training images, which is kept in `path` and read from there the next time.

    Args:
        config: sizes and ε.
        grid: what inputs can be.
        images: training images (N, H, W, C), never test images.
        seed: of the training.
        path: an .npz file.
    """
    trained = config.model_dump_json(exclude={"epsilon_lsb"})
    key = digest(f"{seed} {trained} {images.shape}", images)
    weights = _stored(path, key)
    if weights is None:
        weights = train_pixelcnn(config, images, seed)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, key=key, **{f"w{place}": array for place, array in enumerate(weights)})  # type: ignore[arg-type]
    return PixelDefend(grid, _context(config, images), weights, config.epsilon_lsb)


def _stored(path: Path, key: str) -> Weights | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return tuple(stored[f"w{place}"] for place in range(len(stored.files) - 1))
    except (OSError, ValueError, KeyError):
        return None
