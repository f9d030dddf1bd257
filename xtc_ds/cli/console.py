"""The console on which tables are printed."""

from __future__ import annotations

from rich.console import Console

__all__ = ["wide_console"]

_PIPE_WIDTH = 140


def wide_console() -> Console:
    """A console as wide as the terminal, or 140 columns wide if the output goes to a file or pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)
