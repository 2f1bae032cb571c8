"""Loaded once, in the process from which commands are forked (forked.py): a start of their own costs seconds."""

import hw.experiment.preflight
import hw.report
import hw.sizing.run
import hw.tables  # noqa: F401
from hw import cli  # noqa: F401
from qmodels.runtime import runtime

runtime()
