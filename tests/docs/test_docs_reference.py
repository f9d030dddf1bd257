"""The reference pages name everything that is public, and are generated from the code."""

from __future__ import annotations

import re

import xtc_ds
import xtc_ds.atomic
import xtc_ds.distributed
import xtc_ds.errors
import xtc_ds.launcher
from tests.docs.pages import ROOT
from tools.command_reference import PAGE, command_reference

# Public modules beside the names of the package itself.
ROOMS = (xtc_ds.atomic, xtc_ds.distributed, xtc_ds.launcher)


def test_every_public_name_has_its_entry() -> None:
    entries = set(re.findall(r"^::: xtc_ds\.([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M))
    errors = {f"errors.{name}" for name in xtc_ds.errors.__all__ if name.endswith("Error") and name != "XtcError"}
    rooms = {f"{room.__name__.removeprefix('xtc_ds.')}.{name}" for room in ROOMS for name in room.__all__}
    assert entries == set(xtc_ds.__all__) | errors | rooms


def test_every_public_name_has_a_docstring() -> None:
    for room in (xtc_ds, *ROOMS):
        assert [name for name in room.__all__ if not (getattr(room, name).__doc__ or "").strip()] == []


def test_the_command_line_page_is_what_the_parsers_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == command_reference(), "run python tools/command_reference.py"
