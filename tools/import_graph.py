"""The import graph of the package, read from its source: ``from a import b`` anywhere in a file, functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "xtc_ds"


@dataclass(frozen=True)
class Import:
    """One module imports another. typing_only: under ``if TYPE_CHECKING``, so that it is never executed."""

    source: str
    target: str
    line: int
    typing_only: bool


def package_modules(root: Path) -> dict[str, Path]:
    """Dotted module name to file, of the package in the folder ``root``."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def read_imports(modules: Mapping[str, Path]) -> list[Import]:
    """All imports between modules of the package."""
    found = []
    for name, file in modules.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        typing_only = {id(node) for block in _typing_blocks(tree) for node in ast.walk(block)}
        for node in ast.walk(tree):
            for target in dict.fromkeys(_targets(node, modules)):
                found.append(Import(name, target, node.lineno, id(node) in typing_only))  # type: ignore[attr-defined]
    return found


def circles(imports: list[Import]) -> list[list[str]]:
    """Groups of modules that import each other, directly or around; an import for typing alone closes no circle."""
    graph: dict[str, set[str]] = {}
    for each in imports:
        if not each.typing_only:
            graph.setdefault(each.source, set()).add(each.target)
    reached = {name: _reachable(name, graph) for name in graph}
    groups = {frozenset(other for other in reached[name] if name in reached.get(other, ())) for name in graph}
    return sorted(sorted(group) for group in groups if group)


def without_implied(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows of a graph without circles that no way of several other arrows stands for."""
    graph: dict[str, set[str]] = {}
    for source, target in arrows:
        graph.setdefault(source, set()).add(target)
    reached = {name: _reachable(name, graph) for name in graph}
    return {
        (source, target)
        for source, target in arrows
        if not any(target in reached.get(between, ()) for between in graph[source] - {target})
    }


def _reachable(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _typing_blocks(tree: ast.Module) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield node


def _targets(node: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            if submodule in modules or node.module in modules:
                yield submodule if submodule in modules else node.module
