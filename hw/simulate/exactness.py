"""The exactness gate: two simulators of one accelerator agree on every bit, or the run stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.simulate.explain import explain
from qmodels.errors import ExactnessError, UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.victims import Logits, Victim

Trace = Callable[[Codes], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Exactness:
    """What was compared, and how many outputs differed."""

    reference: str
    candidate: str
    inputs: int
    mismatched_outputs: int


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
    """Clean, random and, last, `EXTREMES` extreme device inputs: see `InputGrid.extremes`."""
    rng, shape = np.random.default_rng(seed), tuple(clean.shape[1:])
    parts = [grid.random(random, shape, rng), grid.random_ends(random, shape, rng), grid.extremes(shape)]
    return np.concatenate([clean, *parts])


def require_exact(
    reference: Victim,
    candidate: Victim,
    x: Codes,
    *,
    traces: tuple[Trace, Trace] | None = None,
    formats: Mapping[str, FixedPoint] | None = None,
    suspect: Callable[[str], str] | None = None,
) -> Exactness:
    """Compare two victims' logits on `x`, bit for bit.

    Args:
        reference: the judge.
        candidate: who must give the same bits.
        x: codes of device inputs (N, ...).
        traces: every layer's output in both, by layer name; names the first layer that differs.
        formats: the layers' number formats, told with the layer that differs.
        suspect: from the name of that layer to what probably makes it differ, which is told too.

    Raises:
        ExactnessError: at least one bit differs; counts, the first five cases and the first differing layer are told.
    """
    expected, got = reference.logits(x), candidate.logits(x)
    if expected.shape != got.shape:
        raise ExactnessError(
            f"{candidate.name} gives outputs of shape {got.shape}, {reference.name} of shape {expected.shape}"
        )
    differs = expected != got
    compared = Exactness(reference.name, candidate.name, len(x), int(np.count_nonzero(differs)))
    if compared.mismatched_outputs == 0:
        return compared
    samples = np.flatnonzero(differs.any(axis=1))
    cases = [
        f"  input {sample}, class {output}: {reference.name} {expected[sample, output]!r}, "
        f"{candidate.name} {got[sample, output]!r}"
        for sample, output in np.argwhere(differs)[:5]
    ]
    where = _first_layer(traces, x, int(samples[0]), formats, suspect) if traces else None
    raise ExactnessError(
        f"{candidate.name} differs from {reference.name} in {compared.mismatched_outputs} of {differs.size} outputs "
        f"({len(samples)} of {len(x)} inputs):\n" + "\n".join(cases) + (f"\n{where}" if where else "")
    )


def _first_layer(
    traces: tuple[Trace, Trace],
    x: Codes,
    sample: int,
    formats: Mapping[str, FixedPoint] | None,
    suspect: Callable[[str], str] | None,
) -> str:
    """Where the two begin to differ on one input, and why."""
    reference, candidate = (trace(x[sample : sample + 1]) for trace in traces)
    try:
        found = explain(reference, candidate, formats)
    except UserError as error:  # that two simulators differ must not be lost
        return f"no layer can be compared: {error}"
    if found is None:
        return "no traced layer differs: the difference is in the output stage"
    why = f"\n{suspect(found.layer)}" if suspect is not None else ""
    return str(replace(found, sample=sample)) + why
