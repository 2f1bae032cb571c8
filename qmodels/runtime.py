"""The one place where TensorFlow is loaded, always as Keras 2 (QKeras needs it), quietly."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from qmodels.errors import UserError
from qmodels.interrupts import interrupt_later, messages_to


class Runtime(NamedTuple):
    """The untyped libraries, as modules."""

    tf: Any
    keras: Any  # tf_keras
    qkeras: Any


#: Layers of QKeras whose `call` is plain Python: no `if` or loop in it, or in their quantizers, depends on a tensor.
_PLAIN_LAYERS = (
    *("QActivation", "QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D", "QSeparableConv1D", "QSeparableConv2D"),
    *("QBatchNormalization", "QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm"),
    *("QAveragePooling2D", "QGlobalAveragePooling2D"),
)


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """Load TensorFlow, tf_keras and QKeras (about 4 s, once).

    Raises:
        UserError: Python runs without docstrings, or Keras 3 was asked for.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # CUDA and oneDNN notices, not for a user
    if sys.flags.optimize > 1:  # its libraries read their own docstrings
        raise UserError("TensorFlow cannot run without docstrings: unset PYTHONOPTIMIZE=2 (python -OO), or set it to 1")
    if os.environ["TF_USE_LEGACY_KERAS"] != "1":
        raise UserError("QKeras needs Keras 2: run with TF_USE_LEGACY_KERAS=1")
    with interrupt_later(), quiet_stderr(), _without_own_settings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = importlib.import_module("tensorflow")
        keras = importlib.import_module("tf_keras")
        with without_keras_3():
            qkeras = importlib.import_module("qkeras")
    for name in _PLAIN_LAYERS:
        _spare(getattr(qkeras, name), tf)
    tf.get_logger().setLevel("ERROR")
    # tf_keras serialises QKeras' quantizers through the constraints API and warns about it, model by model.
    warnings.filterwarnings("ignore", "The `keras.constraints.serialize", UserWarning)
    # QKeras calls its initializer a second time when the first values are too small for the quantizer.
    warnings.filterwarnings("ignore", "The initializer .* is unseeded", UserWarning)
    return Runtime(tf, keras, qkeras)


def _spare(layer: Any, tf: Any) -> None:
    """Have a kind of layer called as it is written: autograph would translate it, and all that it calls, in seconds.

    And not at all where Keras only asks what shape comes out, as it does for each layer of a model that it builds: a
    quantizer is some sixty operations, and keeps the shape.
    """
    written = layer.call
    builds_more = layer.__name__.endswith("Batchnorm")  # a layer inside, which is built when this one is first called

    @functools.wraps(written)  # Keras looks at the arguments
    def call(self: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        shape = None if builds_more else _shape_asked(self, inputs, tf)
        if shape is not None:
            return tf.compat.v1.placeholder(inputs.dtype, shape)
        return written(self, inputs, *others, **named)

    layer.call = tf.autograph.experimental.do_not_convert(call)
    layer.call.__signature__ = inspect.signature(written)


def _shape_asked(layer: Any, inputs: Any, tf: Any) -> Any:
    """The shape of a layer's output if Keras asks for no more, in a graph that it throws away; else None."""
    if tf.executing_eagerly() or getattr(tf.compat.v1.get_default_graph(), "name", "") != f"{layer.name}_scratch_graph":
        return None
    try:
        shape = layer.compute_output_shape(inputs.shape)
    except ValueError:  # what fits nowhere gets its message from the operation itself
        return None
    return shape if all(size is None or size > 0 for size in tuple(shape)[1:]) else None


@contextlib.contextmanager
def _without_own_settings() -> Iterator[None]:
    """`~/.keras/keras.json` would change what is computed, or end the import; nor is one written."""
    before = os.environ.get("KERAS_HOME")
    os.environ["KERAS_HOME"] = f"{os.devnull}/keras"  # no folder can be there
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"]
        if before is not None:
            os.environ["KERAS_HOME"] = before


@contextlib.contextmanager
def without_keras_3() -> Iterator[None]:
    """QKeras' pruning library and hls4ml's writer look for Keras 3, which takes a second, and go on without it."""
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        yield
    finally:
        del sys.modules["keras"]


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide what TensorFlow's C++ prints to file descriptor 2, whatever its log level."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        with messages_to(saved):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and TensorFlow's global generators: Keras' initializers and dropout use them."""
    runtime().keras.utils.set_random_seed(seed)


def copy_model(model: Any, clone_function: Callable[[Any], Any] | None = None) -> Any:
    """A copy of a Keras model with weights of its own.

    Args:
        model: functional or sequential.
        clone_function: layer -> the layer to stand in its place, with the same weights; None: one like it.
    """
    copy = runtime().keras.models.clone_model(model, clone_function=clone_function)
    copy.set_weights(model.get_weights())
    return copy
