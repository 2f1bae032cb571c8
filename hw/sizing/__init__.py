"""Sizing: which bit-width is robust enough, and what it costs. `robust-hls size CONFIG` is `size()`.

A design point is an experiment with some dotted config keys set. Every point is trained (once for all that share a
training), mapped, quantized and lowered by the flow's own steps; its exact bits are attacked on validation images, and
only designs near a Pareto front see the whole worst case. The front is scored again on test images and gated.
"""

from hw.sizing.config import SizingConfig, load_sizing
from hw.sizing.run import SizingOptions, show, size

__all__ = ["SizingConfig", "SizingOptions", "load_sizing", "show", "size"]
