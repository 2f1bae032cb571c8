"""What an attack sees: something that turns images into logits, and perhaps gives gradients.

Victims are the float model, the quantized QKeras model (straight-through gradients), hls4ml's csim and
bitsim; the last two live in `hw` and fulfil the same protocol.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qmodels.runtime import runtime

Images = NDArray[np.float32]  # (N, H, W, C), on the input grid k/256
Labels = NDArray[np.int64]  # (N,)
Logits = NDArray[np.float32]  # (N, classes)


@runtime_checkable
class Victim(Protocol):
    """Anything that can be attacked through its outputs."""

    @property
    def name(self) -> str:
        """`float`, `quantized`, `csim` or `bitsim`."""
        ...

    def logits(self, x: Images) -> Logits:
        """Logits (N, classes) of images (N, ...) on the input grid."""
        ...


@runtime_checkable
class GradientVictim(Victim, Protocol):
    """A victim whose Keras model can be differentiated."""

    @property
    def model(self) -> Any:
        """A Keras model with logits as output; quantizers carry straight-through gradients."""
        ...


class KerasVictim:
    """A Keras or QKeras model as a victim."""

    def __init__(self, model: Any, name: Literal["float", "quantized"], batch_size: int = 1000) -> None:
        self.model = model
        self.name: str = name
        self.batch_size = batch_size
        self._forward = runtime().tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def __repr__(self) -> str:
        return f"KerasVictim({self.name}, {self.model.name})"

    def logits(self, x: Images) -> Logits:
        """Logits (N, classes), batch by batch."""
        tf = runtime().tf
        batches = [
            self._forward(tf.convert_to_tensor(x[start : start + self.batch_size])).numpy()
            for start in range(0, len(x), self.batch_size)
        ]
        return np.concatenate(batches) if batches else np.empty((0, self.model.output_shape[-1]), np.float32)


class AcceleratorVictim:
    """The accelerator with the gradients of the model that it computes: white-box attacks judged on the device."""

    def __init__(self, accelerator: Victim, model: Any) -> None:
        self.accelerator, self.model = accelerator, model
        self.name: str = accelerator.name

    def __repr__(self) -> str:
        return f"AcceleratorVictim({self.accelerator!r}, {self.model.name})"

    def logits(self, x: Images) -> Logits:
        """The accelerator's logits (N, classes)."""
        return self.accelerator.logits(x)


def predictions(victim: Victim, x: Images) -> Labels:
    """Predicted classes; -1 where a logit is not finite, so that NaN is never counted as a right answer."""
    logits = victim.logits(x)
    classes: Labels = logits.argmax(axis=1).astype(np.int64)
    classes[~np.isfinite(logits).all(axis=1)] = -1
    return classes


def accuracy(victim: Victim, x: Images, y: Labels) -> float:
    """Share of images whose predicted class is `y`."""
    return float(np.mean(predictions(victim, x) == y))
