"""Average pooling: the quotient of a sum by anything but a power of two has no end in binary.

hls4ml keeps about forty of its bits, TensorFlow 24. Rounded by the quantizer of the layer behind, both give the
exact quotient's rounding: a sum on the activations' grid over n pixels is off every tie by at least 1/(2n) of its
step, or the quotient is exact (`tests/qmodels/quantize/test_averages.py` goes over all sums).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from qmodels.layers import MOVING


def unrounded_averages(model: Any, rounds: Callable[[Any], bool]) -> Iterator[Any]:
    """Average poolings that divide by no power of two and go unrounded into a layer that computes.

    Args:
        model: a Keras or QKeras model.
        rounds: whether a layer rounds its input, or in a float model will do so once quantized.
    """
    for layer in model.layers:
        if not _ends(layer) and not all(rounds(reader) for reader in _readers(model, layer)):
            yield layer


def _ends(layer: Any) -> bool:
    """Whether the quotient has an end in binary; true of layers that do not divide."""
    kind = type(layer).__name__
    if "AveragePooling" not in kind:
        return True
    pixels = layer.input_shape[1:-1]
    sizes = pixels if "Global" in kind else layer.pool_size
    padded = "Global" not in kind and layer.padding == "same" and any(n % s for n, s in zip(pixels, sizes, strict=True))
    count = prod(sizes)
    return count & (count - 1) == 0 and not padded  # at a padded border fewer pixels are counted


def _readers(model: Any, layer: Any) -> list[Any]:
    """The layers that compute with this one's output; [None] where it is the model's output."""
    if any(layer.output is output for output in model.outputs):
        return [None]
    found = []
    for reader in model.layers:
        sources = reader.input if isinstance(reader.input, list) else [reader.input]
        if any(layer.output is source for source in sources):
            found += _readers(model, reader) if type(reader).__name__ in MOVING else [reader]
    return found
