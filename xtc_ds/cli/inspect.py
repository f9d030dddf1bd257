"""``xtc-ds inspect FILE_OR_FOLDER``: the tensors of a packed checkpoint, their formats and bytes."""

from __future__ import annotations

import argparse
import json

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what a packed checkpoint holds",
        description="Show the tensors of a packed checkpoint: format, bits per weight as stored, bytes.",
    )
    parser.add_argument("folder", metavar="FILE_OR_FOLDER", help="a folder written by xtc_ds, or a file in it")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return 0."""
    from xtc_ds.checkpoint.inspection import inspect_folder
    from xtc_ds.checkpoint.inspection_table import inspection_table
    from xtc_ds.cli.console import wide_console

    report = inspect_folder(arguments.folder)
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        wide_console().print(inspection_table(report))
    return 0
