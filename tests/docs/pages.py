"""The code blocks of the documentation, and what the comment before each of them says about running it.

A comment directly before a fenced block decides:

* ``<!-- run -->``: it is run. ``<!-- run: setup=NAME fails=1 old=new -->``: the folder is prepared by ``NAME`` of
  ``folders.py``, the exit code has to be 1, and each ``old`` in the block is replaced by ``new`` first (for instance a
  model that would need the network by a tiny local one).
* ``<!-- file: NAME -->``: it is saved under that name.
* ``<!-- not run: REASON -->``, ``<!-- run by TEST -->``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("CONTRIBUTING.md"))]
# Blocks in these languages are commands or programs; others (text, json, diff, mermaid) need no comment.
PROGRAMS = ("bash", "sh", "shell", "console", "python", "")
_FENCE = re.compile(
    r"(?:<!--\s*(?P<comment>[^\n]*?)\s*-->\n)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One fenced block. ``kind``: run, file, or not run. ``options``: of a run."""

    page: Path
    line: int
    language: str
    code: str
    comment: str | None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.comment is not None and re.match(r"run(:|$)", self.comment) is not None

    @property
    def file(self) -> str | None:
        return self.comment.removeprefix("file: ") if self.comment and self.comment.startswith("file: ") else None

    @property
    def is_explained(self) -> bool:
        known = ("not run: ", "run by tests/", "file: ")
        return self.is_run or (self.comment is not None and self.comment.startswith(known))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        comment = match["comment"]
        words = shlex.split(comment.partition(":")[2]) if comment and comment.startswith("run:") else []
        options = dict(word.split("=", 1) for word in words)
        line = text.count("\n", 0, match.start("language")) + 1
        yield Block(page, line, match["language"], match["code"], comment, options)


def indented_blocks(page: Path) -> list[int]:
    """Lines of code blocks by indentation, which carry no language and cannot be marked."""
    lines = re.sub(
        r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    found, before = [], ""
    for number, line in enumerate(lines.split("\n"), 1):
        in_list = re.match(r"\s*([*+-]|\d+\.) ", before)
        if line.startswith("    ") and line.strip() and not before.strip() and not in_list:
            found.append(number)
        before = line if line.strip() or not in_list else before
    return found
