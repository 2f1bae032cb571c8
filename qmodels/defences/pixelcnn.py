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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.defences.config import PixelDefendConfig
from qmodels.defences.filters import Place, straight_through
from qmodels.digest import digest
from qmodels.grid import Codes, InputGrid
from qmodels.processors import processors
from qmodels.progress import progress_bar
from qmodels.runtime import runtime, set_seed
from qmodels.storage import atomic_path

Tensor = Any
Weights = tuple[NDArray[np.float64], ...]  # kernel, bias of every layer

LEVELS = 256
_STEP = 2.0**-12
_IMAGES_A_THREAD = 4  # fewer are not worth a thread
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

    def waves(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Rows and columns of numbers that do not depend on each other, in an order in which they can be drawn.

        A number looks `side` columns to the right in the rows above. So each row may follow that far behind the last.
        """
        height, columns, behind = self.shape[0], self.shape[1] * self.shape[2], self.side + 1
        rows = np.arange(height)
        for turn in range(columns + (height - 1) * behind):
            places = turn - behind * rows
            here = (places >= 0) & (places < columns)
            yield rows[here], places[here]

    def before(self) -> NDArray[np.intp]:
        """Where `around` looks in a padded image that lies flat, from the first place that it sees."""
        wide = self.shape[1] * self.shape[2] + 2 * self.side
        spots = np.arange((self.reach + 1) * wide).reshape(1, self.reach + 1, wide)
        return np.asarray(self.around(spots, 0, 0)[0], np.intp)

    def around(self, padded: NDArray[Any], row: int, column: int) -> NDArray[Any]:
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
            # Hundreds of small products: threads of one product would wait for each other, so each has its own images.
            parts = np.array_split(x, min(processors(), max(1, len(x) // _IMAGES_A_THREAD)))
            with threadpool_limits(1, "blas"), ThreadPoolExecutor(len(parts)) as pool:
                self._known[key] = np.concatenate(list(pool.map(self._purified, parts)))
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def tensors(self, points: Tensor) -> Tensor:
        """Purified forward, the identity backward."""
        return straight_through(self, self.grid, points)

    def _purified(self, x: Codes) -> Codes:
        context = self.context
        height, columns = context.shape[0], context.shape[1] * context.shape[2]
        given = x.reshape(len(x), height, columns)
        padded = context.padded(x)
        flat = padded.reshape(len(x), -1)
        before = context.before()
        kernel, fixed = self.weights[0][: len(before)], self._fixed
        for rows, places in context.waves():
            around = flat[:, (rows * padded.shape[2] + places)[:, None] + before]
            sums = around.reshape(-1, len(before)) @ kernel
            sums = sums.reshape(len(x), len(rows), -1) + fixed[rows * columns + places]
            logits = following(self.weights, sums.reshape(-1, sums.shape[-1]))
            near = self._near[given[:, rows, places].ravel()]
            best = np.add(logits, near, out=logits).argmax(axis=1).reshape(len(x), -1)
            padded[:, rows + context.reach, places + context.side] = best / LEVELS
        middle = padded[:, context.reach :, context.side : padded.shape[2] - context.side]
        return np.rint(middle * LEVELS).astype(x.dtype).reshape(x.shape)

    @cached_property
    def _fixed(self) -> NDArray[np.float64]:
        """(H W C, hidden): what the first layer adds for a place, whatever the image."""
        context, blank = self.context, np.zeros((1, *self.context.shape), np.uint8)
        padded, inside = context.padded(blank), context.inside()
        inputs = [context.inputs(padded, inside, *place)[0] for place in context.places()]
        return np.asarray(np.stack(inputs) @ self.weights[0] + self.weights[1])

    @cached_property
    def _near(self) -> NDArray[np.float64]:
        """(256, 256): what is added to the logits, by the given number: minus infinity beyond ε."""
        levels = np.arange(LEVELS)
        return np.where(np.abs(levels - levels[:, None]) > self.epsilon, -np.inf, 0.0)


def forward(weights: Weights, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (N, 256); exact, whatever the order of sums."""
    return following(weights, x @ weights[0] + weights[1])


def following(weights: Weights, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (N, 256) from the first layer's sums, which are overwritten."""
    for kernel, bias in zip(weights[2::2], weights[3::2], strict=True):
        np.maximum(sums, 0.0, out=sums)
        np.rint(np.multiply(sums, 1 / _STEP, out=sums), out=sums)
        sums = np.multiply(sums, _STEP, out=sums) @ kernel
        sums += bias
    return sums


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

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
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
