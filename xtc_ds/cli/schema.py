"""``xtc-ds schema``: prints the JSON Schema of the block, or its keys as a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from xtc_ds import config
from xtc_ds.config.schema_file import walk_properties

__all__ = ["key_table", "register", "run"]


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
    """Print the schema or the table; always 0."""
    if arguments.markdown:
        print("\n".join(key_table()))
    else:
        print(json.dumps(config.schema(), indent=2, ensure_ascii=False))
    return 0


def key_table() -> Iterator[str]:
    """A section with a table of its keys for every technique."""
    section = None
    for path, node in walk_properties():
        head, _, rest = path.partition(".")
        if head != section:
            section = head
            yield from ("", f"## `{head}`", "", str(node["description"]), "")
            yield from ("| key | type | default | meaning |", "|---|---|---|---|")
        if rest and "properties" not in node and not rest.endswith("different_groups"):
            default = f"`{json.dumps(node['default'])}`" if "default" in node else ""
            meaning = str(node["description"]).replace("|", "\\|")
            yield f"| `{rest}` | {_type(node)} | {default} | {meaning} |"


def _type(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{json.dumps(value)}`" for value in node["enum"])
    kinds = node.get("type", "")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
