"""The home page of the site is README.md, so that the two cannot differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add index.md with the text of README.md; links into docs/ become links between pages."""
    text = (Path(config.docs_dir).parent / "README.md").read_text(encoding="utf-8")
    text = text.replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files
