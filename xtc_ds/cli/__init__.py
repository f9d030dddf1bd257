"""The command line ``xtc-ds``: one module per sub-command, combined in ``main``."""

from __future__ import annotations

__all__: list[str] = []
