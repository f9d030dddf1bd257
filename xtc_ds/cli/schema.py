"""``xtc-ds schema``: print the JSON Schema of the block, or its keys as a table."""

from __future__ import annotations

import argparse
import json

from xtc_ds import config
from xtc_ds.config.tables import key_table

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of compression_training",
        description="Print the JSON Schema (draft 2020-12) of the value of compression_training.",
    )
    parser.add_argument("--markdown", action="store_true", help="print all keys as a Markdown table instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema or the table and return 0."""
    if arguments.markdown:
        print("\n".join(key_table()))
    else:
        print(json.dumps(config.schema(), indent=2, ensure_ascii=False))
    return 0
