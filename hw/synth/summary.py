"""What the stages told, on the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_HIDDEN = ("key", "tool", "seconds", "from")


def show_synthesis(record: dict[str, Any], say: Callable[[str], None]) -> None:
    """One line a stage."""
    for name, numbers in record["stages"].items():
        shown = ", ".join(f"{key} {_text(value)}" for key, value in numbers.items() if key not in _HIDDEN)
        say(f"{name}: {shown or 'done'}")


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
