"""The published tables, reproduced: `robust-hls tables NAME` is `make_tables()`.

Every row is an ordinary run; trainings, the attacker's own model and examples that rows share are made once.
"""

from __future__ import annotations

from hw.tables.config import TablesConfig, load_tables
from hw.tables.export import show
from hw.tables.run import TablesOptions, make_tables

__all__ = ["TablesConfig", "TablesOptions", "load_tables", "make_tables", "show"]
