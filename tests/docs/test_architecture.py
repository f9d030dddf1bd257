"""The script that draws the map of rooms finds what breaks the rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    import architecture

    yield architecture
    for name in ("architecture", "import_graph"):
        sys.modules.pop(name, None)


def broken(tools: Any, root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        file = root / "xtc_ds" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    modules = tools.package_modules(root)
    found: list[str] = tools.problems(tools.read_imports(modules), modules)
    return found


def test_an_arrow_up_is_found_also_in_a_function_and_for_typing_alone(tools: Any, tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "errors.py": "",
        "plan/__init__.py": "from xtc_ds.errors import X\ndef f():\n    from xtc_ds import rewrite\n",
        "layers/__init__.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from xtc_ds.rewrite import compress\n"
        ),
        "rewrite.py": "import xtc_ds.plan\n",
    }
    assert broken(tools, tmp_path, files) == [
        "these modules import each other: xtc_ds.plan, xtc_ds.rewrite",
        "xtc_ds.layers:3 imports xtc_ds.rewrite, which is not on a floor below",
        "xtc_ds.plan:3 imports xtc_ds.rewrite, which is not on a floor below",
    ]


def test_a_room_without_a_floor_and_techniques_that_know_each_other_are_found(tools: Any, tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "cellar.py": "",
        "techniques/__init__.py": "",
        "techniques/base.py": "",
        "techniques/one/plan.py": "from xtc_ds.techniques.base import Technique\n",
        "techniques/two/plan.py": "from xtc_ds.techniques.one.plan import Row\n",
    }
    assert broken(tools, tmp_path, files) == [
        "no floor is named for the room 'cellar'",
        "xtc_ds.techniques.two.plan:1 imports xtc_ds.techniques.one.plan, but techniques do not know each other",
    ]


def test_arrows_that_follow_from_others_are_not_drawn(tools: Any) -> None:
    arrows = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert tools.without_implied(arrows) == {("a", "b"), ("b", "c"), ("a", "d")}
