"""The keys of the block as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from xtc_ds.config.schema import walk_properties

__all__ = ["key_table"]


def key_table(names: Collection[str] | None = None) -> Iterator[str]:
    """A heading and a table of its keys for every section, or for those of ``names``, line by line."""
    section = None
    for path, node in walk_properties():
        head, _, rest = path.partition(".")
        if names is not None and head not in names:
            continue
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
