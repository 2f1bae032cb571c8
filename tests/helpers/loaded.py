"""Loaded once, by the process from which `forked.py` forks."""

import hw.report.step
import hw.sizing
import hw.tables  # noqa: F401
from hw import cli  # noqa: F401
from qmodels.runtime import runtime

runtime()
