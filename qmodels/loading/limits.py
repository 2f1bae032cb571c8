"""Bounds on what a model file may ask for, so that none of them takes the machine's memory or hours of its time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from qmodels.errors import UserError
from qmodels.loading.tree import Json, levels, name_of, nodes
from qmodels.runtime import runtime

#: Weights of a model, and values of one layer's output. An FPGA holds a hundredth of it.
MAX_NUMBERS = 100_000_000
MAX_LAYERS = 5_000
#: Bytes of an architecture, once unpacked.
MAX_ARCHITECTURE = 32 * 2**20
_NOT_SIZES = ("seed", "shared_object_id", "dtype")
_MEND = "check the file; a model for an FPGA is far smaller"


def check_sizes(architecture: Json, path: Path) -> None:
    """Look for sizes out of all bounds in an architecture, before anything is built; loads no TensorFlow.

    Raises:
        UserError: one of a layer's settings is larger than any model's, or there are too many layers.
    """
    layers = [layer for config in levels(architecture) for layer in config["layers"]]
    if len(layers) > MAX_LAYERS:
        raise UserError(f"{path}: has {len(layers)} layers; at most {MAX_LAYERS} are loaded; {_MEND}")
    for layer in layers:
        for key, value in layer["config"].items():
            if key in ("layers", *_NOT_SIZES):
                continue
            for number in nodes(value if not isinstance(value, dict) else _without_ids(value)):
                if isinstance(number, int) and abs(number) > MAX_NUMBERS:
                    raise UserError(
                        f"{path}: layer {name_of(layer)!r}: {key}={str(number)[:40]}; at most {MAX_NUMBERS} is "
                        f"loaded; {_MEND}"
                    )
            shape = value if "shape" in key and isinstance(value, list) else []
            if prod(abs(size) for size in shape if isinstance(size, int)) > MAX_NUMBERS:
                raise UserError(
                    f"{path}: layer {name_of(layer)!r}: {key}={shape} has more than {MAX_NUMBERS} numbers; {_MEND}"
                )


@contextlib.contextmanager
def bounded_weights(where: Path | str) -> Iterator[None]:
    """Count the weights that Keras makes in this block, before each is made.

    Args:
        where: the file or the section of the config that asks for them, for the message.

    Raises:
        UserError: they are more than MAX_NUMBERS together.
    """
    made = 0

    def creator(create: Any, **settings: Any) -> Any:
        nonlocal made
        shape = settings.get("shape")
        sizes = [int(size) for size in shape] if shape is not None else []
        made += prod(sizes)
        if made > MAX_NUMBERS:
            name = runtime().tf.get_current_name_scope() or "?"
            raise UserError(
                f"{where}: layer {name!r}: with its weights of shape {tuple(sizes)} the model has {made} weights; at "
                f"most {MAX_NUMBERS} are allowed; {_MEND}"
            )
        return create(**settings)

    with runtime().tf.variable_creator_scope(creator):
        yield


def check_outputs(model: Any, path: Path) -> None:
    """See that no layer of a model that is built gives more numbers a sample than memory holds."""
    for layer in model.layers:
        outputs = layer.output if isinstance(layer.output, list) else [layer.output]
        for shape in (tuple(output.shape) for output in outputs):
            if prod(size for size in shape if size is not None) > MAX_NUMBERS:
                raise UserError(f"{path}: layer {layer.name!r} gives {shape} numbers; at most {MAX_NUMBERS}; {_MEND}")


def _without_ids(value: Json) -> Json:
    """A setting that is an object, without what only numbers objects."""
    return {
        key: _without_ids(child) if isinstance(child, dict) else child
        for key, child in value.items()
        if key not in _NOT_SIZES
    }
