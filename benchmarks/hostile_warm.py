"""Loaded once, in the process from which the checks of `hostile.py` are forked: a start of their own costs seconds."""

import hw.experiment.preflight
import hw.report
import hw.sizing
import hw.tables  # noqa: F401
from hw import cli  # noqa: F401
from qmodels.runtime import runtime

runtime()
