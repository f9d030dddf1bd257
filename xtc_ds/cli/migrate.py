"""``xtc-ds migrate OLD [NEW]``: convert a config of DeepSpeed's own compression library to one for xtc_ds."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from xtc_ds.config import read_config
from xtc_ds.config.migrate import Note, check_placeholders, migrate_config, write_config
from xtc_ds.config.migrate.write import config_text
from xtc_ds.config.source import source_name

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "migrate",
        help="turn an old DeepSpeed compression config into one for xtc_ds",
        description=(
            "Turn a config of DeepSpeed's own compression library (up to 0.19.6), or of MoQ (quantize_training), into "
            "one that trains the same here, and say line by line what changes in meaning."
        ),
    )
    parser.add_argument("old", metavar="OLD", help="the old config (JSON or HJSON); it is not changed")
    parser.add_argument("new", metavar="NEW", nargs="?", help="the file to write; default: print the config to stdout")
    parser.add_argument("--no-kd", dest="kd", action="store_false", help="do not add the distillation block")
    parser.add_argument("--force", action="store_true", help="replace NEW if it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the notes (to stderr if the config goes to stdout), write or print the new config, and return 0."""
    text = _text(arguments.old)
    check_placeholders(text, source_name(arguments.old))
    found = migrate_config(read_config(arguments.old), skip=() if arguments.kd else ("kd",))
    if arguments.new is None:
        _print_notes(found.notes, text, to_stderr=True)
        print(config_text(found.config), end="")
        return 0
    write_config(found.config, arguments.new, arguments.old, arguments.force)
    _print_notes(found.notes, text, to_stderr=False)
    print(f"wrote {arguments.new}; next: xtc-ds plan {arguments.new} --model DIR_OR_ID")
    return 0


def _text(source: str) -> str:
    """The text of the config file; "{}" if there is no readable file, as for a base64-encoded config."""
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8-sig") if path.is_file() else "{}"
    except (OSError, ValueError):
        return "{}"


def _print_notes(notes: tuple[Note, ...], text: str, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    for note in notes:
        print("\n".join(note.lines()), file=stream)
    if not notes:
        print("nothing changes in meaning", file=stream)
    if not _is_json(text):
        print("the old config is HJSON; the new one is JSON, without its comments", file=stream)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
