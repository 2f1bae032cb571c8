"""FixedPoint: the one vocabulary for numbers, in Xilinx `ap_fixed` terms.

A format is `ap_[u]fixed<width, integer, rounding, overflow>`: `width` bits in all, `integer` of them left of
the binary point (the sign bit counts; may be negative or exceed `width`). A value is `raw * 2**-fraction`.

Source of the semantics: AMD UG1399, "C++ arbitrary precision fixed-point types", and the `ac_types`-free
headers that hls4ml ships (`hls4ml/templates/vivado/ap_types`).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rounding(str, Enum):
    """What happens to bits right of the least significant one."""

    TRN = "TRN"  # towards minus infinity (drop the bits)
    TRN_ZERO = "TRN_ZERO"  # towards zero
    RND = "RND"  # nearest, ties towards plus infinity
    RND_ZERO = "RND_ZERO"  # nearest, ties towards zero
    RND_INF = "RND_INF"  # nearest, ties away from zero
    RND_MIN_INF = "RND_MIN_INF"  # nearest, ties towards minus infinity
    RND_CONV = "RND_CONV"  # nearest, ties to even


class Overflow(str, Enum):
    """What happens to values beyond the range."""

    WRAP = "WRAP"  # keep the low bits
    SAT = "SAT"  # clamp
    SAT_ZERO = "SAT_ZERO"  # become zero
    SAT_SYM = "SAT_SYM"  # clamp to a range symmetric about zero
    WRAP_SM = "WRAP_SM"  # sign-magnitude wrap


#: Of raw integers: numpy's int64, with a bit to spare for differences.
MAX_RAW_BITS = 62
_PATTERN = re.compile(r"(?:ap_)?(u?)fixed<([1-9]\d*),(-?\d+)(?:,(?:AP_)?(\w+))?(?:,(?:AP_)?(\w+))?(?:,\d+)?>")


class FixedPoint(NamedTuple):
    """One fixed-point format. Its `str` is what hls4ml prints: `ufixed<6,2,RND_CONV,SAT>`."""

    width: int
    integer: int
    signed: bool = True
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP

    @property
    def fraction(self) -> int:
        """Number of fractional bits; a raw step is worth 2**-fraction."""
        return self.width - self.integer

    @property
    def lsb(self) -> float:
        """Value of the least significant bit."""
        return float(2.0**-self.fraction)

    @property
    def raw_min(self) -> int:
        """Smallest raw integer."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def raw_max(self) -> int:
        """Largest raw integer."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    @property
    def minimum(self) -> float:
        """Smallest value."""
        return self.raw_min * self.lsb

    @property
    def maximum(self) -> float:
        """Largest value."""
        return self.raw_max * self.lsb

    def __str__(self) -> str:
        sign = "" if self.signed else "u"
        return f"{sign}fixed<{self.width},{self.integer},{self.rounding.value},{self.overflow.value}>"

    @classmethod
    def parse(cls, text: str) -> FixedPoint:
        """Read `ap_ufixed<6,2,AP_RND_CONV,AP_SAT,0>` or `fixed<6,2>`; ValueError for anything else."""
        found = _PATTERN.fullmatch(text.replace(" ", ""))
        if found is None:
            raise ValueError(f"{text!r} is not a fixed-point type such as fixed<16,6,TRN,WRAP>")
        unsigned, width, integer, rounding, overflow = found.groups()
        return cls(int(width), int(integer), not unsigned, Rounding(rounding or "TRN"), Overflow(overflow or "WRAP"))

    @classmethod
    def from_hls4ml(cls, precision: Any) -> FixedPoint:
        """The format of an hls4ml precision object (`hls4ml/model/types.py`, integer and fixed types)."""
        return (
            cls.parse(str(precision))
            if "fixed" in str(precision)
            else cls(int(precision.width), int(precision.width), bool(precision.signed))
        )

    def to_raw(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Raw integers of values that lie exactly on this format's grid and in its range; else ValueError.

        So it is for raw integers of more than `MAX_RAW_BITS` bits.
        """
        scaled = np.ldexp(np.asarray(values, dtype=np.float64), self.fraction)  # 2**1024 is no float
        raw = np.rint(scaled)
        if not np.array_equal(raw, scaled) or raw.min(initial=0) < self.raw_min or raw.max(initial=0) > self.raw_max:
            raise ValueError(f"some values are not representable in {self}")
        if np.abs(raw).max(initial=0) >= 2.0**MAX_RAW_BITS:
            raise ValueError(f"some values are integers of more than {MAX_RAW_BITS} bits in {self}")
        return raw.astype(np.int64)
