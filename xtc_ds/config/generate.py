"""``python -m xtc_ds.config.generate``: regenerate ``schema.json`` and the tables of ``docs/config.md``.

With ``--check`` nothing is written; if a file is stale, it is named and the exit code is 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from xtc_ds.config.schema import assemble
from xtc_ds.config.section import sections
from xtc_ds.config.tables import key_table
from xtc_ds.extensions import BUILT_IN_TECHNIQUES

__all__ = ["SCHEMA_FILE", "docs_text", "main", "schema_text"]

SCHEMA_FILE = Path(__file__).with_name("schema.json")
DOCS_FILE = Path(__file__).parents[2] / "docs" / "config.md"
_BEGIN, _END = "<!-- keys: written by python -m xtc_ds.config.generate -->", "<!-- end of keys -->"


def schema_text() -> str:
    """The content of ``schema.json``: the schema of the built-in sections, regardless of installed extensions."""
    built_in = tuple(section for section in sections() if section.name in BUILT_IN_TECHNIQUES)
    return json.dumps(assemble(built_in), indent=2, ensure_ascii=False) + "\n"


def docs_text(text: str) -> str:
    """``text`` of ``docs/config.md`` with the tables between its two marks regenerated."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin and end, f"{DOCS_FILE} has lost its marks: {_BEGIN} and {_END}"
    tables = "\n".join(key_table(BUILT_IN_TECHNIQUES))
    return f"{before}{begin}\n{tables}\n\n{end}{after}"


def main(arguments: Sequence[str]) -> int:
    """Write, or check, both files; an installed package has no docs."""
    wanted = {SCHEMA_FILE: schema_text()}
    if DOCS_FILE.is_file():
        wanted[DOCS_FILE] = docs_text(DOCS_FILE.read_text(encoding="utf-8"))
    stale = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" not in arguments:
            path.write_text(wanted[path], encoding="utf-8")
        sys.stdout.write(f"{'stale' if '--check' in arguments else 'wrote'}: {path}\n")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
