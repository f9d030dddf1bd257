"""Writes docs/cli.md from the argument parsers: ``python tools/command_reference.py`` (``--check`` only compares)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from xtc_ds.cli.main import build_parser

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
_INTRODUCTION = """# Command line

`xtc-ds COMMAND --help` prints the same. All commands return 0 on success, 1 after a problem that they report, and 2
for wrong usage. `--debug` shows the traceback of an error.
"""


def command_reference() -> str:
    """The whole page, one section for each command."""
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    purposes = {action.dest: action.help or "" for action in commands._choices_actions}
    sections = [_section(name, purposes[name], parser) for name, parser in commands.choices.items()]
    return "\n".join([_INTRODUCTION, *sections])


def _section(name: str, purpose: str, parser: argparse.ArgumentParser) -> str:
    text = parser.description or purpose
    rows = ["| argument | meaning |", "|---|---|", *_rows(parser)]
    return "\n".join([f"## `xtc-ds {name}`", "", f"{text[0].upper()}{text[1:].rstrip('.')}.", "", *rows, ""])


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        meaning = (action.help or "").replace("|", "\\|")
        yield f"| {_names(action)} | {meaning % {'default': action.default, 'prog': parser.prog}} |"


def _names(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        optional = action.nargs in ("?", "*")
        return f"`[{value}]`" if optional else f"`{value}`"
    takes_value = action.nargs != 0
    return ", ".join(f"`{name} {value}`" if takes_value else f"`{name}`" for name in action.option_strings)


def main() -> int:
    """Write the page, or with ``--check`` return 1 if it is not up to date."""
    text = command_reference()
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
