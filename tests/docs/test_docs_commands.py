"""Every command and program in README and docs is run, or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.folders import SETUPS, TRAINING, prepare, run
from tests.docs.pages import PAGES, PROGRAMS, ROOT, Block, blocks, indented_blocks


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_program_is_run_or_says_why_not(page: Path) -> None:
    silent = [b.place for b in blocks(page) if b.language in PROGRAMS and not b.is_explained]
    assert not silent, "put <!-- run -->, <!-- not run: why --> or <!-- run by tests/... --> before these blocks"
    assert not indented_blocks(page), "write code blocks with ``` and a language"


def test_a_page_without_marks_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```bash\nls\n```\n\n<!-- not run: slow -->\n```bash\nls\n```\n\n    indented\n")
    first, second = blocks(page)
    assert not first.is_explained
    assert second.is_explained and not second.is_run
    assert indented_blocks(page) == [12]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.is_run for b in blocks(page))], ids=_name)
def test_the_programs_of_a_page_run(page: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.code)
        if block.is_run:
            _run(block, tmp_path)


def _run(block: Block, folder: Path) -> None:
    options = dict(block.options)
    setup, expected = options.pop("setup", None), int(options.pop("fails", "0"))
    if setup is not None:
        SETUPS[setup](folder)
    code = block.code
    for old, new in options.items():
        assert old in code, f"{block.place}: '{old}' is not in the block"
        code = code.replace(old, new)
    if block.language == "python":
        code = (TRAINING if setup == "training" else "") + code
        command = ["python", "-c", code]
    else:
        command = ["bash", "-euo", "pipefail", "-c", code]
    try:
        run(command, folder, expected)
    except AssertionError as error:
        raise AssertionError(f"{block.place}: {error}") from error
