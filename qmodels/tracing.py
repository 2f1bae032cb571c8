"""TensorFlow functions that are traced once, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmodels.runtime import runtime


class Traced:
    """A function of tensors as a graph that takes batches of every size.

    `tf.function` by itself traces the first batch for its size, and again when another one comes: seconds each time.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Nothing is traced yet.

        Args:
            function: its arguments are tensors, or tuples of tensors. The first dimension of each is the batch. It has
                no `if` or `for` over tensors, which autograph would take seconds to translate: `repeated`, tf.cond.
        """
        self._function = runtime().tf.function(function, autograph=False)
        self._traces: dict[object, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives for tensors or arrays."""
        tf = runtime().tf
        tensors = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        specs = tf.nest.map_structure(_any_batch, tensors)
        key = tuple((spec.dtype, tuple(spec.shape)) for spec in tf.nest.flatten(specs))
        if key not in self._traces:
            self._traces[key] = self._function.get_concrete_function(*specs)
        return self._traces[key](*tensors)  # asking the function for its trace again takes as long as a small loss


def repeated(first: Any, last: Any, step: Callable[..., Any], state: tuple[Any, ...]) -> tuple[Any, ...]:
    """`state = step(index, *state)` for every index from `first` to before `last`, inside a traced function.

    Args:
        first: an integer or a tensor of one.
        last: the same.
        step: gives what it gets: as many tensors, or tuples of tensors, of the same types and shapes.
        state: before the first step.
    """
    tf = runtime().tf

    def body(index: Any, *now: Any) -> tuple[Any, ...]:
        return index + 1, *step(index, *now)

    return tuple(tf.while_loop(lambda index, *_: index < last, body, (tf.convert_to_tensor(first), *state))[1:])


def _any_batch(tensor: Any) -> Any:
    tf = runtime().tf
    return tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)
