"""What an attack sees: something that turns input codes into outputs, and perhaps gives gradients.

Victims are the float model, the quantized QKeras model (straight-through gradients), hls4ml's csim and
bitsim; the last two live in `hw` and fulfil the same protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from math import prod
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qmodels.grid import IMAGE_GRID, Codes, InputGrid, Points
from qmodels.heads import Head
from qmodels.runtime import runtime
from qmodels.tracing import Traced

Labels = NDArray[np.int64]  # (N,)
Logits = NDArray[np.float32]  # (N, classes)
Compiled = TypeVar("Compiled")


@runtime_checkable
class Victim(Protocol):
    """Anything that can be attacked through its outputs."""

    @property
    def name(self) -> str:
        """`float`, `quantized`, `csim` or `bitsim`."""
        ...

    @property
    def grid(self) -> InputGrid:
        """What its inputs can be."""
        ...

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of input codes (N, ...) on the grid."""
        ...


class Engine(Protocol):
    """Computes a model's outputs and input gradients faster than TensorFlow does, for points on the grid."""

    def forward(self, points: Points) -> tuple[Logits, np.int64]:
        """Outputs (N, outputs) of points (N, ...) in grid steps, and a ticket with which `backward` is asked once."""
        ...

    def backward(self, upstream: Points, ticket: np.int64) -> Points:
        """Gradient (N, features) by the points, of what has the gradient `upstream` (N, outputs) by the outputs."""
        ...

    def outputs(self, points: Points) -> Logits:
        """Outputs (N, outputs) of points (N, ...) in grid steps."""
        ...

    def move(self, iterate: Points, ahead: Points, length: Points, box: tuple[Points, Points]) -> Points:
        """Step along the signs of `ahead`, into the box, in place; the nearest points of the grid.

        Args:
            iterate: (N, ...) in grid steps; float32, contiguous.
            ahead: (N, features).
            length: of a step, one number or (features,).
            box: lowest and highest points (N, ...), whole numbers.
        """
        ...


#: (prequantized model, its grid) -> its engine; None where there is none for such a model.
EngineOf = Callable[[Any, InputGrid], Engine | None]


class GradientModel:
    """A Keras model whose input gradients an attack may follow, and the loops that were compiled for it.

    Compiling a loop takes seconds, so it is kept as long as the model is. Weights are read anew in each call.
    """

    def __init__(
        self,
        model: Any,
        grid: InputGrid = IMAGE_GRID,
        head: Head | None = None,
        *,
        prepare: Callable[[Any], Any] | None = None,
        forward: Traced | None = None,
        engine: EngineOf | None = None,
    ) -> None:
        """Take a model.

        Args:
            model: Keras, with logits as output; quantizers carry straight-through gradients.
            grid: what its inputs can be.
            head: makes of the model's outputs what a criterion judges; None: they are that.
            prepare: makes of it the model that is differentiated, when that is first asked for; None: the same.
            forward: the model's forward pass, where it has been traced already.
            engine: finds what computes the model in TensorFlow's place; None: TensorFlow does. An engine has the
                weights that the model has when it is first asked for.
        """
        self._given, self._prepare, self.grid, self.head = model, prepare, grid, head
        self._forward, self._engine_of = forward, engine
        self._loops: dict[Hashable, Any] = {}

    def __repr__(self) -> str:
        return f"GradientModel({self._given.name}, {self.grid})"

    @cached_property
    def model(self) -> Any:
        """The model that is differentiated."""
        return self._given if self._prepare is None else self._prepare(self._given)

    @cached_property
    def engine(self) -> Engine | None:
        """What computes the model for inputs on the grid; None: TensorFlow."""
        return None if self._engine_of is None else self._engine_of(self.model, self.grid)

    @cached_property
    def forward(self) -> Traced:
        """The model's forward pass, traced once: outputs of what the model takes. Not to be differentiated."""
        if self._forward is not None:
            return self._forward
        model = self.model  # made now: inside a traced function weights have no values
        return Traced(lambda values: model(values, training=False))

    def answers(self, points: Any) -> Any:
        """`outputs` through the pass that is traced once, for where no gradient is asked for."""
        return self.through(points, self.forward)

    def outputs(self, points: Any) -> Any:
        """Outputs (tensor) of points (tensor) in grid steps."""
        return self.through(points, lambda values: self.model(values, training=False))

    @property
    def plain_engine(self) -> Engine | None:
        """The engine, where its outputs are what a criterion judges and nothing stands before it."""
        return self.engine if self.head is None else None

    def look(self, points: Any) -> Any:
        """`outputs` of points on the grid, by the engine where there is one. To be differentiated exactly once."""
        engine = self.engine
        if engine is None:
            return self.outputs(points)
        follow, step = self._followed(engine), self.grid.step
        return follow(points) if self.plain_engine else self.through(points, lambda values: follow(values / step))

    def glance(self, points: Any) -> Any:
        """`answers` of points on the grid, by the engine where there is one."""
        engine = self.engine
        if engine is None:
            return self.answers(points)

        def forward(values: Any) -> Any:
            tf = runtime().tf
            return self._shaped(tf.numpy_function(engine.outputs, [values / self.grid.step], tf.float32))

        return self.through(points, forward)

    def _followed(self, engine: Engine) -> Callable[[Any], Any]:
        """The engine as a function of points (tensor) that can be differentiated."""
        tf = runtime().tf

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def followed(points: Any) -> tuple[Any, Callable[[Any], Any]]:
            outputs, ticket = tf.numpy_function(engine.forward, [points], [tf.float32, tf.int64])

            def gradient(upstream: Any) -> Any:
                found = tf.numpy_function(engine.backward, [upstream, ticket], tf.float32)
                return tf.reshape(found, tf.shape(points))

            return self._shaped(outputs), gradient

        return followed  # type: ignore[no-any-return]

    def _shaped(self, outputs: Any) -> Any:
        """The engine's outputs with the shape that the model's have."""
        return runtime().tf.ensure_shape(outputs, [None, prod(self.model.output_shape[1:])])

    def through(self, points: Any, forward: Callable[[Any], Any]) -> Any:
        """`outputs`, with the model's forward pass given."""
        values = points * self.grid.step
        outputs = forward(self.grid.feed(values))
        if len(outputs.shape) > 2:  # a picture: simulators and criteria see one row of numbers
            outputs = runtime().tf.reshape(outputs, [runtime().tf.shape(outputs)[0], prod(outputs.shape[1:])])
        return outputs if self.head is None else self.head.tensors(outputs, values)

    def compiled(self, key: Hashable, build: Callable[[GradientModel], Compiled]) -> Compiled:
        """The loop of that key, built when it is first asked for."""
        if key not in self._loops:
            _ = self.model, self.engine  # made now: inside a compiled loop weights have no values
            self._loops[key] = build(self)
        return cast(Compiled, self._loops[key])


