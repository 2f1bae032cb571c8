"""TensorFlow functions that are traced once, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmodels.runtime import runtime

#: Their `call` has no `if` or `for` over tensors, which only autograph could turn into graph operations.
_PLAIN = ("tf_keras.", "qkeras.")


class Traced:
    """A function of tensors as a graph that takes batches of every size.

    `tf.function` by itself traces the first batch for its size, and again when another one comes: seconds each time.
    """

    def __init__(self, function: Callable[..., Any], *, autograph: bool = True) -> None:
        """Nothing is traced yet.

        Args:
            function: its arguments are tensors, or tuples of tensors. The first dimension of each is the batch.
            autograph: whether it has an `if` or `for` over tensors, or calls a model that has.
        """
        tf = runtime().tf
        # Only what is written in it is converted, not all that it calls: that would take autograph seconds.
        graph = tf.autograph.to_graph(function, recursive=False) if autograph else function
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


def needs_autograph(model: Any) -> bool:
    """Whether a model has code of its user's: Keras and QKeras do without autograph, a fifth of the tracing time."""
    modules = {type(module).__module__ for module in (model, *getattr(model, "submodules", ()))}
    return not all(name.startswith(_PLAIN) for name in modules)


def forward_pass(model: Any) -> Callable[[Any], Any]:
    """A model's forward pass as it is used, for a graph that is being traced."""

    def forward(values: Any) -> Any:
        return model(values, training=False)

    return forward if needs_autograph(model) else runtime().tf.autograph.experimental.do_not_convert(forward)
