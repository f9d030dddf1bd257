"""Draws the map of rooms in docs/architecture.md from the imports: ``python tools/architecture.py``.

With ``--check`` it changes nothing and fails where two modules import each other, a room imports one that is not on a
floor below it, a technique imports another one, or the page is not up to date or names a file that is not there.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from import_graph import PACKAGE, Import, circles, package_modules, read_imports, without_implied

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- map: written by tools/architecture.py -->", "<!-- end of the map -->"

# From the ground up. A room is a folder or a file of the package; it imports only from floors below its own.
PUBLIC = "__init__"
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "atomic", "clone", "origins", "zero"),
    ("extensions", "distributed"),
    ("format_choices",),
    ("formats",),
    ("storage", "layer_kinds"),
    ("config", "kernels"),
    ("plan",),
    ("compression_state", "layers", "distillation"),
    ("runtime",),
    ("techniques",),
    ("rewrite",),
    ("freezing",),
    ("checkpoint",),
    ("engines", "engine"),
    ("compat", "bench"),
    ("integrations",),
    (PUBLIC,),
    ("launcher",),
    ("cli",),
)
# What the techniques have in common; each other one knows its own folder only.
SHARED_BY_TECHNIQUES = {"base", "registry", "common_keys", "pruning"}
_FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    """The room in which a module lies."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else PUBLIC


def problems(imports: list[Import], modules: Iterable[str]) -> list[str]:
    """What breaks the rules of the house, one line each."""
    found = [f"no floor is named for the room '{room}'" for room in sorted({room_of(m) for m in modules} - set(_FLOOR))]
    found += [f"these modules import each other: {', '.join(circle)}" for circle in circles(imports)]
    for each in imports:
        source, target = room_of(each.source), room_of(each.target)
        if source != target and _FLOOR.get(target, 0) >= _FLOOR.get(source, len(FLOORS)):
            found.append(f"{each.source}:{each.line} imports {each.target}, which is not on a floor below")
        if len({_technique(each.source), _technique(each.target)} - {None}) > 1:
            found.append(f"{each.source}:{each.line} imports {each.target}, but techniques do not know each other")
    return found


def missing_files(page: str) -> list[str]:
    """Files that the page names and that are not there."""
    named = sorted(set(re.findall(r"`((?:xtc_ds|tools)/[\w/.]*)`", page)))
    return [f"{PAGE.name} names {file}, which is not there" for file in named if not (ROOT / file).exists()]


def _technique(module: str) -> str | None:
    parts = module.split(".")
    own = parts[1:2] == ["techniques"] and len(parts) > 2 and parts[2] not in SHARED_BY_TECHNIQUES
    return parts[2] if own else None


def map_of_rooms(imports: list[Import], modules: dict[str, Path]) -> str:
    """The diagram and the table, in Markdown."""
    arrows = {(room_of(each.source), room_of(each.target)) for each in imports}
    arrows = {(source, target) for source, target in arrows if source != target}
    lines = ["```mermaid", "flowchart TD"]
    for floor in reversed(range(len(FLOORS))):
        rooms = "; ".join(f'{room}["{_title(room)}"]' for room in FLOORS[floor])
        lines += [f'  subgraph floor{floor}[" "]', "    direction LR", f"    {rooms}", "  end"]
    lines += [f"  {source} --> {target}" for source, target in sorted(without_implied(arrows))]
    lines += ["```", "", "| floor | room | what it does | imports from |", "| --- | --- | --- | --- |"]
    for floor in reversed(range(len(FLOORS))):
        for room in FLOORS[floor]:
            below = sorted((target for source, target in arrows if source == room), key=lambda t: (-_FLOOR[t], t))
            names = ", ".join(f"`{_title(target)}`" for target in below)
            lines.append(f"| {floor} | `{_title(room)}` | {_purpose(room, modules)} | {names} |")
    return "\n".join(lines)


def page_with(text: str, page: str) -> str:
    """``page`` with ``text`` between the markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def _title(room: str) -> str:
    return PACKAGE if room == PUBLIC else room


def _purpose(room: str, modules: dict[str, Path]) -> str:
    file = modules[PACKAGE if room == PUBLIC else f"{PACKAGE}.{room}"]
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|").replace("``", "`")


def main() -> int:
    """Write the page, or with ``--check`` print what is wrong and return 1 if anything is."""
    modules = package_modules(ROOT)
    imports = read_imports(modules)
    gone = sorted(set(_FLOOR) - {room_of(module) for module in modules})
    found = [f"FLOORS names the room '{room}', which is not there" for room in gone] + problems(imports, modules)
    for problem in found:
        print(problem)
    if set(_FLOOR) != {room_of(module) for module in modules}:
        return 1  # a map of these rooms cannot be drawn
    old = PAGE.read_text(encoding="utf-8")
    new = page_with(map_of_rooms(imports, modules), old)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(new, encoding="utf-8")
        return int(bool(found))
    for missing in missing_files(new):
        found.append(missing)
        print(missing)
    if old != new:
        found.append("page")
        print(f"{PAGE.relative_to(ROOT)} is not up to date; run python tools/architecture.py")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
