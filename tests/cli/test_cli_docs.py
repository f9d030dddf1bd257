"""The documentation of the keys is the schema."""

from __future__ import annotations

from pathlib import Path

from xtc_ds.cli.schema import key_table

ROOT = Path(__file__).parents[2]


def test_docs_config_holds_the_table_that_the_schema_prints() -> None:
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert text.endswith("\n".join(key_table()) + "\n"), "paste what `xtc-ds schema --markdown` prints"
