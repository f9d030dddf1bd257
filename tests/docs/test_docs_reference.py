"""The reference pages name everything that is public, and are generated from the code."""

from __future__ import annotations

import re

import xtc_ds
import xtc_ds.distributed
import xtc_ds.errors
import xtc_ds.launcher
from tests.docs.pages import ROOT
from tools.command_reference import PAGE, command_reference


def test_every_public_name_has_its_entry() -> None:
    entries = set(re.findall(r"^::: xtc_ds\.([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M))
    errors = {f"errors.{name}" for name in xtc_ds.errors.__all__ if name.endswith("Error") and name != "XtcError"}
    rooms = {f"distributed.{name}" for name in xtc_ds.distributed.__all__}
    rooms |= {f"launcher.{name}" for name in xtc_ds.launcher.__all__}
    assert entries == set(xtc_ds.__all__) | errors | rooms


def test_every_public_name_has_a_docstring() -> None:
    for room in (xtc_ds, xtc_ds.distributed, xtc_ds.launcher):
        assert [name for name in room.__all__ if not (getattr(room, name).__doc__ or "").strip()] == []


def test_the_command_line_page_is_what_the_parsers_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == command_reference(), "run python tools/command_reference.py"
