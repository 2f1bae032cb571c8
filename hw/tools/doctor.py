"""What your machine has of what we need."""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from hw.tools.cache import CACHE_VARIABLE, cache_root, check_cache
from hw.tools.toolchain import GXX, TOOLS, check_gxx, find_tool, tool_version
from qmodels.errors import RobustHlsError, ToolMissing, UserError

PACKAGES = ("hls4ml", "tensorflow", "tf-keras", "qkeras", "numpy", "scipy", "matplotlib")
#: Packages that you need only for what they do, and how you get them.
EXTRAS = {"alkaid": "writes Verilog (robust-hls rtl); pip install 'robust-hls[rtl]'"}


def diagnose() -> int:
    """Print tools and packages; the exit status is 3 when something needed is missing."""
    console = Console()
    how = Column("version, or how you get it", overflow="fold")  # an address cut off leads nowhere
    table = Table("tool", "found", how, title="Tools (you need g++; each other one only for what it does)")
    for tool in TOOLS:
        path = find_tool(tool)
        hint = tool_version(tool) if path else f"{tool.purpose}; {tool.install}; or set {tool.variable}"
        table.add_row(tool.command, str(path) if path else "missing", escape(hint))
    console.print(table)
    packages = Table("package", "version", title=f"Packages (Python {sys.version.split()[0]})")
    missing = [name for name in PACKAGES if _version(name) is None]
    for name in PACKAGES:
        packages.add_row(name, _version(name) or f"missing: pip install {name}")
    for name, hint in EXTRAS.items():
        packages.add_row(name, _version(name) or escape(f"missing: {hint}"))
    console.print(packages)
    with contextlib.suppress(UserError):
        console.print(f"Your cache: {cache_root()} (another one: set {CACHE_VARIABLE})", soft_wrap=True)
    lacking = [*missing, *([GXX.command] if find_tool(GXX) is None else [])]
    for check in (check_cache, *(() if GXX.command in lacking else (check_gxx,))):
        try:
            check()
        except RobustHlsError as error:
            console.print(escape(str(error)), soft_wrap=True, highlight=False)
            lacking.append("a g++ that works" if check is check_gxx else "a cache of your own")
    console.print(f"You still need: {', '.join(lacking)}" if lacking else "You have all that is needed.")
    return ToolMissing.exit_status if lacking else 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
