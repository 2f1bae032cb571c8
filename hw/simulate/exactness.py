"""The exactness gate: two simulators of one accelerator agree on every bit, or the run stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import ExactnessError
from qmodels.grid import IMAGE_GRID, Codes, InputGrid, Values
from qmodels.victims import Logits, Victim

Trace = Callable[[Codes], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Exactness:
    """What was compared. A mismatch never gets here: it stops the run."""

    reference: str
    candidate: str
    inputs: int
    adversarial_inputs: int
    mismatched_outputs: int = 0


@dataclass(frozen=True)
class Known:
    """A victim's logits on images that are compared more than once, as a victim."""

    name: str
    outputs: Logits
    grid: InputGrid = IMAGE_GRID

    def logits(self, x: Codes) -> Logits:
        """The noted outputs, whatever `x`."""
        return self.outputs


def probe_inputs(grid: InputGrid, clean: Codes, random: int, seed: int) -> Codes:
    """Clean, random and, last, `grid.EXTREMES` extreme device inputs: see `InputGrid.extremes`."""
    rng, shape = np.random.default_rng(seed), tuple(clean.shape[1:])
    parts = [grid.random(random, shape, rng), grid.random_ends(random, shape, rng), grid.extremes(shape)]
    return np.concatenate([clean, *parts])


def require_exact(
    reference: Victim,
    candidate: Victim,
    x: Codes,
    *,
    adversarial: int = 0,
    traces: tuple[Trace, Trace] | None = None,
) -> Exactness:
    """Compare two victims' logits on `x`, bit for bit.

    Args:
        reference: the judge.
        candidate: who must give the same bits.
        x: codes of device inputs (N, ...).
        adversarial: how many of them are adversarial examples (for the record).
        traces: every layer's output in both, by layer name; names the first layer that differs.

    Raises:
        ExactnessError: at least one bit differs; counts, the first five cases and the first differing layer are told.
    """
    expected, got = reference.logits(x), candidate.logits(x)
    differs = expected != got
    if not differs.any():
        return Exactness(reference.name, candidate.name, len(x), adversarial)
    samples = np.flatnonzero(differs.any(axis=1))
    cases = [
        f"  input {sample}, class {output}: {reference.name} {expected[sample, output]!r}, "
        f"{candidate.name} {got[sample, output]!r}"
        for sample, output in np.argwhere(differs)[:5]
    ]
    where = first_difference(traces[0](x[samples[:1]]), traces[1](x[samples[:1]])) if traces else None
    raise ExactnessError(
        f"{candidate.name} differs from {reference.name} in {differs.sum()} of {differs.size} outputs "
        f"({len(samples)} of {len(x)} inputs):\n" + "\n".join(cases) + (f"\n{where}" if where else "")
    )


def first_difference(reference: dict[str, NDArray[Any]], candidate: dict[str, NDArray[Any]]) -> str:
    """The first layer both know in which the traces differ, with the first element that does."""
    for layer, expected in reference.items():
        if layer not in candidate:
            continue
        got = np.asarray(candidate[layer]).reshape(expected.shape)
        differs = np.argwhere(got != expected)
        if len(differs):
            at = tuple(int(i) for i in differs[0])
            return (
                f"first layer that differs: {layer!r}, {len(differs)} of {expected.size} elements, "
                f"first at {at}: {expected[at]!r} against {got[at]!r}"
            )
    return "no traced layer differs: the difference is in the output stage"


def keras_trace(model: Any, x: Values) -> dict[str, NDArray[Any]]:
    """Every layer's output of a Keras model, by layer name, in order."""
    from qmodels.runtime import runtime

    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    outputs = runtime().keras.Model(model.input, [layer.output for layer in layers])(x, training=False)
    return {layer.name: output.numpy() for layer, output in zip(layers, outputs, strict=True)}
