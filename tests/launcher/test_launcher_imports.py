"""The launcher uses the library as any user would: the public names and the public modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xtc_ds

FOLDER = Path(xtc_ds.__file__).parent / "launcher"
PUBLIC_MODULES = ("xtc_ds.atomic", "xtc_ds.distributed", "xtc_ds.errors")


def imported(file: Path) -> list[str]:
    """What a file imports of this project, dotted."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] == "xtc_ds"]


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: str(file.relative_to(FOLDER)))
def test_only_public_names_are_imported(file: Path) -> None:
    public = {"xtc_ds", *(f"xtc_ds.{name}" for name in xtc_ds.__all__)}
    allowed = ("xtc_ds.launcher", *PUBLIC_MODULES)
    assert [name for name in imported(file) if name not in public and not name.startswith(allowed)] == []


def test_mistakes_in_the_flags_are_told_before_torch_is_loaded() -> None:
    code = (
        "import sys, xtc_ds.launcher.arguments, xtc_ds.launcher.configs, xtc_ds.cli.main\n"
        "xtc_ds.launcher.get_task('sst2')\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
