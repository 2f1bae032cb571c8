"""What a certificate says of every input, and the numbers that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ball import Epsilon, Norm
from qmodels.grid import Codes
from qmodels.statistics import wilson

#: Of one input. certified: nothing in the ball is decided wrongly, proved in integers. broken: an input in the ball is,
#: and here it is. unknown: neither was found.
Verdict = Literal["certified", "broken", "unknown"]
#: What decided an input, from cheap to dear. clean: it is decided wrongly as it is.
Method = Literal["clean", "intervals", "attack", "relaxation", "enumeration", "search", "none"]


@dataclass(frozen=True, eq=False)
class Certificate:
    """The verdict on each of N inputs. `print` gives one line.

    Args:
        verdicts: (N,) of `Verdict`.
        methods: (N,) of `Method`.
        examples: codes (N, ...): of a broken input, one in the ball that is decided wrongly; else the input itself.
        epsilon: radius in grid steps.
        norm: of the ball.
        seconds: (N,) spent on each input.
        complete: whether the search was asked for.
    """

    verdicts: NDArray[np.str_]
    methods: NDArray[np.str_]
    examples: Codes
    epsilon: Epsilon
    norm: Norm
    seconds: NDArray[np.float64]
    complete: bool = False

    def __len__(self) -> int:
        return len(self.verdicts)

    @property
    def certified(self) -> NDArray[np.bool_]:
        """(N,) no input in the ball is decided wrongly."""
        return np.asarray(self.verdicts == "certified")

    @property
    def broken(self) -> NDArray[np.bool_]:
        """(N,) some input in the ball is decided wrongly."""
        return np.asarray(self.verdicts == "broken")

    @property
    def decided(self) -> NDArray[np.bool_]:
        """(N,) certified or broken."""
        return self.certified | self.broken

    @property
    def accuracy(self) -> float:
        """Certified accuracy: no attack within the ball can bring the accuracy on these inputs below it."""
        return float(self.certified.mean()) if len(self) else 0.0

    @property
    def ceiling(self) -> float:
        """Share of inputs that are not broken: some attack brings the accuracy down to it."""
        return float(1 - self.broken.mean()) if len(self) else 1.0

    def __str__(self) -> str:
        low, high = wilson(int(self.certified.sum()), len(self))
        broken, unknown = (f"{part.mean():.1%}" for part in (self.broken, ~self.decided))
        return (
            f"{self.norm} {float(np.max(self.epsilon)):g} steps: certified {self.accuracy:.1%} "
            f"[{low:.1%}, {high:.1%}] of {len(self)} inputs, broken {broken}, unknown {unknown}, "
            f"{self.seconds.sum():.1f} s"
        )