@runtime_checkable
class GradientVictim(Victim, Protocol):
    """A victim that comes with a model that can be differentiated."""

    @property
    def gradient_model(self) -> GradientModel:
        """The model whose gradients an attack may follow."""
        ...


class KerasVictim:
    """A Keras or QKeras model as a victim."""

    def __init__(
        self,
        model: Any,
        name: Literal["float", "quantized"],
        grid: InputGrid = IMAGE_GRID,
        batch_size: int = 1000,
        engine: EngineOf | None = None,
    ) -> None:
        self.model = model
        self.name: str = name
        self.grid = grid
        self.batch_size = batch_size
        self.gradient_model = GradientModel(model, grid, engine=engine)

    def __repr__(self) -> str:
        return f"KerasVictim({self.name}, {self.model.name})"

    def logits(self, x: Points) -> Logits:
        """Logits (N, classes) of codes, batch by batch; points between the codes are taken too."""
        tf, width = runtime().tf, prod(self.model.output_shape[1:])
        parts = (x[start : start + self.batch_size] for start in range(0, len(x), self.batch_size))
        values = (tf.convert_to_tensor(self.grid.to_values(part)) for part in parts)
        batches = [self.gradient_model.forward(self.grid.feed(batch)).numpy() for batch in values]
        return np.concatenate(batches).reshape(len(x), width) if batches else np.empty((0, width), np.float32)


class AcceleratorVictim:
    """The accelerator with the gradients of the model that it computes: white-box attacks judged on the device."""

    def __init__(self, accelerator: Victim, gradient_model: GradientModel) -> None:
        self.accelerator, self.gradient_model = accelerator, gradient_model
        self.name: str = accelerator.name
        self.grid = accelerator.grid

    def __repr__(self) -> str:
        return f"AcceleratorVictim({self.accelerator!r}, {self.gradient_model!r})"

    def logits(self, x: Codes) -> Logits:
        """The accelerator's logits (N, classes)."""
        return self.accelerator.logits(x)


class HeadVictim:
    """A victim whose outputs go through a head: what a criterion judges, on every kind of victim alike."""

    def __init__(self, inner: Victim, head: Head) -> None:
        self.inner, self.head = inner, head
        self.name: str = inner.name
        self.grid = inner.grid

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r}, {self.head!r})"

    def logits(self, x: Codes) -> Logits:
        """What the head makes of the victim's outputs: (N, outputs)."""
        return self.head.arrays(self.inner.logits(x), self.grid.to_values(x))


class GradientHeadVictim(HeadVictim):
    """The same with gradients through the head."""

    def __init__(self, inner: GradientVictim, head: Head) -> None:
        super().__init__(inner, head)
        source = inner.gradient_model
        self.gradient_model = GradientModel(
            source.model, source.grid, head, forward=source.forward, engine=lambda *_: source.engine
        )


def with_head(victim: Victim, head: Head | None) -> Victim:
    """The victim as a criterion sees it; the victim itself where there is no head."""
    if head is None:
        return victim
    return GradientHeadVictim(victim, head) if isinstance(victim, GradientVictim) else HeadVictim(victim, head)


def decisions(logits: Logits) -> Labels:
    """Classes (N,) of logits (N, classes); -1 where one is not finite, so that NaN is never a right answer."""
    classes: Labels = logits.argmax(axis=1).astype(np.int64)
    classes[~np.isfinite(logits).all(axis=1)] = -1
    return classes


def predictions(victim: Victim, x: Codes) -> Labels:
    """The victim's `decisions` (N,) on input codes."""
    return decisions(victim.logits(x))


def accuracy(victim: Victim, x: Codes, y: Labels) -> float:
    """Share of inputs whose predicted class is `y`."""
    return float(np.mean(predictions(victim, x) == y))
