"""All problems of a block at once: its JSON types, its shape, and what its keys mean together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from xtc_ds.config.locate import Path, document_order, render_path
from xtc_ds.config.messages import to_findings
from xtc_ds.config.plain import Finding, to_plain
from xtc_ds.config.schema_file import schema
from xtc_ds.config.semantic import check_meaning
from xtc_ds.config.structured import without_disabled
from xtc_ds.errors import Problem

__all__ = ["check_block", "check_plain"]


def check_block(block: object) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings of the value of ``compression_training``, in the order of the document.

    Accepts any Python value and never raises for one.
    """
    _, errors, warnings = check_plain(block)
    return errors, warnings


def check_plain(block: object) -> tuple[dict[str, Any], list[Problem], list[Problem]]:
    """As :func:`check_block`, with a plain deep copy of the block in front."""
    plain, findings = to_plain(block)
    not_json = [path for path, _ in findings]
    read = without_disabled(plain)
    findings += _reduce(finding for finding in _schema_findings(read) if not _under(finding[0], not_json))
    if not isinstance(plain, dict):
        return {}, _problems(plain, findings), []
    faulty = [path for path, _ in findings]
    errors, warnings = check_meaning(read, faulty)
    return plain, _problems(plain, findings + errors), _problems(plain, warnings)


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def _schema_findings(plain: Any) -> Iterable[Finding]:
    for error in _validator().iter_errors(plain):
        yield from to_findings(error)


def _reduce(findings: Iterable[Finding]) -> list[Finding]:
    """One finding per place, the wrong type before all others; no "missing" for a key that was only misspelt."""
    first: dict[Path, str] = {}
    for path, message in findings:
        if path not in first or message.startswith("wrong type"):
            first[path] = message
    misspelt = {
        (*path[:-1], message.rpartition("did you mean '")[2].removesuffix("'?"))
        for path, message in first.items()
        if message.startswith("unknown key") and "did you mean '" in message
    }
    return [
        (path, message) for path, message in first.items() if not (message.startswith("missing") and path in misspelt)
    ]


def _under(path: Path, roots: list[Path]) -> bool:
    return any(path[: len(root)] == root for root in roots)


def _problems(plain: Any, findings: Iterable[Finding]) -> list[Problem]:
    unique = dict.fromkeys(findings)
    ordered = sorted(unique, key=lambda finding: document_order(plain, finding[0]))
    return [Problem(render_path(path), message) for path, message in ordered]
