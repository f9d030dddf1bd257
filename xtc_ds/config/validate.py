"""Find all problems of a block at once: JSON types, shape, and contradictions between keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.compression_config import CompressionConfig
from xtc_ds.config.json_value import Finding, to_json_value
from xtc_ds.config.locate import Path, document_order, render_path
from xtc_ds.config.messages import to_findings
from xtc_ds.config.schema import validator
from xtc_ds.config.section import sections
from xtc_ds.errors import ConfigError, Problem

__all__ = ["Checked", "check_block", "examine", "parse_block"]


@dataclass(frozen=True)
class Checked:
    """The result of validating a block: its JSON, and the problems in the order of the document."""

    block: dict[str, Any]
    errors: list[Problem]
    warnings: list[Problem]

    def parsed(self) -> CompressionConfig:
        """The block as dataclasses; requires a block without errors."""
        assert not self.errors
        found = {section.name: section.read(self.block.get(section.name, {})) for section in sections()}
        return CompressionConfig(parsed=found, warnings=tuple(self.warnings), raw=self.block)


def parse_block(block: Mapping[str, Any]) -> CompressionConfig:
    """Turn the value of ``compression_training`` into a :class:`CompressionConfig`.

    Raises :class:`~xtc_ds.errors.ConfigError` that lists every problem of the block at once.
    ``block`` itself is not changed and not kept.
    """
    checked = examine(block)
    if checked.errors:
        raise ConfigError(checked.errors)
    return checked.parsed()


def check_block(block: object) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings of the value of ``compression_training``, in the order of the document.

    Accepts any Python value and never raises for one.
    """
    checked = examine(block)
    return checked.errors, checked.warnings


def examine(block: object) -> Checked:
    """Validate the value of ``compression_training``, which may be any Python value and is not changed."""
    given, findings = to_json_value(block)
    read = given
    if isinstance(given, dict):
        known = {section.name: section for section in sections()}
        read = {name: known[name].as_read(value) if name in known else value for name, value in given.items()}
    not_json = [path for path, _ in findings]
    findings += _reduce(finding for finding in _schema_findings(read) if not _under(finding[0], not_json))
    if not isinstance(given, dict):
        return Checked({}, _problems(given, findings), [])
    errors, warnings = _check_meaning(read, [path for path, _ in findings])
    return Checked(given, _problems(given, findings + errors), _problems(given, warnings))


def _check_meaning(block: dict[str, Any], faulty: list[Path]) -> tuple[list[Finding], list[Finding]]:
    """(errors, warnings) about combinations of keys. Parts whose shape is wrong (``faulty``) are skipped."""

    def sound(*path: str | int) -> bool:
        return not any(place[: len(path)] == path or path[: len(place)] == place for place in faulty)

    errors: list[Finding] = []
    warnings: list[Finding] = []
    for section in sections():
        if section.name in block and sound(section.name, *(section.switch or ())):
            errors += section.errors(block[section.name], sound)
            warnings += section.warnings(block[section.name], sound)
    if not faulty:
        warnings += _switched_off(block)
    return errors, warnings


def _switched_off(block: dict[str, Any]) -> Iterator[Finding]:
    """Warnings for sections that are off only because ``enabled`` is missing, and for blocks in which all are off."""
    for section in sections():
        holder, path = block.get(section.name, {}), (section.name, *(section.switch or ()))
        for part in section.switch or ():
            holder = holder.get(part, {})
        if section.switch is not None and block.get(section.name) and "enabled" not in holder:
            yield path, 'the technique stays off, because "enabled" is missing; write "enabled": true to switch it on'
    if not any(section.enabled(block.get(section.name)) for section in sections()):
        yield (), "nothing is enabled: the model stays as it is"


def _schema_findings(block: Any) -> Iterable[Finding]:
    for error in validator().iter_errors(block):
        yield from to_findings(error)


def _reduce(findings: Iterable[Finding]) -> list[Finding]:
    """One finding per place, wrong types first; drops "missing" findings for keys that are only misspelt."""
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


def _problems(block: Any, findings: Iterable[Finding]) -> list[Problem]:
    unique = dict.fromkeys(findings)
    ordered = sorted(unique, key=lambda finding: document_order(block, finding[0]))
    return [Problem(render_path(path), message) for path, message in ordered]
