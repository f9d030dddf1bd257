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
    parser.add_argument("--explain", action="store_true", help="also show what computes the layers on this machine")
    parser.add_argument("--device", metavar="NAME", help="of --explain: cpu or cuda; default: a GPU if there is one")
    parser.add_argument(
        "--runtime", default="packed", metavar="NAME", help="of --explain: packed, unpacked or fused; default: packed"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return 0."""
    from xtc_ds.checkpoint.explain import explain_folder
    from xtc_ds.checkpoint.explain_table import explain_table
    from xtc_ds.checkpoint.inspection import inspect_folder
    from xtc_ds.checkpoint.inspection_table import inspection_table
    from xtc_ds.cli.console import wide_console

    report = inspect_folder(arguments.folder)
    uses = explain_folder(arguments.folder, arguments.device, runtime=arguments.runtime) if arguments.explain else None
    if arguments.json:
        kernels = {} if uses is None else {"kernels": [use.to_dict() for use in uses]}
        print(json.dumps(report.to_dict() | kernels, indent=2))
        return 0
    console = wide_console()
    console.print(inspection_table(report))
    if uses is not None:
        console.print(explain_table(uses, arguments.runtime))
    return 0
