"""The documentation of the keys is the schema."""

from __future__ import annotations

from pathlib import Path

from xtc_ds.config.generate import docs_text

ROOT = Path(__file__).parents[2]


def test_docs_config_holds_the_tables_that_the_schema_gives() -> None:
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert text == docs_text(text), "run python -m xtc_ds.config.generate"
    assert text.count("\n## `") == 10
