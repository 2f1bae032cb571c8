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
            function: its arguments are tensors, or tuples of tensors. The first dimension of each is the batch. It may
                have an `if` or `for` over tensors itself; what it calls may not, but for layers of a model.
        """
        tf = runtime().tf
        # Converting all that it calls would take autograph seconds.
        graph = tf.autograph.to_graph(function, recursive=False)
        self._function = tf.function(graph, autograph=False)
        self._known: set[object] = set()

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives for tensors or arrays."""
        tf = runtime().tf
        tensors = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        specs = tf.nest.map_structure(_any_batch, tensors)
        key = tuple((spec.dtype, tuple(spec.shape)) for spec in tf.nest.flatten(specs))
        if key not in self._known:
            self._function.get_concrete_function(*specs)
            self._known.add(key)
        return self._function(*tensors)


def _any_batch(tensor: Any) -> Any:
    tf = runtime().tf
    return tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)
