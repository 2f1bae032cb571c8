"""The `robust-hls` command."""

from hw.cli.commands import main

__all__ = ["main"]
