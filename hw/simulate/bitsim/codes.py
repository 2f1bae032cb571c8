"""Every number that means the same in Python and in the kernels. The C++ side is made from these classes (kernels/)."""

from __future__ import annotations

from enum import IntEnum


class Opcode(IntEnum):
    """The operations of an encoded program: a class of the kernels each."""

    INPUT = 0
    OUTPUT = 1
    FAST_LINEAR = 2
    EXACT_LINEAR = 3
    MAP = 4
    BINARY = 5
    POOL = 6
    FAST_MAX_POOL = 7
    GATHER = 8
    SOFTMAX = 9
    FAST_ADD = 10


class StepCode(IntEnum):
    """The machine steps that recipes are compiled to (kernels/steps.h)."""

    SHR = 0
    SHL = 1
    WRAP = 2
    CLAMP = 3
    SAT_ZERO = 4
    WRAP_SM = 5
    ADD_CONST = 6
    MUL_CONST = 7
    ADD_PARAM = 8
    MUL_PARAM = 9
    LUT = 10
    DIV_CONST = 11
    SAVE = 12
    SWAP = 13
    SELECT = 14


class RoundMode(IntEnum):
    """`ap_q_mode`, by the names of `qmodels.formats.Rounding`."""

    TRN = 0
    TRN_ZERO = 1
    RND = 2
    RND_ZERO = 3
    RND_INF = 4
    RND_MIN_INF = 5
    RND_CONV = 6


class OverflowMode(IntEnum):
    """`ap_o_mode`, by the names of `qmodels.formats.Overflow`."""

    WRAP = 0
    SAT = 1
    SAT_ZERO = 2
    SAT_SYM = 3
    WRAP_SM = 4


class Storage(IntEnum):
    """Element types of the values between layers."""

    U8 = 0
    I16 = 1
    I32 = 2
    I64 = 3
    U64 = 4
    U16 = 5


class Word(IntEnum):
    """The machine integers that steps compute in."""

    W32 = 0
    W64 = 1
    W128 = 2


class LinearKernel(IntEnum):
    """The kernels of dense layers and convolutions: kernels/exact.h; pairs.h, quads.h, tiles.h for the others.

    Machines with a dot product of four bytes (quads.h) have int32 sums in all kernels of bytes.
    """

    INT16 = 0  # int16 data and weights, int32 sums
    UINT16 = 4  # the same for uint16 data, read as int16 from 2^15 below; the bias has 2^15 times the weights' sum
    INT8 = 1  # uint8 data, int8 weights, int16 sums
    INT8_CHUNKED = 2  # the same, int16 sums over short stretches added up in int32
    INT8_WIDE = 5  # the same where two products may exceed int16; quads.h only
    EXACT = 3


class Merge(IntEnum):
    """How two values meet."""

    ADD = 0
    SUBTRACT = 1
    MULTIPLY = 2
    MAXIMUM = 3
    MINIMUM = 4


class SoftmaxKind(IntEnum):
    """hls4ml's implementations of softmax."""

    LATENCY = 0
    STABLE = 1
    LEGACY = 2
    ARGMAX = 3


class Element(IntEnum):
    """Element types of the user's arrays, by NumPy's names."""

    FLOAT32 = 0
    FLOAT64 = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6


class Status(IntEnum):
    """What a run of a program returns."""

    DONE = 0
    NO_MEMORY = 1
    OUT_OF_BOUNDS = 2  # an input left the bounds, and there was no other program


SHARED: tuple[type[IntEnum], ...] = (
    Opcode,
    StepCode,
    RoundMode,
    OverflowMode,
    Storage,
    Word,
    LinearKernel,
    Merge,
    SoftmaxKind,
    Element,
    Status,
)
