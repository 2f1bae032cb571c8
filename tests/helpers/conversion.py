"""hls4ml's graph of any model it takes, and its C simulation: what the contract's promises are held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from qmodels.grid import Values

IoType = Literal["io_parallel", "io_stream"]


@dataclass(frozen=True)
class Outputs:
    """Of one model and its accelerator on the same inputs, (N, outputs)."""

    keras: NDArray[Any]
    csim: NDArray[Any]
    bitsim: NDArray[Any]
    graph: Any


def accelerator_of(model: Any, io_type: IoType = "io_parallel", backend: Any = "Vitis") -> Accelerator:
    """A model as its contract says it must be converted."""
    return Accelerator(model, HardwareConfig(io_type=io_type, backend=backend), exactness="reported")


def outputs_of(model: Any, x: Values, io_type: IoType = "io_parallel") -> Outputs:
    """Keras, C simulation and bitsim of one model."""
    accelerator = accelerator_of(model, io_type)
    expected = np.asarray(model(x)).reshape(len(x), -1)
    csim = np.asarray(accelerator.compile(optimize=False).predict(x)).reshape(len(x), -1)
    return Outputs(expected, csim, np.asarray(accelerator.bitsim.predict(x)).reshape(len(x), -1), accelerator.graph)


def signed_inputs(count: int, shape: tuple[int, ...], seed: int = 0) -> Values:
    """Numbers of fixed<10,4>: random ones, then as many at its ends, then all zero."""
    rng = np.random.default_rng(seed)
    random = np.clip(np.rint(rng.normal(size=(count, *shape)) * 96), -512, 511)
    ends = rng.choice([-512, 511], (count, *shape))
    return (np.concatenate([random, ends, np.zeros((1, *shape))]) / 64).astype(np.float32)


def spread(model: Any, seed: int = 3) -> Any:
    """Random weights of a sensible size, in place; positive ones for scales and variances."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        new = []
        for variable, old in zip(layer.weights, layer.get_weights(), strict=True):
            if old.dtype != np.float32:
                new.append(old)  # a counter of steps
            elif old.ndim > 1:
                new.append(rng.normal(size=old.shape) * 1.4 / np.sqrt(np.prod(old.shape[:-1])))
            elif "variance" in variable.name or "gamma" in variable.name:
                new.append(np.abs(rng.normal(size=old.shape)) * 0.3 + 0.5)
            else:
                new.append(rng.normal(size=old.shape) * 0.2)
        layer.set_weights(new)
    return model
