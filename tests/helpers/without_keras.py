"""A pytest plugin: the tests of the parts that promise to need no Keras, where Keras cannot be imported.

PYTHONPATH=tests python -m pytest -p helpers.without_keras
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

#: What is not there.
FORBIDDEN = ("tensorflow", "tf_keras", "keras", "qkeras")
#: Below tests/: files and folders.
PARTS = (
    "qmodels/test_formats.py",
    "qmodels/test_grid.py",
    "qmodels/test_progress.py",
    "qmodels/data/test_sources.py",
    "qmodels/quantize/test_uniform.py",
    "qmodels/quantize/test_weights.py",
    "hw/experiment/test_config.py",
    "hw/experiment/test_made.py",
    "hw/generate/test_onnx_checks.py",
    "hw/report/test_answer.py",
    "hw/report/test_strength.py",
    "hw/rtl/test_arithmetic.py",
    "hw/simulate/bitsim/test_bitsim.py",
    "hw/simulate/bitsim/test_integer_codes.py",
    "hw/sizing/test_edited_store.py",
    "hw/sizing/test_modes.py",
    "hw/sizing/test_points.py",
    "hw/sizing/test_space.py",
    "hw/sizing/test_store.py",
    "hw/tables/test_tables_config.py",
    "hw/tools",
)


class Missing:
    """An import hook: these packages are not installed."""

    def __init__(self, *more: str) -> None:
        self.packages = (*FORBIDDEN, *more)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r} (forbidden by {__name__})", name=name)


def pytest_configure(config: Any) -> None:
    assert not set(FORBIDDEN) & set(sys.modules)
    sys.meta_path.insert(0, Missing())  # type: ignore[arg-type]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Only the parts' own tests."""
    wanted = [Path(__file__).parents[1] / part for part in PARTS]
    if collection_path.suffix != ".py" or any(collection_path.is_relative_to(part) for part in wanted):
        return None
    return True
