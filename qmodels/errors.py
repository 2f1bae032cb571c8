"""What can go wrong, and the exit status that says so.

0 done, 2 your input is wrong, 3 a tool is missing, 4 the exactness gate failed or a simulation crashed,
1 a defect of ours.
"""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Sequence

#: What reading a truncated, damaged or encrypted zip archive may raise besides OSError and ValueError.
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, MemoryError)


class RobustHlsError(Exception):
    """An expected failure: shown as one message, never as a traceback."""

    exit_status = 1


class UserError(RobustHlsError):
    """Your input is wrong. The message says what, where, what is allowed and how to mend it."""

    exit_status = 2


class ToolMissing(RobustHlsError):
    """A program we need is missing or failing. The message names it and how to install it."""

    exit_status = 3


class ExactnessError(RobustHlsError):
    """Two simulators of the same accelerator differ in at least one bit."""

    exit_status = 4


class Contradiction(RobustHlsError):
    """An input is certified, and an attack has broken it: a defect of ours."""

    exit_status = 4


class SimulationFailed(RobustHlsError):
    """Generated C++ crashed, ended its process, or hangs: there is nothing to compare."""

    exit_status = 4


def allowed_names(given: str, allowed: Sequence[str], *also: str) -> str:
    """How a message about a wrong name ends: the nearest right one, and all of them.

    Args:
        given: what you wrote.
        allowed: the names that exist.
        also: what else may be written, in words.
    """
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5)
    return (f"; did you mean {near[0]!r}?" if near else "") + f" (allowed: {', '.join([*allowed, *also])})"
