"""Sizing: which bit-width is robust enough, and what it costs. `robust-hls size CONFIG` is `size()`.

A design point is an experiment with some dotted config keys set. Every point is trained (once for all that share a
training), mapped, quantized and swapped into a graph that hls4ml has converted; its exact bits are attacked on
validation images, and only designs that could be on a Pareto front see the whole worst case. The front is scored again
on test images, converted and gated.
"""

from typing import TYPE_CHECKING

from qmodels.lazy import lazy_names

if TYPE_CHECKING:
    from hw.sizing.config import SizingConfig, load_sizing
    from hw.sizing.run import OWN_MODEL, SizingOptions, own_model_settings, show, size

__all__ = ["OWN_MODEL", "SizingConfig", "SizingOptions", "load_sizing", "own_model_settings", "show", "size"]

# Workers of a crew import only what their jobs need.
__getattr__ = lazy_names(
    __name__,
    {
        "OWN_MODEL": "hw.sizing.run",
        "SizingConfig": "hw.sizing.config",
        "SizingOptions": "hw.sizing.run",
        "load_sizing": "hw.sizing.config",
        "own_model_settings": "hw.sizing.run",
        "show": "hw.sizing.run",
        "size": "hw.sizing.run",
    },
)
