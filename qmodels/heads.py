"""Heads: what a criterion judges, where that is not what the model gives out.

The accelerator computes the model; the head is worked out beside it, the same for every victim: in NumPy from its exact
outputs, and in TensorFlow for gradients.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qmodels.grid import Values
from qmodels.runtime import copy_model, runtime

Array = NDArray[Any]
Tensor = Any


class Head(Protocol):
    """A function of a model's outputs and inputs."""

    def arrays(self, outputs: Array, values: Values) -> Array:
        """(N, ...) outputs and the inputs (N, ...) they belong to -> (N, judged outputs)."""
        ...

    def tensors(self, outputs: Tensor, values: Tensor) -> Tensor:
        """The same in TensorFlow."""
        ...


class TwoClasses:
    """One logit z, that of the second of two classes, as the two logits 0 and z: z above 0 is class 1."""

    def __repr__(self) -> str:
        return "TwoClasses()"

    def arrays(self, outputs: Array, values: Values) -> Array:
        """(N, 1) -> (N, 2)."""
        return np.concatenate([np.zeros_like(outputs), outputs], axis=1)

    def tensors(self, outputs: Tensor, values: Tensor) -> Tensor:
        """(N, 1) -> (N, 2)."""
        return runtime().tf.concat([runtime().tf.zeros_like(outputs), outputs], axis=1)


class ReconstructionError:
    """The mean squared difference between an auto-encoder's outputs and its inputs, in double precision."""

    def __repr__(self) -> str:
        return "ReconstructionError()"

    def arrays(self, outputs: Array, values: Values) -> Array:
        """(N, ...) -> scores (N, 1)."""
        flat = (part.reshape(len(part), -1).astype(np.float64) for part in (outputs, values))
        rebuilt, given = flat
        return np.asarray(np.mean((rebuilt - given) ** 2, axis=1, keepdims=True))

    def tensors(self, outputs: Tensor, values: Tensor) -> Tensor:
        """(N, ...) -> scores (N, 1)."""
        tf = runtime().tf
        rebuilt, given = (tf.cast(tf.reshape(part, [tf.shape(part)[0], -1]), tf.float64) for part in (outputs, values))
        return tf.reduce_mean((rebuilt - given) ** 2, axis=1, keepdims=True)


def strip_probabilities(model: Any) -> tuple[Any, str]:
    """A plain Keras model that ends in logits instead of their softmax or sigmoid, and what was done; "" if nothing.

    The class that wins is the same; the logits are what gradients need and what an accelerator can compute exactly.
    """
    last = model.layers[-1]
    kind = "softmax" if type(last).__name__ == "Softmax" else getattr(getattr(last, "activation", None), "__name__", "")
    if kind not in ("softmax", "sigmoid") or type(last).__name__ not in ("Softmax", "Activation", "Dense"):
        return model, ""
    told = f"layer {last.name!r}: its {kind} was removed, the logits before it are used and attacked"
    if type(last).__name__ != "Dense":
        return copy_model(runtime().keras.Model(model.inputs, last.input, name=model.name)), told
    copy = copy_model(model)
    copy.layers[-1].activation = runtime().keras.activations.linear
    return copy, told
