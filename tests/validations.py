"""Counting how often blocks are validated."""

from __future__ import annotations

import pytest

from xtc_ds.config import load, validate

__all__ = ["count_validations"]


def count_validations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that gets every block that is validated from now on."""
    seen: list[object] = []
    examine = validate.examine

    def counted(block: object) -> validate.Checked:
        seen.append(block)
        return examine(block)

    for module in (load, validate):
        monkeypatch.setattr(module, "examine", counted)
    return seen
